"""Losses that give every pixel of the young image encoder a gradient; their heads are thrown away.

Matching: a pixel finds its object by looking at the other frame, which is what memory attention will
have to do. Boundary: where one object ends.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.contracts import ImageFeatures
from sam2track.network.variants import Variant

TEMPERATURE = 0.07
CHANNELS = 32


class DenseHeads(nn.Module):
    """Projections of the encoder's maps on which the dense losses are taken."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        d = variant.width
        self.match_s8 = nn.Conv2d(d // 4, CHANNELS, kernel_size=1)
        self.match_s16 = nn.Conv2d(d, CHANNELS, kernel_size=1)
        self.boundary_s4 = nn.Conv2d(d // 8, 1, kernel_size=1)

    def forward(self, features: ImageFeatures, labels: Tensor, layers: int) -> Tensor:
        """Loss of ``features`` of B * T frames whose ``labels`` are [B, T, S, S], from 0 to ``layers``."""
        shares = F.one_hot(labels.long(), layers + 1).movedim(-1, 2).float()  # [B, T, K, S, S]
        loss = self._boundary(features.s4, labels)
        for head, maps in ((self.match_s8, features.s8), (self.match_s16, features.s16)):
            embedding = F.normalize(head(maps).float(), dim=1)
            share = F.adaptive_avg_pool2d(shares.flatten(0, 1), embedding.shape[-1])
            loss = loss + matching_loss(_by_clip(embedding, labels), _by_clip(share, labels))
        return loss

    def _boundary(self, s4: Tensor, labels: Tensor) -> Tensor:
        logits = self.boundary_s4(s4).float()[:, 0]
        masks = labels.flatten(0, 1).float()[:, None]
        edge = (F.max_pool2d(masks, 3, 1, 1) > masks) | (-F.max_pool2d(-masks, 3, 1, 1) < masks)
        target = F.adaptive_max_pool2d(edge.float(), logits.shape[-1])[:, 0]
        weight = torch.where(target > 0, 4.0, 1.0)
        return F.binary_cross_entropy_with_logits(logits, target, weight)


def _by_clip(maps: Tensor, labels: Tensor) -> Tensor:
    return maps.reshape(*labels.shape[:2], *maps.shape[1:])


def matching_loss(embedding: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy of labels carried from the first frame of each clip to every other by appearance.

    Args:
        embedding: unit vectors ``[B, T, C, h, w]``.
        share: how much of each cell each label has, ``[B, T, K, h, w]``, summing to 1 over K.
    """
    reference, known = embedding[:, 0].flatten(2), share[:, 0].flatten(2)  # [B, C, N], [B, K, N]
    loss = embedding.new_zeros(())
    for t in range(1, embedding.shape[1]):
        query, truth = embedding[:, t].flatten(2), share[:, t].flatten(2)
        attention = (query.transpose(1, 2) @ reference / TEMPERATURE).softmax(dim=2)  # [B, N, N]
        carried = (known @ attention.transpose(1, 2)).clamp_min(1e-4)  # [B, K, N]
        seen = (known.sum(dim=2) > 0).float()[..., None]  # labels the first frame does not show cannot be carried
        weight = truth * seen
        weight = weight / weight.sum(dim=2, keepdim=True).clamp_min(1.0)  # small objects count as much as large ones
        loss = loss - (weight * carried.log()).sum(dim=2).sum() / seen.sum().clamp_min(1)
    return loss / max(embedding.shape[1] - 1, 1)

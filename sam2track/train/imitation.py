"""Loss that has a young image encoder imitate the features of a pretrained network, for training only.

Masks teach little of what real texture looks like, least of all where no object is; a network that has seen a
million photographs gives every cell of every frame a target (FitNets, arXiv:1412.6550).
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.contracts import ImageFeatures
from sam2track.network.variants import Variant
from sam2track.train.teacher import TAPS, Teacher


class Imitation(nn.Module):
    """Heads that are thrown away after training; the teacher is no part of their state."""

    def __init__(self, variant: Variant, teacher: Teacher) -> None:
        super().__init__()
        d = variant.width
        self.heads = nn.ModuleList(
            nn.Conv2d(width, out, kernel_size=1) for width, out in zip((d // 4, d, d), TAPS.values(), strict=True)
        )
        for head in self.heads:  # from an error of 1 on: large ones would unlearn what the encoder knows
            nn.init.zeros_(cast(Tensor, head.weight))
        self._teacher = (teacher,)  # in a tuple, where no module looks for parameters

    def forward(self, features: ImageFeatures, frames: Tensor) -> Tensor:
        """Mean squared error of what ``features`` tell of the teacher's, about 1 when they tell nothing.

        ``frames`` are RGB ``[N, 3, S, S]`` in [0, 1].
        """
        wanted = self._teacher[0](frames)
        maps = features.s8, features.s16, F.avg_pool2d(features.s16, 2)
        loss = features.s16.new_zeros((), dtype=wanted[0].dtype)
        for head, ours, theirs in zip(self.heads, maps, wanted, strict=True):
            alike = F.layer_norm(ours.movedim(1, -1), ours.shape[1:2]).movedim(-1, 1)
            loss = loss + F.mse_loss(head(alike).float(), theirs)
        return loss / len(wanted)

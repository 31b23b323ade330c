"""Prompt encoder: clicks, box corners, earlier mask logits and mask prompts to embeddings.

SAM (arXiv:2304.02643, section 3 and appendix A), plus SAM 2's learned patch layer for mask prompts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.contracts import MASK_STRIDE, STRIDE, PromptEmbeddings
from sam2track.network.layers import LayerNorm2d, fourier_code

if TYPE_CHECKING:
    from sam2track.network.variants import Variant

LABELS = 5  # padding, not the object, object, top left corner, bottom right corner: label + 1 is the row


class PromptEncoder(nn.Module):
    """Prompts of B objects -> ``PromptEmbeddings``; one padding point is always appended."""

    frequencies: Tensor
    mask_weight: Tensor | None
    mask_bias: Tensor | None

    def __init__(self, variant: Variant, image_size: int) -> None:
        super().__init__()
        d = variant.width
        self.image_size = image_size
        self.register_buffer("mask_weight", None, persistent=False)
        self.register_buffer("mask_bias", None, persistent=False)
        self.register_buffer("frequencies", torch.randn(2, d // 2))
        self.labels = nn.ParameterList(torch.zeros(1, d) for _ in range(LABELS))
        self.no_mask = nn.Parameter(torch.zeros(1, d))
        self.mask_patch = nn.Conv2d(1, 1, kernel_size=MASK_STRIDE, stride=MASK_STRIDE)
        self.mask_layers = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, d, kernel_size=1),
        )

    def train(self, mode: bool = True) -> PromptEncoder:
        """Switch to training, or to inference with the patch layer folded into the layer that reads it."""
        super().train(mode)
        (self.mask_weight, self.mask_bias) = (None, None) if mode else _fold(self.mask_patch, self.mask_layers[0])
        return self

    def forward(
        self,
        xy: Tensor,
        label: Tensor,
        logits: Tensor | None = None,
        has_logits: Tensor | None = None,
        mask: Tensor | None = None,
        has_mask: Tensor | None = None,
    ) -> PromptEmbeddings:
        """Embed the prompts.

        Args:
            xy: ``[B, P, 2]`` pixels of the model image.
            label: ``[B, P]``: 1 object, 0 not the object, 2 and 3 box corners, -1 padding.
            logits: ``[B, 1, S/4, S/4]`` of an earlier mask, counted where ``has_logits`` [B] is 1; None: of no object.
            has_logits: see ``logits``.
            mask: ``[B, 1, S, S]`` mask prompt, 0 or 1, counted where ``has_mask`` [B] is 1; None: of no object.
            has_mask: see ``mask``.
        """
        return PromptEmbeddings(self._sparse(xy, label), self._dense(xy.shape[0], logits, has_logits, mask, has_mask))

    def _sparse(self, xy: Tensor, label: Tensor) -> Tensor:
        # A point is the centre of its pixel; the padding point's own code is masked out below.
        xy = torch.cat([xy + 0.5, torch.zeros_like(xy[:, :1])], dim=1) / self.image_size
        label = torch.cat([label, -torch.ones_like(label[:, :1])], dim=1)
        is_point = (label >= 0)[..., None].to(xy.dtype)
        rows = torch.cat(list(self.labels))[label.long() + 1]
        return fourier_code(xy, self.frequencies) * is_point + rows

    def _dense(
        self, batch: int, logits: Tensor | None, has_logits: Tensor | None, mask: Tensor | None, has_mask: Tensor | None
    ) -> Tensor:
        side = self.image_size // STRIDE
        dense = self.no_mask[..., None, None].expand(batch, -1, side, side)
        if mask is not None and has_mask is not None:
            dense = _where(has_mask, self._mask_dense(mask), dense)
        if logits is not None and has_logits is not None:
            dense = _where(has_logits, self.mask_layers(logits), dense)
        return dense

    def _mask_dense(self, mask: Tensor) -> Tensor:
        if self.mask_weight is None or self.mask_bias is None:
            return self.mask_layers(self.mask_patch(mask))  # type: ignore[no-any-return]
        x = F.conv2d(mask, self.mask_weight, self.mask_bias, stride=self.mask_weight.shape[-1])
        return self.mask_layers[1:](x)  # type: ignore[no-any-return]


def _fold(first: nn.Module, second: nn.Module) -> tuple[Tensor, Tensor]:
    """One convolution that equals ``second(first(x))``, for one channel between two whose stride is their kernel.

    Exact, and a form the NPU runtime computes right: of a 4 x 4 convolution of one channel to one it makes noise.
    """
    (w1, b1), (w2, b2) = ([p.detach() for p in layer.parameters()] for layer in (first, second))
    return torch.kron(w2, w1), b2 + b1 * w2.sum(dim=(1, 2, 3))


def _where(flag: Tensor, x: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(flag.reshape(-1, 1, 1, 1) > 0, x, otherwise)

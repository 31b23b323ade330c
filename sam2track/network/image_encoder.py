"""Image encoder: Hiera, a small feature pyramid, and the projections the decoder reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.contracts import ImageFeatures
from sam2track.network.hiera import Hiera

if TYPE_CHECKING:
    from sam2track.network.variants import Variant


class ImageEncoder(nn.Module):
    """Normalised image ``[1, 3, S, S]`` -> ``ImageFeatures``.

    The pyramid (SAM 2, arXiv:2408.00714, section 4) adds the stride-32 map to the stride-16 one; the
    finer maps are lateral only, which is why each can be folded into the projection after it.
    """

    s4_weight: Tensor | None
    s4_bias: Tensor | None
    s8_weight: Tensor | None
    s8_bias: Tensor | None

    def __init__(self, variant: Variant, image_size: int) -> None:
        super().__init__()
        d, widths = variant.width, [variant.embed * 2**stage for stage in range(4)]
        self.trunk = Hiera(variant, image_size)
        # from strides 4, 8, 16 and 32
        self.lateral = nn.ModuleList(nn.Conv2d(width, d, kernel_size=1) for width in widths)
        self.project_s4 = nn.Conv2d(d, d // 8, kernel_size=1)
        self.project_s8 = nn.Conv2d(d, d // 4, kernel_size=1)
        self.no_memory = nn.Parameter(torch.zeros(1, 1, d))
        # Official checkpoints hold this one, and no model reads it: kept so that a checkpoint survives a round trip.
        self.no_memory_position = nn.Parameter(torch.zeros(1, 1, d))
        for name in ("s4_weight", "s4_bias", "s8_weight", "s8_bias"):
            self.register_buffer(name, None, persistent=False)

    def train(self, mode: bool = True) -> ImageEncoder:
        """Switch to training, or to inference with each fine lateral layer folded into its projection once."""
        super().train(mode)
        with torch.no_grad():
            (self.s4_weight, self.s4_bias) = (None, None) if mode else _fold(self.lateral[0], self.project_s4)
            (self.s8_weight, self.s8_bias) = (None, None) if mode else _fold(self.lateral[1], self.project_s8)
        return self

    def forward(self, image: Tensor) -> ImageFeatures:
        """Encode a batch of normalised images."""
        x4, x8, x16, x32 = self.trunk(image)
        if self.s4_weight is None or self.s8_weight is None:  # training: the gradient passes through the fold
            s4 = F.conv2d(x4, *_fold(self.lateral[0], self.project_s4))
            s8 = F.conv2d(x8, *_fold(self.lateral[1], self.project_s8))
        else:
            s4, s8 = F.conv2d(x4, self.s4_weight, self.s4_bias), F.conv2d(x8, self.s8_weight, self.s8_bias)
        coarse = F.interpolate(self.lateral[3](x32), scale_factor=2.0, mode="nearest")
        s16 = self.lateral[2](x16) + coarse
        return ImageFeatures(s4, s8, s16, s16 + self.no_memory.reshape(1, -1, 1, 1))


def _fold(first: nn.Module, second: nn.Module) -> tuple[Tensor, Tensor]:
    """One 1 x 1 convolution (weight, bias) that equals ``second(first(x))``: exact, and far fewer operations."""
    (weight1, b1), (weight2, b2) = first.parameters(), second.parameters()
    w1, w2 = weight1.flatten(1), weight2.flatten(1)
    return (w2 @ w1)[:, :, None, None], w2 @ b1 + b2

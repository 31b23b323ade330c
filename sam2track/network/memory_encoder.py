"""Memory encoder: what the object looked like on a frame, as memory tokens (arXiv:2408.00714, section 4)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sam2track.network.layers import LayerNorm2d
from sam2track.network.linear import Linear

if TYPE_CHECKING:
    from sam2track.network.variants import Variant

MASK_WIDTHS = (1, 4, 16, 64, 256)  # each stride-2 step keeps what it folds: four times the channels
SCALE, BIAS = 20.0, -10.0  # mask probabilities enter as -10..10


class MemoryEncoder(nn.Module):
    """Features of one frame and the masks of B objects -> tokens ``[B, M, m]``."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        d, m = variant.width, variant.memory_width
        steps: list[nn.Module] = []
        for a, b in pairwise(MASK_WIDTHS):
            steps += [nn.Conv2d(a, b, kernel_size=3, stride=2, padding=1), LayerNorm2d(b), nn.GELU()]
        self.mask_layers = nn.Sequential(*steps, nn.Conv2d(MASK_WIDTHS[-1], d, kernel_size=1))
        self.feature_proj = nn.Conv2d(d, d, kernel_size=1)
        self.fuser = nn.ModuleList(ConvNextBlock(d) for _ in range(2))
        self.out_proj = nn.Conv2d(d, m, kernel_size=1) if m != d else nn.Identity()
        self.no_object = nn.Parameter(torch.zeros(1, m)) if variant.occlusion_memory else None

    def forward(self, s16: Tensor, logits: Tensor, object_score: Tensor, from_prompt: Tensor) -> Tensor:
        """Encode.

        Args:
            s16: ``[1, d, G, G]`` (or ``[B, d, G, G]``).
            logits: ``[B, 1, S, S]`` mask logits.
            object_score: ``[B, 1]``; where <= 0 the no-object code is added (SAM 2.1).
            from_prompt: ``[B]``, 1 where the user gave the mask or clicks: its mask enters as seen, thresholded.
        """
        prompted = from_prompt.reshape(-1, 1, 1, 1) > 0
        mask = torch.where(prompted, (logits > 0).to(logits.dtype), logits.sigmoid()) * SCALE + BIAS
        x: Tensor = self.feature_proj(s16) + self.mask_layers(mask)
        for block in self.fuser:
            x = block(x)
        tokens: Tensor = self.out_proj(x).flatten(2).transpose(1, 2)
        if self.no_object is not None:
            tokens = tokens + (object_score <= 0).to(tokens.dtype)[:, :, None] * self.no_object
        return tokens


class ConvNextBlock(nn.Module):
    """Depth-wise 7 x 7, then a pixel-wise MLP, scaled and added (arXiv:2201.03545)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = Linear(width, 4 * width)
        self.reduce = Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, d, G, G]`` -> the same."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.reduce(self.expand(y, "gelu"))
        return x + y.permute(0, 3, 1, 2)  # type: ignore[no-any-return]

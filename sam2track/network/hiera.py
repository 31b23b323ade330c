"""Hiera, the hierarchical vision transformer under the image encoder (arXiv:2306.00989).

Tokens are ``[B, H, W, C]`` throughout. Four stages; each but the first opens with a block that
pools its queries 2 x 2, doubles the channels and still uses the window of the stage before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.network.layers import MLP, window_merge, window_partition
from sam2track.network.linear import Linear, linear

if TYPE_CHECKING:
    from sam2track.network.variants import Variant


class Hiera(nn.Module):
    """Image ``[B, 3, S, S]`` -> four maps of strides 4, 8, 16 and 32, channels doubling from ``embed``."""

    position_table: Tensor | None

    def __init__(self, variant: Variant, image_size: int) -> None:
        super().__init__()
        self.side = image_size // 4
        self.patch = nn.Conv2d(3, variant.embed, kernel_size=7, stride=4, padding=3)
        self.position = nn.Parameter(torch.zeros(1, variant.embed, *(variant.background,) * 2))
        self.position_window = nn.Parameter(torch.zeros(1, variant.embed, *(variant.windows[0],) * 2))
        self.register_buffer("position_table", None, persistent=False)
        self.blocks = nn.ModuleList()
        self.stage_ends: list[int] = []
        width, heads, window = variant.embed, variant.heads, variant.windows[0]
        for stage, depth in enumerate(variant.stages):
            for i in range(depth):
                index = len(self.blocks)
                pool = stage > 0 and i == 0
                out, heads = (2 * width, 2 * heads) if pool else (width, heads)
                self.blocks.append(Block(width, out, heads, 0 if index in variant.global_blocks else window, pool))
                width, window = out, variant.windows[stage]
            self.stage_ends.append(len(self.blocks) - 1)

    def train(self, mode: bool = True) -> Hiera:
        """Switch to training, or to inference with the position table worked out once."""
        super().train(mode)
        self.position_table = None if mode else self._positions().detach()
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps ``[B, C, H, W]`` of the four stages, finest first."""
        x = self.patch(image).permute(0, 2, 3, 1)
        x = x + (self._positions() if self.position_table is None else self.position_table)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.stage_ends:
                maps.append(x.permute(0, 3, 1, 2))
        return maps

    def _positions(self) -> Tensor:
        """Windowed absolute position code (arXiv:2311.05613): a resized background plus a tiled window."""
        background = F.interpolate(self.position, size=(self.side, self.side), mode="bicubic")
        repeat = self.side // self.position_window.shape[-1]
        return (background + self.position_window.tile(1, 1, repeat, repeat)).permute(0, 2, 3, 1)


class Block(nn.Module):
    """Pre-norm transformer block; attention inside windows of ``window`` tokens a side, 0 for global."""

    def __init__(self, width: int, out: int, heads: int, window: int, pool: bool) -> None:
        super().__init__()
        self.window = window
        self.pool = pool
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = PooledAttention(width, out, heads, pool)
        self.norm2 = nn.LayerNorm(out, eps=1e-6)
        self.mlp = MLP((out, 4 * out, out), "gelu")
        self.shortcut = Linear(width, out) if width != out else None

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, width]`` -> ``[B, H', W', out]``, halved in both directions by a pooling block."""
        y = self.norm1(x)
        if self.shortcut is not None:
            x = self.shortcut(y)
            x = max_pool(x) if self.pool else x
        x = x + self.attention(y, self.window)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class PooledAttention(nn.Module):
    """Multi-head self-attention inside windows, its queries max-pooled 2 x 2 if ``pool``."""

    def __init__(self, width: int, out: int, heads: int, pool: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pool = pool
        self.qkv = Linear(width, 3 * out)
        self.proj = Linear(out, out)

    def forward(self, x: Tensor, window: int) -> Tensor:
        """``[B, H, W, width]`` -> ``[B, H', W', out]``; ``window`` 0 attends to the whole picture."""
        if not window:
            return self.proj(self._attend(self.qkv(x)))  # type: ignore[no-any-return]
        h, w = x.shape[1], x.shape[2]
        if h % window or w % window:
            # Padding tokens are zero, so their q, k, v are the bias: project before padding, not after.
            windows, (rows, columns) = window_partition(linear(x, self.qkv.weight), window)
            y = self._attend(windows + self.qkv.bias)
        else:
            windows, (rows, columns) = window_partition(x, window)
            y = self._attend(self.qkv(windows))
        if self.pool:
            rows, columns, h, w = rows // 2, columns // 2, h // 2, w // 2
        return self.proj(window_merge(y, (rows, columns), (h, w)))  # type: ignore[no-any-return]

    def _attend(self, qkv: Tensor) -> Tensor:
        """``[B, H, W, 3 * out]`` -> ``[B, H', W', out]``."""
        q, k, v = qkv.chunk(3, dim=-1)
        if self.pool:
            q = max_pool(q)
        b, h, w, _ = q.shape
        y = F.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v))
        return y.transpose(1, 2).reshape(b, h, w, -1)

    def _split(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        return x.reshape(b, h * w, self.heads, c // self.heads).transpose(1, 2)


def max_pool(x: Tensor) -> Tensor:
    """Max-pool ``[B, H, W, C]`` 2 x 2."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)

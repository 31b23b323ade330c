"""Small parts shared by the components, and the constant position tables.

Everything here exports to static ONNX graphs: no complex numbers, no tensor above rank 4, no
in-place writes, no shape that depends on data.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.network.linear import Activation, Linear

MASKED = -50.0  # bias of a padded key: e^-50 is nothing in fp32 and, unlike -inf, survives fp16 and quantisation


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of ``[B, C, H, W]``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normalised per pixel."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MLP(nn.Module):
    """Linear layers with an activation between them: ``[..., in]`` -> ``[..., out]``."""

    def __init__(self, widths: tuple[int, ...], activation: Activation = "relu") -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers."""
        for layer in self.layers[:-1]:
            x = layer(x, self.activation)
        return self.layers[-1](x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its tokens.

    Attention of the two-way transformer of SAM (arXiv:2304.02643, appendix A).
    """

    def __init__(self, width: int, heads: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or width
        self.heads = heads
        self.q_proj = Linear(width, inner)
        self.k_proj = Linear(width, inner)
        self.v_proj = Linear(width, inner)
        self.out_proj = Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """``q`` [B, Q, width] attends to ``k``, ``v`` [B, L, width]; returns [B, Q, width]. ``bias`` [B, 1, 1, L]."""
        q, k, v = self._split(self.q_proj(q)), self._split(self.k_proj(k)), self._split(self.v_proj(v))
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out_proj(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        return x.reshape(b, n, self.heads, c // self.heads).transpose(1, 2)


def window_partition(x: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut ``x`` [B, H, W, C] into windows [B * n, size, size, C]; zero-pads to whole windows.

    Returns the windows and the padded (H, W). No tensor above rank 4 on the way, which the NPU
    runtime asks for.
    """
    b, h, w, c = x.shape
    pad_h, pad_w = -h % size, -w % size
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    h, w = h + pad_h, w + pad_w
    x = x.reshape(b * (h // size), size, w // size, size * c).transpose(1, 2)
    return x.reshape(-1, size, size, c), (h, w)


def window_merge(windows: Tensor, padded: tuple[int, int], kept: tuple[int, int]) -> Tensor:
    """Undo ``window_partition``: windows -> [B, *kept, C], the padding cut off."""
    (h, w), size, c = padded, windows.shape[1], windows.shape[3]
    b = windows.shape[0] // ((h // size) * (w // size))
    x = windows.reshape(b * (h // size), w // size, size, size * c).transpose(1, 2).reshape(b, h, w, c)
    return x if padded == kept else x[:, : kept[0], : kept[1]]


def sine_table(side: int, width: int, temperature: float = 10000.0) -> Tensor:
    """Sine position code [side * side, width] of a square grid, rows in the first half of the channels.

    The two-dimensional code of DETR (arXiv:2005.12872, appendix A.4), coordinates scaled to (0, 2 pi].
    """
    half = width // 2
    coordinate = torch.arange(1, side + 1, dtype=torch.float32)
    coordinate = coordinate / (side + 1e-6) * (2 * math.pi)
    angle = coordinate[:, None] / _wavelengths(half, temperature, coordinate.device)
    code = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)  # [side, half]
    rows = code[:, None].expand(side, side, half)
    columns = code[None].expand(side, side, half)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


def sine_code(position: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Sine code [..., width] of scalar positions (arXiv:1706.03762, section 3.5), sines then cosines."""
    angle = position[..., None] / _wavelengths(width // 2, temperature, position.device).to(position.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def _wavelengths(count: int, temperature: float, device: torch.device) -> Tensor:
    index = torch.arange(count, dtype=torch.float32, device=device)  # made there: a copy would wait for a GPU
    return torch.as_tensor(temperature) ** (2 * (index // 2) / count)


def fourier_table(side: int, frequencies: Tensor) -> Tensor:
    """Random Fourier code [1, 2 * F, side, side] of a grid's cell centres, for ``frequencies`` [2, F]."""
    centre = (torch.arange(side, dtype=torch.float32, device=frequencies.device) + 0.5) / side
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return fourier_code(torch.stack([x, y], dim=-1), frequencies).permute(2, 0, 1)[None]


def fourier_code(xy: Tensor, frequencies: Tensor) -> Tensor:
    """Random Fourier code [..., 2 * F] of points in the unit square (arXiv:2006.10739)."""
    angle = 2 * math.pi * ((2 * xy - 1) @ frequencies)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def rotary_table(side: int, width: int, theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [side * side, width / 2] of the axial rotary embedding (arXiv:2403.13298).

    The first half of the angles turns with the column, the second with the row.
    """
    frequency = theta ** (-torch.arange(0, width, 4, dtype=torch.float32)[: width // 4] / width)
    token = torch.arange(side * side)
    column, row = (token % side).float(), (token // side).float()
    angle = torch.cat([column[:, None] * frequency, row[:, None] * frequency], dim=1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair (x[..., i], x[..., i + width / 2]) of ``x`` [..., M, width] by its token's angle.

    Pairs are split in halves rather than interleaved: the same numbers, once the rows of the q and
    k projections are permuted (``weights.to_half_split``), in a form that accelerators run fast.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)

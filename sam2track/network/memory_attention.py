"""Memory attention: the current frame's features read the object's memory (arXiv:2408.00714, section 4).

Two exact savings over the plain form. Until the first cross-attention nothing depends on the object,
so that part runs once for all of them. And since the rows of a softmax sum to one,
``attention @ v_proj(memory) = v_proj(attention @ memory)``: memory has m channels where values have d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.contracts import STRIDE
from sam2track.network.layers import MASKED, rotary_table, rotate, sine_code, sine_table
from sam2track.network.linear import Linear, linear, plain_cpu

if TYPE_CHECKING:
    from sam2track.network.variants import Variant

BLOCK = 1 << 20  # attention scores worked on at once by a CPU: 4 MB, which an allocator keeps from frame to frame
BLOCK_ROWS = 256  # or so many rows of them: products of few rows are slow
GRAPH_BLOCK = 16 << 20  # the same in a graph, which has a fixed number of blocks: 64 MB
SLOTS = 7  # temporal codes: 1 to 6 frames ago, then prompted


class MemoryAttention(nn.Module):
    """Features of one frame and the memories of B objects -> fused features ``[B, d, G, G]``."""

    image_position: Tensor
    token_position: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, variant: Variant, image_size: int) -> None:
        super().__init__()
        d, m, side = variant.width, variant.memory_width, image_size // STRIDE
        self.layers = nn.ModuleList(MemoryLayer(d, m, variant.memory_hidden) for _ in range(variant.memory_layers))
        self.norm = nn.LayerNorm(d)
        self.slot_code = nn.Parameter(torch.zeros(SLOTS, 1, 1, m))
        self.age_proj = Linear(d, m) if variant.pointer_age else None
        cosine, sine = rotary_table(side, d)
        self.register_buffer("image_position", sine_table(side, d), persistent=False)
        self.register_buffer("token_position", sine_table(side, m), persistent=False)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(
        self, s16: Tensor, tokens: Tensor, slot: Tensor, pointer: Tensor, age: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Fuse.

        Args:
            s16: ``[1, d, G, G]`` (or ``[B, d, G, G]``).
            tokens: ``[B, N, M, m]`` memory of N frames.
            slot: ``[B, N]``: 0 for a prompted frame, else how many frames ago.
            pointer: ``[B, K, d]`` object pointers.
            age: ``[B, K]``: frames ago / (max_pointers - 1).
            valid: ``[B, N + K]`` which entries are real; None: all.
        """
        memory, key = self._memory(tokens, slot, pointer, age)
        bias = None if valid is None else _key_bias(valid, tokens.shape, memory.shape[1] - tokens[0, :, :, 0].numel())
        x = s16.flatten(2).transpose(1, 2) + 0.1 * self.image_position
        x = self._stack[0].look_around(x, (self.cosine, self.sine))
        b, slots = tokens.shape[:2]
        if not plain_cpu(x):
            fused = self._read(x, memory, key, bias, slots)
        else:  # a CPU gains nothing from a batch, and small temporaries suit its caches and its allocator
            biases = [None] * b if bias is None else torch.split(bias, 1)
            rows = zip(
                torch.split(x.expand(b, -1, -1), 1), torch.split(memory, 1), torch.split(key, 1), biases, strict=True
            )
            fused = torch.cat([self._read(*row, slots) for row in rows])
        return fused.transpose(1, 2).reshape(-1, *s16.shape[1:])

    @property
    def _stack(self) -> list[MemoryLayer]:
        return cast(list[MemoryLayer], list(self.layers))

    def _read(self, x: Tensor, memory: Tensor, key: Tensor, bias: Tensor | None, slots: int) -> Tensor:
        """The rest of the layers: from the first cross-attention on, everything depends on the object."""
        table = self.cosine, self.sine
        for i, layer in enumerate(self._stack):
            if i:
                x = layer.look_around(x, table)
            x = layer.look_back(x, memory, key, slots, table, bias)
        return self.norm(x)  # type: ignore[no-any-return]

    def _memory(self, tokens: Tensor, slot: Tensor, pointer: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """Values and keys, both [B, N * M + K * d / m, m]: a pointer counts as d / m tokens."""
        b, n, length, m = tokens.shape
        k, d = pointer.shape[1:]
        code = self.slot_code.reshape(SLOTS, m)[(slot + SLOTS - 1) % SLOTS]
        token_key = tokens + self.token_position + code[:, :, None]
        pieces = pointer.reshape(b, k * (d // m), m)
        piece_key = pieces
        if self.age_proj is not None:
            code = self.age_proj(sine_code(age, d))
            piece_key = pieces + code[:, :, None].expand(b, k, d // m, m).reshape(b, -1, m)
        values = torch.cat([tokens.reshape(b, n * length, m), pieces], dim=1)
        return values, torch.cat([token_key.reshape(b, n * length, m), piece_key], dim=1)


class MemoryLayer(nn.Module):
    """Self-attention, cross-attention to memory, feed-forward; pre-norm, one head."""

    def __init__(self, width: int, memory_width: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Projections(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.cross_attention = Projections(width, memory_width)
        self.norm3 = nn.LayerNorm(width)
        self.linear1 = Linear(width, hidden)
        self.linear2 = Linear(hidden, width)

    def look_around(self, x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """Self-attention of ``x`` [1 or B, M, d]."""
        p, y = self.self_attention, self.norm1(x)
        q, k, v = rotate(p.q_proj(y), *table), rotate(p.k_proj(y), *table), p.v_proj(y)
        return x + p.out_proj(attend(q, k, v, None))  # type: ignore[no-any-return]

    def look_back(
        self, x: Tensor, memory: Tensor, key: Tensor, slots: int, table: tuple[Tensor, Tensor], bias: Tensor | None
    ) -> Tensor:
        """Cross-attention to memory, then the feed-forward: ``x`` [1 or B, M, d] -> [B, M, d]."""
        x = x + self._attend_memory(self.norm2(x), memory, key, slots, table, bias)
        return x + self.linear2(self.linear1(self.norm3(x), "relu"))  # type: ignore[no-any-return]

    def _attend_memory(
        self, x: Tensor, memory: Tensor, key: Tensor, slots: int, table: tuple[Tensor, Tensor], bias: Tensor | None
    ) -> Tensor:
        p = self.cross_attention
        q = rotate(p.q_proj(x), *table)
        k = p.k_proj(key)
        b, (length, d) = k.shape[0], q.shape[1:]
        spatial = rotate(k[:, : slots * length].reshape(b, slots, length, d), *table).reshape(b, slots * length, d)
        k = torch.cat([spatial, k[:, slots * length :]], dim=1)  # pointers have no place in the image: not rotated
        y = attend(q.expand(b, -1, -1), k, memory, bias)
        return p.out_proj(p.v_proj(y))  # type: ignore[no-any-return]


class Projections(nn.Module):
    """The four linear layers of one attention."""

    def __init__(self, width: int, memory_width: int) -> None:
        super().__init__()
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(memory_width, width)
        self.v_proj = Linear(memory_width, width)
        self.out_proj = Linear(width, width)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Single-head attention of ``q`` [B, M, d] over ``k`` [B, L, d] and ``v`` [B, L, e]; ``bias`` [B, 1, L]."""
    if plain_cpu(q):
        return _attend_by_rows(q, k, v, bias)
    mask = None if bias is None else bias[:, None]
    blocks = -(-q.shape[1] * k.shape[1] // GRAPH_BLOCK) if torch.compiler.is_compiling() else 1
    parts = [
        F.scaled_dot_product_attention(part[:, None], k[:, None], v[:, None], attn_mask=mask)[:, 0]
        for part in q.chunk(blocks, dim=1)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _attend_by_rows(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """The same on a CPU, whose fused kernel wants e = d: plain products, a cache-sized block of rows at once."""
    q = q * q.shape[2] ** -0.5
    blocks = -(-q.shape[1] // max(BLOCK // k.shape[1], BLOCK_ROWS))
    objects = []
    for i in range(q.shape[0]):
        values, own_bias = v[i].t().contiguous(), None if bias is None else bias[i, 0]
        parts = []
        for part in q[i].chunk(blocks):
            scores = linear(part, k[i], own_bias)
            parts.append(linear(scores.softmax(dim=1), values))
        objects.append(torch.cat(parts))
    return torch.stack(objects)


def _key_bias(valid: Tensor, token_shape: torch.Size, pieces: int) -> Tensor:
    """Additive bias [B, 1, L] over the keys: 0 where the entry is real, ``MASKED`` where it is padding."""
    b, n, length, _ = token_shape
    real = valid.to(torch.float32)
    k = valid.shape[1] - n
    tokens = real[:, :n, None].expand(b, n, length).reshape(b, n * length)
    pointers = real[:, n:, None].expand(b, k, pieces // max(k, 1)).reshape(b, pieces)
    return ((1 - torch.cat([tokens, pointers], dim=1)) * MASKED)[:, None]

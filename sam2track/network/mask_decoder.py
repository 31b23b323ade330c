"""Mask decoder: a two-way transformer between prompt tokens and image, then four masks.

SAM (arXiv:2304.02643, appendix A) with SAM 2's high-resolution features, object score and object
pointer (arXiv:2408.00714, appendix D).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.contracts import STRIDE, MaskCandidates
from sam2track.network.layers import MASKED, MLP, Attention, LayerNorm2d, fourier_table

if TYPE_CHECKING:
    from sam2track.network.variants import Variant

MASKS = 4  # one for an unambiguous prompt, three alternatives for an ambiguous one
HEADS = 8
TOKEN_HIDDEN = 2048
IOU_HIDDEN = 256


class MaskDecoder(nn.Module):
    """Features, fine features and prompt embeddings of B objects -> ``MaskCandidates``."""

    frequencies: Tensor
    position_table: Tensor | None

    def __init__(self, variant: Variant, image_size: int) -> None:
        super().__init__()
        d = variant.width
        self.side = image_size // STRIDE
        self.register_buffer("frequencies", torch.randn(2, d // 2))
        self.register_buffer("position_table", None, persistent=False)
        self.object_token = nn.Parameter(torch.zeros(1, d))
        self.iou_token = nn.Parameter(torch.zeros(1, d))
        self.mask_tokens = nn.Parameter(torch.zeros(MASKS, d))
        self.layers = nn.ModuleList(TwoWayLayer(d, first=i == 0) for i in range(2))
        self.final_attention = Attention(d, HEADS, d // 2)
        self.final_norm = nn.LayerNorm(d)
        self.upscale_s8 = nn.ConvTranspose2d(d, d // 4, kernel_size=2, stride=2)
        self.norm_s8 = LayerNorm2d(d // 4)
        self.upscale_s4 = nn.ConvTranspose2d(d // 4, d // 8, kernel_size=2, stride=2)
        self.mask_heads = nn.ModuleList(MLP((d, d, d, d // 8)) for _ in range(MASKS))
        self.iou_head = MLP((d, IOU_HIDDEN, IOU_HIDDEN, MASKS))
        self.score_head = MLP((d, d, d, 1))
        self.pointer_head = MLP((d, d, d, d))
        self.no_object_pointer = nn.Parameter(torch.zeros(1, d))

    def train(self, mode: bool = True) -> MaskDecoder:
        """Switch to training, or to inference with the position table worked out once."""
        super().train(mode)
        self.position_table = None if mode else fourier_table(self.side, self.frequencies)
        return self

    def forward(
        self, features: Tensor, s4: Tensor, s8: Tensor, sparse: Tensor, dense: Tensor, valid: Tensor | None = None
    ) -> MaskCandidates:
        """Decode; see ``contracts.CONTRACTS`` for the shapes. ``s4`` and ``s8`` have batch 1 or B.

        ``valid`` [B, P + 1] is 1 where a sparse embedding is real: a graph of static shape takes fewer points than
        it has room for. None: all are.
        """
        b = sparse.shape[0]
        tokens = torch.cat([self.object_token, self.iou_token, self.mask_tokens]).expand(b, -1, -1)
        bias = None if valid is None else F.pad((1 - valid) * MASKED, (tokens.shape[1], 0))[:, None, None]
        tokens, image = self._exchange(torch.cat([tokens, sparse], dim=1), features + dense, bias)
        mask_tokens = tokens[:, 2 : 2 + MASKS]

        logits = self._masks(mask_tokens, image, s4, s8)
        iou = self.iou_head(tokens[:, 1]).sigmoid()
        object_score = self.score_head(tokens[:, 0])
        visible = (object_score > 0).to(logits.dtype)[:, None]
        pointer = visible * self.pointer_head(mask_tokens) + (1 - visible) * self.no_object_pointer
        return MaskCandidates(logits, iou, pointer, object_score)

    def _exchange(self, tokens: Tensor, image: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Let tokens [B, T, d] and image [B, d, G, G] attend to each other; the image comes back as [B, M, d].

        ``bias`` [B, 1, 1, T] is added to the scores of tokens wherever they are read.
        """
        table = fourier_table(self.side, self.frequencies) if self.position_table is None else self.position_table
        position = table.flatten(2).transpose(1, 2)
        keys = image.flatten(2).transpose(1, 2)
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, position, bias)
        attended = self.final_attention(queries + tokens, keys + position, keys)
        return self.final_norm(queries + attended), keys

    def _masks(self, mask_tokens: Tensor, image: Tensor, s4: Tensor, s8: Tensor) -> Tensor:
        """Logits [B, 4, S/4, S/4]: each mask token's hyper-network is a linear layer over upscaled pixels."""
        b, _, d = image.shape
        x = image.transpose(1, 2).reshape(b, d, self.side, self.side)
        x = F.gelu(self.norm_s8(self.upscale_s8(x) + s8))
        # flattening copies anyway; done before, the gradient of gelu is laid out as its input is, else it is slow
        x = F.gelu((self.upscale_s4(x) + s4).contiguous())
        weights = torch.stack([head(mask_tokens[:, i]) for i, head in enumerate(self.mask_heads)], dim=1)
        return (weights @ x.flatten(2)).reshape(b, MASKS, *x.shape[2:])


class TwoWayLayer(nn.Module):
    """Tokens attend to themselves, then to the image, are transformed, and the image attends to them."""

    def __init__(self, width: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attention = Attention(width, HEADS)
        self.norm1 = nn.LayerNorm(width)
        self.token_to_image = Attention(width, HEADS, width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP((width, TOKEN_HIDDEN, width))
        self.norm3 = nn.LayerNorm(width)
        self.image_to_token = Attention(width, HEADS, width // 2)
        self.norm4 = nn.LayerNorm(width)

    def forward(
        self, queries: Tensor, keys: Tensor, tokens: Tensor, position: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``tokens`` and ``position`` are the position codes of queries [B, T, d] and keys [B, M, d]."""
        if self.first:  # queries still equal their position code: no residual, nothing to add
            queries = self.norm1(self.self_attention(queries, queries, queries, bias))
        else:
            q = queries + tokens
            queries = self.norm1(queries + self.self_attention(q, q, queries, bias))
        queries = self.norm2(queries + self.token_to_image(queries + tokens, keys + position, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.image_to_token(keys + position, queries + tokens, queries, bias))
        return queries, keys

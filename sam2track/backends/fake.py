"""Components without a network: what is bright is the object. For tests of everything above a backend.

The shapes are those of the contracts and are checked at every call. Every object's mask is where the
image is brighter than mid-grey; where nothing is, the object is not visible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2track.contracts import (
    CONTRACTS,
    STRIDE,
    Components,
    ImageFeatures,
    MaskCandidates,
    PromptEmbeddings,
    Sizes,
    check,
)

WIDTH, MEMORY_WIDTH = 8, 4
CONTRAST = 4.0  # logits of a white and of a black pixel are about +- this much


def components(image_size: int = 64) -> Components:
    """Fake components for images of ``image_size``."""
    sizes = Sizes(image_size, WIDTH, MEMORY_WIDTH)
    parts: dict[str, Callable[..., Any]] = {
        "image_encoder": _image_encoder,
        "prompt_encoder": _prompt_encoder(sizes),
        "memory_attention": _memory_attention,
        "mask_decoder": _mask_decoder,
        "memory_encoder": _memory_encoder(sizes),
    }
    checked: dict[str, Any] = {name: _checked(name, part, sizes) for name, part in parts.items()}
    return Components(sizes=sizes, placement=dict.fromkeys(CONTRACTS, "fake:cpu:fp32"), **checked)


def _image_encoder(image: Tensor) -> ImageFeatures:
    brightness = F.avg_pool2d(image.mean(dim=1, keepdim=True), 4)
    s16 = F.avg_pool2d(brightness, 4).expand(-1, WIDTH, -1, -1)
    s8 = F.avg_pool2d(brightness, 2).expand(-1, WIDTH // 4, -1, -1)
    return ImageFeatures(brightness, s8, s16, s16)


def _prompt_encoder(sizes: Sizes) -> Callable[..., PromptEmbeddings]:
    side = sizes.image_size // STRIDE

    def encode(xy: Tensor, *_: Tensor | None) -> PromptEmbeddings:
        b, points, _two = xy.shape
        return PromptEmbeddings(torch.zeros(b, points + 1, WIDTH), torch.zeros(b, WIDTH, side, side))

    return encode


def _memory_attention(s16: Tensor, tokens: Tensor, *_: Tensor | None) -> Tensor:
    return s16.expand(tokens.shape[0], -1, -1, -1)


def _mask_decoder(features: Tensor, s4: Tensor, *_: Tensor) -> MaskCandidates:
    b = features.shape[0]
    logits = (CONTRAST * s4).expand(b, 4, -1, -1)
    object_score = torch.where(logits.amax(dim=(1, 2, 3)) > 0, 5.0, -5.0)[:, None]
    return MaskCandidates(
        logits, torch.tensor([0.5, 0.9, 0.8, 0.7]).expand(b, 4), torch.zeros(b, 4, WIDTH), object_score
    )


def _memory_encoder(sizes: Sizes) -> Callable[..., Tensor]:
    def encode(_: Tensor, logits: Tensor, *__: Tensor) -> Tensor:
        return torch.zeros(logits.shape[0], sizes.tokens, MEMORY_WIDTH)

    return encode


def _checked(name: str, part: Callable[..., Any], sizes: Sizes) -> Callable[..., Any]:
    def call(*tensors: Tensor | None) -> Any:
        inputs = [t.float() if t is not None and t.dtype == torch.bfloat16 else t for t in tensors]
        check(name, "inputs", inputs, sizes)
        outputs = part(*inputs)
        check(name, "outputs", [outputs] if isinstance(outputs, Tensor) else outputs, sizes)
        return outputs

    return call

"""Sizes of each model, and the network they build.

The numbers of the eight official models are those of the published SAM 2 and SAM 2.1 configurations;
``nano`` is ours: the same architecture at small width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from sam2track.contracts import Sizes
from sam2track.errors import ConfigError
from sam2track.network.image_encoder import ImageEncoder
from sam2track.network.mask_decoder import MaskDecoder
from sam2track.network.memory_attention import MemoryAttention
from sam2track.network.memory_encoder import MemoryEncoder
from sam2track.network.prompt_encoder import PromptEncoder


@dataclass(frozen=True, slots=True)
class Variant:
    """One model's sizes.

    Attributes:
        embed: channels of the first stage of Hiera; doubles with each stage.
        heads: attention heads of the first stage; double with each stage.
        stages: blocks in each of the four stages.
        global_blocks: blocks whose attention is global rather than windowed.
        windows: tokens a side of a window, by stage.
        background: side of the learned position grid that is resized to the image.
        width: d, channels of features, prompts and pointers.
        memory_width: m, channels of a memory token.
        memory_layers: layers of memory attention.
        memory_hidden: hidden width of their feed-forward.
        image_size: the input size the weights were trained for.
        pointer_age: SAM 2.1: object pointers carry their age.
        occlusion_memory: SAM 2.1: memory of an occluded frame carries a no-object code.
    """

    embed: int
    heads: int
    stages: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7
    width: int = 256
    memory_width: int = 64
    memory_layers: int = 4
    memory_hidden: int = 2048
    image_size: int = 1024
    pointer_age: bool = True
    occlusion_memory: bool = True


_SAM_2_1 = {
    "tiny": Variant(embed=96, heads=1, stages=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    "small": Variant(embed=96, heads=1, stages=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "base-plus": Variant(embed=112, heads=2, stages=(2, 3, 16, 3), global_blocks=(12, 16, 20), background=14),
    "large": Variant(embed=144, heads=2, stages=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)),
}

VARIANTS: dict[str, Variant] = {
    "nano": Variant(
        embed=32,
        heads=1,
        stages=(1, 2, 5, 1),
        global_blocks=(4, 5, 6, 7),
        windows=(8, 4, 8, 8),
        width=128,
        memory_layers=2,
        memory_hidden=512,
        image_size=320,
    ),
    **{f"sam2.1-{name}": variant for name, variant in _SAM_2_1.items()},
    **{
        f"sam2-{name}": replace(variant, pointer_age=False, occlusion_memory=False)
        for name, variant in _SAM_2_1.items()
    },
}


class Network(nn.Module):
    """The five components of one model, each a module of its own; it has no forward of its own."""

    def __init__(self, variant: Variant, image_size: int | None = None) -> None:
        super().__init__()
        size = variant.image_size if image_size is None else image_size
        if size % 32 or size < 64:
            raise ConfigError(
                f"image_size {size} is not a multiple of 32 of at least 64; try {max(64, size // 32 * 32)}"
            )
        self.variant = variant
        self.sizes = Sizes(image_size=size, width=variant.width, memory_width=variant.memory_width)
        self.image_encoder = ImageEncoder(variant, size)
        self.prompt_encoder = PromptEncoder(variant, size)
        self.memory_attention = MemoryAttention(variant, size)
        self.mask_decoder = MaskDecoder(variant, size)
        self.mask_decoder.frequencies.copy_(self.prompt_encoder.frequencies)  # one set, read by both
        self.memory_encoder = MemoryEncoder(variant)

"""A few frames through the float components, and every call they make: what a graph is checked on.

The inputs of a component are what the others gave: real features, masks and memories, with as many slots
as the smallest and the largest history that each bucket takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2track import pixels
from sam2track.backends.manifest import Room
from sam2track.contracts import CONTRACTS, ComponentName, Components, ImageFeatures, MaskCandidates, PromptEmbeddings
from sam2track.data import Image


class Call(NamedTuple):
    """One call of a component and what it gave."""

    component: ComponentName
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]


def pictures(size: int, count: int = 3, seed: int = 0) -> list[Image]:
    """Made-up frames: a bright disc drifts over a soft coloured texture."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.uniform(30, 160, (1, 3, 12, 12)))
    texture = F.interpolate(coarse, (size, size), mode="bicubic")[0].permute(1, 2, 0).numpy()
    rows, columns = np.mgrid[:size, :size]
    images = []
    for index in range(count):
        inside = (rows - size * 0.5) ** 2 + (columns - size * (0.4 + 0.03 * index)) ** 2 < (size * 0.2) ** 2
        images.append(np.where(inside[..., None], (230, 190, 60), texture).clip(0, 255).astype(np.uint8))
    return images


def noted(components: Components, note: Callable[[Call], object]) -> Components:
    """``components`` that tell ``note`` of every call they make."""

    def noting(name: ComponentName) -> Callable[..., Any]:
        plain = getattr(components, name)

        def call(*inputs: Tensor | None) -> Any:
            outputs = plain(*inputs)
            note(Call(name, inputs, (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)))
            return outputs

        return call

    return replace(components, **{name: noting(name) for name in CONTRACTS})  # type: ignore[arg-type]


def calls(components: Components, room: Room, images: Sequence[Image]) -> list[Call]:
    """Prompt an object with a click, a box and clicks, and a mask; then track it, with memories of every length."""
    made: list[Call] = []
    call = noted(components, made.append)
    size = components.sizes.image_size
    memories, pointers = [], []
    for image in images:
        features = call.image_encoder(pixels.to_tensor(image, size))
        for embeddings in _prompted(call, size, room):
            candidates = call.mask_decoder(features.s16_alone, features.s4, features.s8, *embeddings)
            memories.append(_remember(call, features, candidates, size, from_prompt=1.0))
            pointers.append(candidates.pointer[:, 0])
    empty = call.prompt_encoder(torch.zeros(1, 1, 2), -torch.ones(1, 1), None, None, None, None)
    for count in _histories(room.slots):
        tokens = torch.stack([memories[i % len(memories)] for i in range(count)], dim=1)
        fused = call.memory_attention(features.s16, tokens, *_history(count, pointers, room), None)
        candidates = call.mask_decoder(fused, features.s4, features.s8, *empty)
        _remember(call, features, candidates, size, from_prompt=0.0)
    return made


def _prompted(call: Components, size: int, room: Room) -> Iterator[PromptEmbeddings]:
    """A click, as many points as there is room for with an earlier mask, and a mask prompt."""
    none = torch.zeros(1, 1, 2), -torch.ones(1, 1)
    first = call.prompt_encoder(torch.full((1, 1, 2), 0.45 * size), torch.ones(1, 1), None, None, None, None)
    yield first
    most = room.points[-1]
    xy = torch.linspace(0.2, 0.8, 2 * most).reshape(1, most, 2) * size
    label = torch.tensor([[2.0, 3.0, *(float(i % 2) for i in range(most))]])[:, :most]
    prior = torch.linspace(-8, 8, (size // 4) ** 2).reshape(1, 1, size // 4, size // 4)
    yield call.prompt_encoder(xy, label, prior, torch.ones(1), None, None)
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1.0
    yield call.prompt_encoder(*none, None, None, mask, torch.ones(1))


def _histories(slots: Sequence[int]) -> list[int]:
    """The fewest and the most slots that go to each bucket."""
    fewest = (1, *(below + 1 for below in slots[:-1]))
    return sorted({*fewest, *slots})


def _history(count: int, pointers: Sequence[Tensor], room: Room) -> tuple[Tensor, Tensor, Tensor]:
    """Slot numbers, pointers and their ages for ``count`` memories: prompted ones lead, six are recent."""
    recent = min(count - 1, 6)
    slot = torch.tensor([[0] * (count - recent) + list(range(recent, 0, -1))])
    reach = min(2 * count, room.pointers)
    age = torch.arange(reach, 0, -1)[None] / 15
    return slot, torch.stack([pointers[i % len(pointers)] for i in range(reach)], dim=1), age


def _remember(
    call: Components, features: ImageFeatures, candidates: MaskCandidates, size: int, from_prompt: float
) -> Tensor:
    logits = pixels.resize_logits(candidates.logits[:, :1], (size, size))
    return call.memory_encoder(features.s16, logits, candidates.object_score, torch.tensor([from_prompt]))

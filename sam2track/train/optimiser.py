"""How fast each parameter learns."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import nn

from sam2track.train.recipe import Recipe, Stage

_BLOCK = re.compile(r"network\.image_encoder\.trunk\.blocks\.(\d+)\.")
_FIRST = re.compile(r"network\.image_encoder\.trunk\.(patch|position)")


def parameter_groups(objective: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups for an optimiser, without what is frozen.

    Matrices decay; biases, norms and tokens do not. ``scale`` is what the rate is multiplied by: earlier
    blocks of the image encoder, which are the most general, learn more slowly (arXiv:1801.06146).
    """
    named = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
    blocks = 1 + max((int(match[1]) for name, _ in named if (match := _BLOCK.match(name))), default=-1)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        plain = not (parameter.ndim > 1 and min(parameter.shape[:2]) > 1)
        groups.setdefault((plain, recipe.layer_decay ** _blocks_after(name, blocks)), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": 0.0 if plain else recipe.weight_decay}
        for (plain, scale), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def learning_rate(recipe: Recipe, stage: Stage, within: int) -> float:
    """Warm-up, then a cosine over the stage down to a third of its peak (the last stage: to a hundredth)."""
    floor = 0.01 if stage is recipe.stages[-1] else 0.3
    warm = min(recipe.warm_up, stage.steps // 2)
    if within < warm:
        return stage.rate * (within + 1) / warm
    progress = (within - warm) / max(stage.steps - warm, 1)
    return stage.rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def _blocks_after(name: str, blocks: int) -> int:
    """How many blocks of the image encoder, and what follows them, come after a parameter."""
    match = _BLOCK.match(name)
    if match is not None:
        return blocks - int(match[1])
    return blocks + 1 if _FIRST.match(name) else 0

"""Recipes: in what order a model learns. Stills first, then two frames, then clips with their own memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sam2track.train.clips import Style
from sam2track.train.losses import LossWeights


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a recipe.

    Attributes:
        steps: optimiser steps.
        clips: clips a step.
        style: what the clips look like; its ``size`` is the model's image size in this stage.
        objects: objects followed in each clip, all on one encoding.
        memory: train tracking; without it, the frames of a clip are stills.
        rate: peak learning rate.
        dense: weight of the dense losses.
        taught: share of objects whose memory is written from the truth rather than from the network's own masks.
    """

    steps: int
    clips: int
    style: Style
    objects: int = 3
    memory: bool = True
    rate: float = 1e-3
    dense: float = 0.0
    taught: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Stages, and what they share."""

    stages: tuple[Stage, ...]
    losses: LossWeights = field(default_factory=LossWeights)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    warm_up: int = 100  # steps, of each stage
    ema: float = 0.995

    @property
    def steps(self) -> int:
        """All steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[Stage, int]:
        """The stage of a step, and the step within it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError(f"the recipe has {self.steps} steps")


def scaled(recipe: Recipe, factor: float) -> Recipe:
    """The same recipe with ``factor`` times as many steps in every stage."""
    stages = tuple(replace(stage, steps=max(1, round(stage.steps * factor))) for stage in recipe.stages)
    return replace(recipe, stages=stages)


_EASY = Style(size=128, frames=2, layers=3, extent=(0.3, 0.85), speed=0.1, twins=0.1, leaving=0.0, degrade=0.4)
_PAIRS = Style(size=128, frames=2, layers=4, extent=(0.2, 0.8), speed=0.1, twins=0.3, leaving=0.2)
_CLIPS = Style(size=128, frames=4, layers=4, extent=(0.2, 0.8), speed=0.06, twins=0.3, leaving=0.25)
_LARGER = Style(size=192, frames=4, layers=4, extent=(0.15, 0.75), speed=0.05, textured=0.4, twins=0.3, leaving=0.25)
_FULL = Style(size=256, frames=5, layers=4, extent=(0.12, 0.75), speed=0.04, textured=0.4, twins=0.3, leaving=0.25)

RECIPES: dict[str, Recipe] = {
    # for two CPU cores and an hour or two
    "cpu": Recipe(
        stages=(
            Stage(steps=500, clips=8, style=_EASY, objects=2, memory=False, dense=1.0),
            Stage(steps=900, clips=8, style=_PAIRS, objects=2, dense=0.5),
            Stage(steps=1000, clips=5, style=_CLIPS, objects=3, rate=8e-4, dense=0.3, taught=0.7),
            Stage(steps=600, clips=3, style=_LARGER, objects=3, rate=5e-4, dense=0.1, taught=0.3),
            Stage(steps=440, clips=2, style=_FULL, objects=3, rate=3e-4, dense=0.1, taught=0.15),
        ),
    ),
    # two steps of each kind, for tests
    "smoke": Recipe(
        stages=(
            Stage(steps=2, clips=2, style=Style(size=64, frames=2, layers=2), objects=2, memory=False, dense=1.0),
            Stage(steps=2, clips=2, style=Style(size=64, frames=3, layers=2), objects=2),
        ),
        warm_up=1,
    ),
}

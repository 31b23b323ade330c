"""Recipes: in what order a model learns. Stills first, then two frames, then clips with their own memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sam2track.errors import ConfigError, nearest
from sam2track.network.variants import VARIANTS
from sam2track.train.losses import LossWeights
from sam2track.train.style import Style


@dataclass(frozen=True, slots=True)
class Stills:
    """Pictures that are learned beside the clips of a step, by prompts alone: each costs a fraction of a clip.

    Attributes:
        count: pictures a step.
        style: what they look like; of one frame, and of the size of the clips.
        objects: objects prompted in each picture, all on one encoding.
    """

    count: int
    style: Style
    objects: int = 4


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
        imitate: weight of the loss that has the image encoder imitate a teacher.
        taught: share of objects whose memory is written from the truth rather than from the network's own masks.
        corrected: share of objects that get a corrective click on a later frame.
        prompted: frames of a clip on which clicks and boxes are learned: the first, and others drawn by chance.
        stills: pictures that are learned beside the clips, if any.
    """

    steps: int
    clips: int
    style: Style
    objects: int = 3
    memory: bool = True
    rate: float = 1e-3
    dense: float = 0.0
    imitate: float = 0.0
    taught: float = 0.0
    corrected: float = 0.0
    prompted: int = 1
    stills: Stills | None = None

    @property
    def frames(self) -> int:
        """Pictures a step, in clips and beside them."""
        return self.clips * self.style.frames + (self.stills.count if self.stills else 0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Stages, and what they share.

    Attributes:
        stages: one after another.
        losses: weights of the loss.
        weight_decay: of matrices.
        clip_norm: largest norm of a gradient.
        warm_up: steps, of each stage.
        ema: decay of the moving average of the weights, a step.
        layer_decay: a block of the image encoder learns at this times the rate of the block after it.
        pretrained: goes out from trained weights, at the image size of the model.
    """

    stages: tuple[Stage, ...]
    losses: LossWeights = field(default_factory=LossWeights)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    warm_up: int = 100
    ema: float = 0.995
    layer_decay: float = 1.0
    pretrained: bool = False

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


def recipe_for(name: str, model: str) -> Recipe:
    """A recipe by its name; one for trained weights at the image size of ``model``.

    Raises:
        ConfigError: there is no such recipe or model.
    """
    for word, known in ((name, RECIPES), (model, VARIANTS)):
        if word not in known:
            raise ConfigError(f"{'recipe' if known is RECIPES else 'model'} {word!r} is unknown{nearest(word, known)}")
    recipe = RECIPES[name]
    return adapted(recipe, size=VARIANTS[model].image_size) if recipe.pretrained else recipe


def adapted(
    recipe: Recipe,
    *,
    length: float = 1.0,
    clips: int | None = None,
    size: int | None = None,
    frames: int | None = None,
    rate: float | None = None,
) -> Recipe:
    """The same recipe with ``length`` times the steps, and in every stage what else is given.

    ``clips`` a step, image ``size`` in pixels, ``frames`` a clip and peak ``rate``.
    """
    stages = []
    for stage in recipe.stages:
        style = replace(stage.style, size=size or stage.style.size, frames=frames or stage.style.frames)
        steps, stills = max(1, round(stage.steps * length)), stage.stills
        if stills is not None:
            stills = replace(stills, style=replace(stills.style, size=style.size))
        changed = replace(stage, steps=steps, clips=clips or stage.clips, rate=rate or stage.rate)
        stages.append(replace(changed, style=style, stills=stills))
    return replace(recipe, stages=tuple(stages))


def settings(recipe: Recipe) -> dict[str, Any]:
    """Every number of a recipe by its path, such as ``stages.0.steps``; of what is in a row, their count too."""
    return dict(_flat(asdict(recipe), ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        yield path, len(value)
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield path, value
        return
    for name, each in value.items():
        yield from _flat(each, f"{path}.{name}".lstrip("."))


_EASY = Style(size=128, frames=2, layers=3, extent=(0.3, 0.85), speed=0.1, twins=0.1, leaving=0.0, degrade=0.4)
_PAIRS = Style(size=128, frames=2, layers=4, extent=(0.2, 0.8), speed=0.1, twins=0.3, leaving=0.2)
_CLIPS = Style(size=128, frames=4, layers=4, extent=(0.2, 0.8), speed=0.06, twins=0.3, leaving=0.25)
_LARGER = Style(size=192, frames=4, layers=4, extent=(0.15, 0.75), speed=0.05, textured=0.4, twins=0.3, leaving=0.25)
_FULL = Style(size=256, frames=5, layers=4, extent=(0.12, 0.75), speed=0.04, textured=0.4, twins=0.3, leaving=0.25)
_WIDE = Style(size=256, frames=6, layers=6, extent=(0.08, 0.8), speed=0.05, textured=0.5, twins=0.3, leaving=0.25)
_PARTS = replace(_WIDE, jointed=0.35, degrade=0.8)
_LARGE = replace(_WIDE, size=320, camouflaged=0.4, jointed=0.2, degrade=0.6)
_LIMBS = replace(_LARGE, frames=5, camouflaged=0.2, parts=3, jointed=0.65)
_MIXED = replace(_LIMBS, camouflaged=0.25, jointed=0.5)
_STILLS = replace(_WIDE, size=320, frames=1, textured=0.4, camouflaged=0.1, jointed=0.2)

RECIPES: dict[str, Recipe] = {
    # for two CPU cores and an hour or two
    "cpu": Recipe(
        stages=(
            Stage(steps=500, clips=8, style=_EASY, objects=2, memory=False, dense=1.0),
            Stage(steps=900, clips=8, style=_PAIRS, objects=2, dense=0.5),
            Stage(steps=1000, clips=5, style=_CLIPS, objects=3, rate=8e-4, dense=0.3, taught=0.7),
            Stage(steps=600, clips=3, style=_LARGER, objects=3, rate=5e-4, dense=0.1, taught=0.3, corrected=0.3),
            Stage(steps=440, clips=2, style=_FULL, objects=3, rate=3e-4, dense=0.1, taught=0.15, corrected=0.3),
        ),
    ),
    # for two CPU cores and another hour or two, from the weights of `cpu`
    "cpu-more": Recipe(
        stages=(
            Stage(
                steps=1950,
                clips=4,
                style=replace(_LARGER, degrade=0.8),
                rate=5e-4,
                dense=0.1,
                taught=0.2,
                corrected=0.2,
            ),
            Stage(
                steps=600, clips=2, style=replace(_WIDE, layers=4), rate=3e-4, dense=0.05, taught=0.05, corrected=0.3
            ),
        ),
        ema=0.998,
    ),
    # for two CPU cores and another hour and a half, from the weights of `cpu-more`; best as two processes in bf16
    "cpu-finish": Recipe(
        stages=(
            Stage(
                steps=1800,
                clips=4,
                style=replace(_PARTS, size=192, frames=4),
                rate=3e-4,
                dense=0.1,
                imitate=0.5,
                taught=0.1,
                corrected=0.3,
            ),
            Stage(steps=1200, clips=2, style=_PARTS, rate=2e-4, dense=0.05, imitate=0.2, corrected=0.3),
        ),
        ema=0.998,
    ),
    # for two CPU cores and an hour, from the weights of `cpu-finish`: larger pictures
    "cpu-large": Recipe(
        stages=(Stage(steps=2200, clips=1, style=_LARGE, rate=1.5e-4, imitate=0.2, corrected=0.15),),
        ema=0.998,
    ),
    # for two CPU cores and half an hour, from the mean of those two: objects of three unlike parts
    "cpu-parts": Recipe(
        stages=(Stage(steps=1300, clips=1, style=_LIMBS, rate=1.5e-4, imitate=0.2, corrected=0.15),),
        warm_up=60,
        ema=0.995,
    ),
    # for two CPU cores and two hours, from the mean of that and its start: fewer joints, clicks and boxes on later
    # frames too
    "cpu-long": Recipe(
        stages=(
            Stage(steps=3400, clips=1, style=_MIXED, rate=2e-4, imitate=0.2, corrected=0.15, prompted=2),
            Stage(
                steps=1400,
                clips=1,
                style=replace(_MIXED, frames=6),
                rate=1e-4,
                imitate=0.1,
                corrected=0.15,
                prompted=3,
            ),
        ),
        ema=0.998,
    ),
    # for two CPU cores and an hour and a half, from three parts of that and one of its start: a lower rate
    "cpu-fall": Recipe(
        stages=(
            Stage(
                steps=2200,
                clips=1,
                style=replace(_MIXED, frames=6),
                rate=1e-4,
                imitate=0.1,
                corrected=0.15,
                prompted=2,
            ),
        ),
        ema=0.998,
    ),
    # for two CPU cores and an hour and three quarters, from those weights: many more clicks and boxes, on stills
    "cpu-clicks": Recipe(
        stages=(
            Stage(
                steps=3200,
                clips=1,
                style=_MIXED,
                objects=2,
                rate=2e-4,
                imitate=0.1,
                corrected=0.15,
                stills=Stills(count=8, style=_STILLS),
            ),
        ),
        losses=LossWeights(chosen=0.5),
        ema=0.998,
    ),
    # for one large GPU in bf16, up to 45 GB of it, and half an hour; `length` is set by a measurement. 768 frames a
    # step at 256 px, whatever their arrangement: enough work to hide the launches, one shape for a compiled encoder
    "gpu": Recipe(
        stages=(
            Stage(steps=2000, clips=512, style=_EASY, objects=2, memory=False, rate=2e-3, dense=1.0),
            Stage(steps=2000, clips=256, style=replace(_PAIRS, size=192), rate=1.5e-3, dense=0.5, taught=0.5),
            Stage(steps=2000, clips=192, style=replace(_WIDE, frames=4), rate=1.2e-3, taught=0.5, corrected=0.2),
            Stage(steps=2000, clips=128, style=_WIDE, taught=0.2, corrected=0.3),
            Stage(steps=2000, clips=96, style=replace(_WIDE, frames=8), rate=5e-4, taught=0.05, corrected=0.3),
        ),
        warm_up=200,
        ema=0.998,
    ),
    # from trained weights, on real clips, synthetic ones or both
    "finetune": Recipe(
        stages=(Stage(steps=1000, clips=1, style=replace(_WIDE, degrade=0.3), rate=1e-5, corrected=0.5),),
        weight_decay=0.1,
        clip_norm=0.1,
        layer_decay=0.9,
        ema=0.99,
        pretrained=True,
    ),
    # two steps of each kind, for tests
    "smoke": Recipe(
        stages=(
            Stage(steps=2, clips=2, style=Style(size=64, frames=2, layers=2), objects=2, memory=False, dense=1.0),
            Stage(steps=2, clips=2, style=Style(size=64, frames=3, layers=2), objects=2, taught=0.3, corrected=0.5),
        ),
        warm_up=1,
    ),
}

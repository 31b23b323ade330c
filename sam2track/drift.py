"""What a configuration costs in accuracy: how far it drifts from another on the same clip, and which component drifts.

Both configurations track the same frames from the same prompts, side by side. Their masks are compared
frame by frame. Beside that, every component of the first is fed the very inputs that the reference's
component was given, so that an error made by one component is not counted against those after it.
Nothing is stored but sums: a clip may be as long as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from sam2track import backends
from sam2track.config import Config
from sam2track.contracts import CONTRACTS, Components
from sam2track.data import Frame, FrameResult, Prompt
from sam2track.masks.metrics import iou
from sam2track.schedule import Round, Schedule
from sam2track.tracker import Tracker


@dataclass(slots=True)
class MaskDrift:
    """How the masks of one object agree.

    Attributes:
        frames: index of each frame compared.
        ious: IoU of the two masks on each of them, in [0, 1]; 1 where both are empty.
        visibility: frames on which only one of the two says that the object is visible.
    """

    frames: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    visibility: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean IoU."""
        return sum(self.ious) / len(self.ious)

    @property
    def worst(self) -> tuple[int, float]:
        """The frame that agrees least, and its IoU."""
        value = min(self.ious)
        return self.frames[self.ious.index(value)], value

    def first_below(self, threshold: float) -> int | None:
        """The first frame whose IoU is under ``threshold``; None when none is."""
        return next((i for i, value in zip(self.frames, self.ious, strict=True) if value < threshold), None)


@dataclass(slots=True)
class OutputDrift:
    """How one output of a component drifts, fed the reference's inputs.

    Attributes:
        calls: how often it was compared.
        worst: the largest relative error of a call.
    """

    calls: int = 0
    worst: float = 0.0
    _error: float = 0.0
    _norm: float = 0.0

    @property
    def relative_error(self) -> float:
        """||y - reference|| / ||reference|| over all calls together."""
        return _ratio(self._error, self._norm)

    def add(self, output: Tensor, reference: Tensor) -> None:
        """Count one call."""
        y, r = output.detach().double().cpu(), reference.detach().double().cpu()
        error, norm = float((y - r).square().sum()), float(r.square().sum())
        self.calls += 1
        self.worst = max(self.worst, _ratio(error, norm))
        self._error += error
        self._norm += norm


@dataclass(frozen=True, slots=True)
class Drift:
    """What ``compare`` found.

    Attributes:
        masks: object id -> agreement of its masks.
        components: component -> output -> its drift; empty when the two models differ in size, and a
            component that was never called has no entry. Making a tracker calls the prompt encoder once.
        placement: where the components of the configuration run.
        against: where those of the reference run.
    """

    masks: dict[int, MaskDrift]
    components: dict[str, dict[str, OutputDrift]]
    placement: dict[str, str]
    against: dict[str, str]


def compare(
    frames: Iterable[Frame],
    prompts: Mapping[int, Mapping[int, Prompt]],
    config: Config,
    against: Config,
    progress: Callable[[FrameResult], None] = lambda _: None,
) -> Drift:
    """Track ``frames`` under ``config`` and under ``against``, and compare.

    Args:
        frames: any iterable of frames.
        prompts: frame index -> object id -> prompt.
        config: the configuration in question.
        against: the reference.
        progress: called after each frame, with the first configuration's result.

    Raises:
        PromptError: a prompt past the last frame, or one that cannot be used.
        BackendError: a component that cannot run where it is pinned.
        WeightsError: weights that are missing, damaged or of another model.
    """
    ours, reference = backends.load(config), backends.load(against)
    drifts: dict[str, dict[str, OutputDrift]] = {}
    if ours.sizes == reference.sizes:
        reference = _shadowed(reference, ours, drifts)
    tracker, other = Tracker(ours, config), Tracker(reference, against)
    schedule = Schedule(prompts)
    masks: dict[int, MaskDrift] = {}
    count = 0
    for frame in frames:
        count = frame.index + 1
        _, rounds = schedule.take(frame.index)
        result, expected = _tracked(tracker, frame, rounds), _tracked(other, frame, rounds)
        for object_id, prediction in result.objects.items():
            truth = expected.objects[object_id]
            entry = masks.setdefault(object_id, MaskDrift())
            entry.frames.append(frame.index)
            entry.ious.append(iou(prediction.mask, truth.mask))
            if prediction.visible != truth.visible:
                entry.visibility.append(frame.index)
        progress(result)
    schedule.check_all_given(count)
    ordered = {name: drifts[name] for name in CONTRACTS if name in drifts}
    return Drift(masks, ordered, dict(ours.placement), dict(reference.placement))


def _shadowed(reference: Components, other: Components, drifts: dict[str, dict[str, OutputDrift]]) -> Components:
    """``reference``, each call of which is also given to ``other``; how its outputs differ is added to ``drifts``."""

    def both(name: str) -> Callable[..., Any]:
        expected, shadow = getattr(reference, name), getattr(other, name)
        ports = CONTRACTS[name].outputs

        def call(*tensors: Tensor | None) -> Any:
            outputs = expected(*tensors)
            entry = drifts.setdefault(name, {port.name: OutputDrift() for port in ports})
            for port, y, r in zip(ports, _tuple(shadow(*tensors)), _tuple(outputs), strict=True):
                entry[port.name].add(y, r)
            return outputs

        return call

    calls: dict[str, Any] = {name: both(name) for name in CONTRACTS}
    return replace(reference, **calls)


def _tracked(tracker: Tracker, frame: Frame, rounds: list[Round]) -> FrameResult:
    result = tracker.step(frame, rounds[0] if rounds else {})
    for corrections in rounds[1:]:
        result = replace(result, objects={**result.objects, **tracker.refine(corrections).objects})
    return result


def _tuple(outputs: Any) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _ratio(error: float, norm: float) -> float:
    """The root of error / norm; infinite where an output is not finite, or there is error but no norm."""
    if not math.isfinite(error) or (error and not norm):
        return math.inf
    return math.sqrt(error / norm) if norm else 0.0

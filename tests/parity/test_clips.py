"""Whole clips against the official package: at most 0.1 % of mask pixels differ, visibility is equal.

Both keep memory in bf16, so rounding noise of fp32 can turn a bit there; ``test_rounding_apart`` keeps
memory in fp32 on both sides and finds no difference at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import sam2.sam2_video_predictor
import torch
from torch import Tensor

from sam2track import steps
from sam2track.data import Prompt
from sam2track.network.variants import VARIANTS, Variant
from tests.parity import oracle, scripts
from tests.parity.scripts import SIZE, Do, Script, Track
from tests.parity.test_components import NARROW, SAM_2

pytestmark = pytest.mark.parity

FRAMES = 20
TOLERANCE = 1e-3
MODELS: dict[str, tuple[Variant, int]] = {
    "nano": (VARIANTS["nano"], 160),
    "tiny": (VARIANTS["sam2.1-tiny"], 128),
    "narrow": (NARROW, 192),
    "SAM 2": (SAM_2, 128),
}


def ellipse(x: float, y: float, width: float, height: float) -> Prompt:
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return Prompt(mask=((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 1)


CLICK = Prompt(points=[(40, 30)])
BOX = Prompt(box=(60.5, 40, 110, 90))
TWO_CLICKS = Prompt(points=[(40, 30), (100, 70.5)], labels=[1, 0])
THREE_CLICKS = Prompt(points=[(90, 20), (30, 60), (64, 48)], labels=[1, 0, 1])
BOX_AND_CLICK = Prompt(points=[(50, 50)], labels=[0], box=(20, 10, 90, 80))
ELLIPSE = ellipse(70, 40, 30, 20)

SCRIPTS: dict[str, Script] = {
    "first click": {0: Do({1: CLICK})},
    "box": {0: Do({1: BOX})},
    "mask": {0: Do({1: ELLIPSE})},
    "box and click": {0: Do({1: BOX_AND_CLICK})},
    "two clicks": {0: Do({1: TWO_CLICKS})},
    "clicks refined on the first frame": {2: Do({1: CLICK}, again={1: THREE_CLICKS})},
    "correction": {0: Do({1: CLICK}), 9: Do({1: TWO_CLICKS}), 15: Do({1: Prompt(points=[(80, 60)])})},
    "correction refined": {0: Do({1: BOX}), 9: Do({1: CLICK}, again={1: THREE_CLICKS})},
    "correction by mask": {0: Do({1: CLICK}), 9: Do({1: ELLIPSE})},
    "several at once": {0: Do({7: CLICK, 2: THREE_CLICKS, 9: ELLIPSE, 4: BOX})},
    "second object midway": {0: Do({1: CLICK}), 8: Do({2: BOX}), 13: Do({2: TWO_CLICKS})},
    "removal": {0: Do({1: CLICK, 2: BOX, 3: ELLIPSE}), 8: Do(remove=(2,)), 14: Do({2: TWO_CLICKS}, remove=(1,))},
    "six corrections": {0: Do({1: CLICK})} | {t: Do({1: TWO_CLICKS}) for t in range(3, 19, 3)},
}
BUSY: Script = {
    0: Do({1: CLICK}),
    5: Do({2: BOX}, again={2: BOX_AND_CLICK}),
    8: Do({3: ELLIPSE}),
    12: Do({1: TWO_CLICKS}, again={1: THREE_CLICKS}),
    18: Do(remove=(2,)),
}


BASIC = ("first click", "box", "mask", "two clicks", "correction", "second object midway", "removal")


class Case(NamedTuple):
    """A model, a clip, and what the official package makes of it."""

    predictor: Any
    frames: Tensor
    track: Track


@functools.lru_cache(maxsize=8)
def build(model: str, seed: int, occluded: float) -> Any:
    return oracle.build_official(*MODELS[model], seed, occluded)


def lively(track: Track) -> bool:
    """Most masks are neither empty nor full, and they change."""
    areas = np.array([seen.mask.mean() for frame in track for seen in frame.values()])
    return bool(np.mean((areas > 0.03) & (areas < 0.95)) > 0.7 and areas.std() > 0.005)


def comes_and_goes(track: Track) -> bool:
    """The object is gone on some tracked frames, there on others."""
    hidden = [not seen.visible for frame in track[1:] for seen in frame.values()]
    return 0.1 < np.mean(hidden) < 0.9


def find_case(
    model: str,
    script: Script,
    seed: int,
    keep_corrections: bool = True,
    occluded: float = 0.0,
    fair: Callable[[Track], bool] = lively,
    count: int = FRAMES,
) -> Case:
    """The first of a few seeds whose official track is fair and turns on no coin's edge."""
    for attempt in range(seed, seed + 1000, 100):
        predictor = build(model, attempt, occluded)
        predictor.add_all_frames_to_correct_as_cond = keep_corrections
        frames = oracle.moving_texture(count, predictor.image_size, attempt + 50)
        track, decided = scripts.decisive(predictor, frames, script)
        if decided and fair(track):
            return Case(predictor, frames, track)
    raise AssertionError(f"no seed of {model} gives a track worth comparing")


def ours(case: Case, model: str, script: Script, **memory: object) -> Track:
    tracker = scripts.our_tracker(case.predictor, *MODELS[model], **memory)
    return scripts.run_ours(tracker, case.frames, script)


def assert_same(mine: Track, official: Track, tolerance: float = TOLERANCE) -> None:
    assert scripts.visibility(mine) == scripts.visibility(official)
    assert scripts.difference(mine, official) <= tolerance
    assert scripts.worst_frame(mine, official) <= 10 * tolerance  # no single frame is off


@pytest.mark.parametrize(("script", "seed"), [(script, 1) for script in SCRIPTS] + [(script, 0) for script in BASIC])
def test_nano(script: str, seed: int) -> None:
    case = find_case("nano", SCRIPTS[script], seed)
    assert_same(ours(case, "nano", SCRIPTS[script]), case.track)


@pytest.mark.parametrize("script", [BUSY, SCRIPTS["two clicks"]], ids=["busy", "two clicks"])
def test_tiny(script: Script) -> None:
    case = find_case("tiny", script, seed=0)
    assert_same(ours(case, "tiny", script), case.track)


@pytest.mark.parametrize("model", ["narrow", "SAM 2"])
def test_other_shapes_of_model(model: str) -> None:
    case = find_case(model, BUSY, seed=0)
    assert_same(ours(case, model, BUSY), case.track)


@pytest.mark.parametrize("script", ["correction", "correction refined", "correction by mask"])
def test_corrections_that_stay_ordinary_frames(script: str) -> None:
    case = find_case("nano", SCRIPTS[script], seed=1, keep_corrections=False)
    assert_same(ours(case, "nano", SCRIPTS[script], keep_corrections=False), case.track)
    assert scripts.difference(ours(case, "nano", SCRIPTS[script]), case.track) > TOLERANCE


@pytest.mark.parametrize(("model", "seed"), [("nano", 2), ("nano", 3), ("nano", 4), ("tiny", 3), ("SAM 2", 3)])
def test_negative_object_score(model: str, seed: int) -> None:
    script = {0: Do({1: CLICK}), 6: Do({2: ELLIPSE})}
    case = find_case(model, script, seed, occluded=0.4, fair=comes_and_goes)
    mine = ours(case, model, script)
    assert_same(mine, case.track)
    assert not any(seen.mask.any() for frame in mine for seen in frame.values() if not seen.visible)


def test_a_clip_shorter_than_the_pointer_window() -> None:
    """The official package divides the age of pointers by the clip's length then."""
    script = {0: Do({1: CLICK}), 2: Do({2: ELLIPSE})}
    case = find_case("nano", script, seed=2, count=8)
    assert_same(ours(case, "nano", script, pointers=8), case.track)
    assert scripts.difference(ours(case, "nano", script), case.track) > TOLERANCE


class _Float32Memory(ModuleType):
    """torch, but for what it calls bfloat16."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


@pytest.fixture
def _memory_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sam2.sam2_video_predictor, steps):
        monkeypatch.setattr(module, "torch", _Float32Memory("torch"))


@pytest.mark.usefixtures("_memory_in_fp32")
@pytest.mark.parametrize(
    ("model", "seed", "occluded", "keep_corrections"),
    [("nano", 0, 0.0, True), ("nano", 4, 0.3, False), ("narrow", 3, 0.3, True), ("SAM 2", 4, 0.0, False)],
)
def test_rounding_apart(model: str, seed: int, occluded: float, keep_corrections: bool) -> None:
    """A few stray pixels at most in a clip of 20 frames and up to three objects."""
    fair = comes_and_goes if occluded else lively
    case = find_case(model, BUSY, seed, keep_corrections, occluded, fair)
    mine = ours(case, model, BUSY, keep_corrections=keep_corrections)
    assert_same(mine, case.track, tolerance=1e-5)

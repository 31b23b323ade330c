"""Stills against the official package: the same pixels, scores and logits, resize included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import data

from sam2track.data import Image, Prompt
from sam2track.stills import StillResult
from tests.parity import oracle, stills

pytestmark = pytest.mark.parity

TOLERANCE = 1e-3  # of mask pixels
CLOSE = 1e-4  # of logits, relative; of scores, absolute
HEIGHT, WIDTH = 181, 243

CLICK = Prompt(points=[(130, 70)])
PROMPTS: dict[str, Prompt] = {
    "click": CLICK,
    "clicks": Prompt(points=[(130, 70), (20.5, 150), (90, 40)], labels=[1, 0, 1]),
    "box": Prompt(box=(60.5, 20, 200, 150)),
    "box and clicks": Prompt(points=[(100, 90), (70, 30)], labels=[1, 0], box=(40, 10, 180, 160)),
}


def picture(model: str) -> Image:
    if model == "nano":
        return np.ascontiguousarray(data.astronaut()[:HEIGHT, 100 : 100 + WIDTH])
    return stills.texture(HEIGHT, WIDTH, seed=5)


def asked(prompt: Prompt) -> dict[str, Any]:
    """The prompt as the official package takes it."""
    points = {"point_coords": np.array(prompt.points), "point_labels": np.array(prompt.labels)} if prompt.points else {}
    return points | ({"box": np.array(prompt.box)} if prompt.box else {})


def assert_same(mine: StillResult, official: tuple[Any, Any, Any]) -> None:
    masks, iou, logits = official
    assert mine.logits.shape == logits.shape
    assert logits.std() > 0.1, "a constant output proves nothing"
    assert np.linalg.norm(mine.logits - logits) / np.linalg.norm(logits) < CLOSE
    assert np.abs(mine.scores - iou).max() < CLOSE
    assert stills.differing(mine.masks, masks > 0) <= TOLERANCE


@pytest.mark.parametrize("multimask", [False, True], ids=["one mask", "three masks"])
@pytest.mark.parametrize("model", stills.MODELS)
def test_prompts(model: str, multimask: bool) -> None:
    """Each prompt, then each again with the mask before as its draft."""
    both = stills.both(model)
    official, mine = both.official_predictor(), both.ours()
    with oracle.quiet():
        official.set_image(picture(model))
    encoded = mine.encode(picture(model))
    for prompt in PROMPTS.values():
        theirs = official.predict(**asked(prompt), multimask_output=multimask)
        result = mine.segment(encoded, prompt, multimask=multimask)
        assert_same(result, theirs)
        draft = theirs[2][[0]]
        theirs = official.predict(**asked(prompt), mask_input=draft, multimask_output=multimask)
        assert_same(mine.segment(encoded, prompt, logits=draft, multimask=multimask), theirs)
        assert np.abs(theirs[2] - draft).max() > 0.1, "the draft was ignored, or nothing else was"


def test_both_kinds_of_single_mask_occur() -> None:
    """Among the prompts there are single masks that are stable, and some that give way to another."""
    both = stills.both("tiny")
    encoded = both.ours().encode(picture("tiny"))
    prompts = [Prompt(points=[(x, y)]) for x in range(20, 240, 60) for y in range(20, 180, 50)]
    dynamic = both.ours().segment_batch(encoded, prompts)
    fixed = both.ours(stable=False).segment_batch(encoded, prompts)
    gave_way = [not np.array_equal(a.logits, b.logits) for a, b in zip(dynamic, fixed, strict=True)]
    assert 0 < sum(gave_way) < len(prompts)
    official = both.official_predictor()
    with oracle.quiet():
        official.set_image(picture("tiny"))
    for prompt, result in zip(prompts, dynamic, strict=True):
        assert_same(result, official.predict(**asked(prompt), multimask_output=False))


@pytest.mark.parametrize("model", ["nano", "SAM 2"])
def test_a_draft_alone(model: str) -> None:
    both = stills.both(model)
    official, mine = both.official_predictor(), both.ours()
    with oracle.quiet():
        official.set_image(picture(model))
    draft = official.predict(**asked(CLICK), multimask_output=False)[2]
    theirs = official.predict(mask_input=draft, multimask_output=False)
    assert_same(mine.segment(picture(model), logits=draft[0]), theirs)


def test_a_batch_of_prompts_is_the_prompts_one_by_one() -> None:
    both = stills.both("tiny")
    official, mine = both.official_predictor(), both.ours()
    with oracle.quiet():
        official.set_image(picture("tiny"))
    results = mine.segment_batch(picture("tiny"), list(PROMPTS.values()), multimask=True)
    for prompt, result in zip(PROMPTS.values(), results, strict=True):
        assert_same(result, official.predict(**asked(prompt), multimask_output=True))


def test_a_batch_of_boxes() -> None:
    """What the official package calls batched prompts: one call, B boxes."""
    both = stills.both("narrow")
    official = both.official_predictor()
    boxes = np.array([[10, 10, 120, 90], [60.5, 20, 200, 150], [5, 60, 240, 180]])
    with oracle.quiet():
        official.set_image(picture("narrow"))
    masks, iou, logits = official.predict(box=boxes, multimask_output=False)
    results = both.ours().segment_batch(picture("narrow"), [Prompt(box=tuple(box)) for box in boxes])
    for row, result in enumerate(results):
        assert_same(result, (masks[row], iou[row], logits[row]))


def test_pictures_of_many_sizes() -> None:
    """Larger and smaller than the model's input, upright and lying, one as large as the input."""
    both = stills.both("SAM 2")
    official, mine = both.official_predictor(), both.ours()
    for height, width in [(400, 300), (90, 350), (128, 128), (40, 30)]:
        shown = stills.texture(height, width, seed=2)
        prompt = Prompt(points=[(width * 0.6, height * 0.4)])
        with oracle.quiet():
            official.set_image(shown)
        assert_same(mine.segment(shown, prompt, multimask=True), official.predict(**asked(prompt)))


def test_holes_and_sprinkles() -> None:
    both = stills.both("tiny")
    rules = {"max_hole_area": 60.0, "max_sprinkle_area": 60.0, "mask_threshold": 0.3}
    official = both.official_predictor(**rules)
    mine = both.ours(threshold=0.3, max_hole_area=60, max_sprinkle_area=60)
    plain = both.ours(threshold=0.3).segment(picture("tiny"), CLICK, multimask=True)
    with oracle.quiet():
        official.set_image(picture("tiny"))
        masks, iou, logits = official.predict(**asked(CLICK))
    result = mine.segment(picture("tiny"), CLICK, multimask=True)
    assert_same(result, (masks, iou, logits))
    changed = result.masks ^ plain.masks
    assert (changed & result.masks).any(), "no hole was filled"
    assert (changed & plain.masks).any(), "no speck was dropped"

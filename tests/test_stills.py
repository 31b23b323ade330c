"""Stills on a fake network, where what is bright is the object, and on nano."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sam2track as st
from sam2track.backends import fake
from sam2track.errors import ConfigError, PromptError, SourceError
from tests.clips import solid

CLICK = st.Prompt(points=[(40, 30)])


def bright_square() -> np.ndarray:
    image = solid((20, 20, 20), (64, 96))
    image[16:40, 24:60] = 240
    return image


@pytest.fixture
def segmenter() -> st.ImageSegmenter:
    return st.ImageSegmenter(fake.components(64))


def test_one_mask_or_three(segmenter: st.ImageSegmenter) -> None:
    result = segmenter.segment(bright_square(), CLICK)
    assert result.masks.shape == (1, 64, 96)
    assert result.masks.dtype == np.bool_
    assert abs(int(result.masks.sum()) - 24 * 36) < 250
    assert result.scores.tolist() == [0.5]
    assert result.logits.shape == (1, 16, 16)
    three = segmenter.segment(bright_square(), CLICK, multimask=True)
    assert three.masks.shape == (3, 64, 96)
    assert three.best == 0
    assert three.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert repr(three) == "StillResult(3 masks of 96x64, scores=[0.90, 0.80, 0.70])"


def test_values_for_other_tools(segmenter: st.ImageSegmenter) -> None:
    result = segmenter.segment(bright_square(), CLICK, multimask=True)
    detections = result.detections()
    assert len(detections) == 3
    assert detections.confidence.tolist() == pytest.approx([0.9, 0.8, 0.7])
    record = result.records()[0]
    x, y, width, height = record["bbox"]
    assert (x, y, x + width, y + height) == tuple(detections.xyxy[0])
    assert record["area"] == result.masks[0].sum()
    dark = segmenter.segment(solid((0, 0, 0)), CLICK)
    assert not dark.masks.any()
    assert len(dark.detections()) == 0
    assert dark.records()[0]["bbox"] == [0, 0, 0, 0]


def test_a_batch_has_results_in_the_order_of_its_prompts() -> None:
    """Prompts of one, two and three points, a mask and a draft alone, mixed: each as if it were alone."""
    nano = st.ImageSegmenter.load("nano")
    encoded = nano.encode(bright_square())
    draft = nano.segment(encoded, CLICK).logits[0]
    mask = np.zeros((64, 96), bool)
    mask[10:30, 20:50] = True
    prompts = [
        CLICK,
        st.Prompt(box=(20, 10, 70, 50)),
        None,
        st.Prompt(mask=mask),
        st.Prompt(points=[(5, 5)]),
        st.Prompt(points=[(50, 20)], labels=[0], box=(20, 10, 70, 50)),
        CLICK,
    ]
    logits = [None, None, draft, None, draft, None, draft]
    together = nano.segment_batch(encoded, prompts, logits)
    for prompt, prior, result in zip(prompts, logits, together, strict=True):
        alone = nano.segment(encoded, prompt, logits=prior)
        assert np.abs(alone.logits - result.logits).max() < 1e-3
        assert np.array_equal(alone.masks, result.masks)
    assert not np.allclose(together[0].logits, together[6].logits)


def test_a_batch_of_images_names_those_that_cannot_be_read(segmenter: st.ImageSegmenter, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no")
    batch = segmenter.encode_batch([bright_square(), tmp_path / "broken.jpg", bright_square()[:30, :50]])
    assert list(batch.encoded) == [0, 2]
    assert list(batch.errors) == [1]
    assert str(batch.errors[1]).startswith(f"image 1: {tmp_path / 'broken.jpg'} is no picture")
    assert segmenter.segment(batch.encoded[2], st.Prompt(points=[(30, 20)])).masks.shape == (1, 30, 50)


@pytest.mark.parametrize(
    ("prompt", "logits", "message"),
    [
        (st.Prompt(points=[(100, 30)]), None, r"point \(100, 30\) lies outside the 96x64 frame"),
        (st.Prompt(box=(200, 0, 300, 9)), None, "outside the 96x64 frame"),
        (st.Prompt(mask=np.ones((9, 9), bool)), None, "mask is 9x9 but the frame is 96x64"),
        (CLICK, np.zeros((8, 8)), r"logits 0 have shape \[8, 8\]; this model takes \[16, 16\]"),
        (CLICK, np.full((16, 16), np.nan), "logits 0 are not all finite"),
        (st.Prompt(mask=np.ones((64, 96), bool)), np.zeros((16, 16)), "has a mask and logits"),
        (None, None, "prompt 0 is None and has no logits"),
        ((40, 30), None, "prompt 0 is a tuple"),
    ],
)
def test_bad_prompts_are_named(segmenter: st.ImageSegmenter, prompt: object, logits: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        segmenter.segment(bright_square(), prompt, logits=logits)
    assert segmenter.segment(bright_square(), CLICK).masks.any()


def test_batches_of_unequal_length_are_refused(segmenter: st.ImageSegmenter) -> None:
    with pytest.raises(PromptError, match="2 prompts but 1 logits"):
        segmenter.segment_batch(bright_square(), [CLICK, CLICK], [None])


def test_rules_are_checked() -> None:
    with pytest.raises(ConfigError, match="mask threshold is nan"):
        st.MaskRules(threshold=float("nan"))
    with pytest.raises(ConfigError, match="max_hole_area is -1; expected low-resolution pixels"):
        st.MaskRules(max_hole_area=-1)


def test_segment_loads_a_model_or_takes_one(segmenter: st.ImageSegmenter, tmp_path: Path) -> None:
    assert st.segment(bright_square(), CLICK, segmenter).scores.tolist() == [0.5]
    assert st.segment(bright_square(), CLICK, "nano").logits.shape == (1, 80, 80)
    (tmp_path / "x.png").touch()
    with pytest.raises(SourceError, match="no picture"):
        st.segment(tmp_path / "x.png", CLICK, segmenter)

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import sam2track as st
from sam2track.backends import fake
from sam2track.discovery import picture
from sam2track.errors import PromptError
from tests.clips import solid

RULES = st.DiscoveryRules(points_per_side=4, pred_iou_thresh=0.5, stability_score_thresh=0.3)


def bright_square() -> np.ndarray:
    image = solid((20, 20, 20), (64, 96))
    image[16:40, 24:60] = 240
    return image


@pytest.fixture
def segmenter() -> st.ImageSegmenter:
    return st.ImageSegmenter(fake.components(64))


def test_what_is_bright_is_found_once(segmenter: st.ImageSegmenter) -> None:
    found = st.discover(bright_square(), segmenter, RULES)
    assert len(found) == 1
    x0, y0, x1, y1 = found[0].box
    assert np.abs(np.array([x0, y0, x1, y1]) - (24, 16, 60, 40)).max() <= 4
    assert found[0].mask[17:39, 28:56].all()
    assert found[0].area == found[0].mask.sum()
    assert found[0].score == pytest.approx(0.9)
    assert len(st.discover(solid((0, 0, 0)), segmenter, RULES)) == 0


def test_clicks_only_where_it_is_asked_to(segmenter: st.ImageSegmenter) -> None:
    left = np.zeros((64, 96), bool)
    left[:, :30] = True
    found = st.discover(bright_square(), segmenter, RULES, within=left)
    assert len(found) == 1
    assert found[0].point[0] < 30
    assert len(st.discover(bright_square(), segmenter, RULES, within=~np.ones_like(left))) == 0
    with pytest.raises(PromptError, match=r"within is bool\[9, 9\]; expected bool \[64, 96\]"):
        st.discover(bright_square(), segmenter, RULES, within=np.ones((9, 9), bool))


def test_the_picture_is_encoded_once_and_each_crop_once() -> None:
    components = fake.components(64)
    seen: list[int] = []

    def image_encoder(image: torch.Tensor) -> Any:
        seen.append(1)
        return components.image_encoder(image)

    segmenter = st.ImageSegmenter(replace(components, image_encoder=image_encoder))
    encoded = segmenter.encode(bright_square())
    st.discover(encoded, segmenter, RULES)
    assert len(seen) == 1
    st.discover(encoded, segmenter, replace(RULES, crop_n_layers=1))
    assert len(seen) == 1 + 4


def test_few_masks_exist_as_pixels_at_once(segmenter: st.ImageSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clicks are decoded together, and with the same masks."""
    monkeypatch.setattr(picture, "ENLARGED", 5 * 64 * 96)
    sizes: list[int] = []
    plain = st.ImageSegmenter.enlarge

    def enlarge(self: st.ImageSegmenter, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        sizes.append(len(logits))
        return plain(self, logits, size)

    monkeypatch.setattr(st.ImageSegmenter, "enlarge", enlarge)
    assert len(st.discover(bright_square(), segmenter, RULES)) == 1
    assert sum(sizes) == 4 * 4 * 3
    assert max(sizes) == 5

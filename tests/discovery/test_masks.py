from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2track.data import Box
from sam2track.discovery.masks import DiscoveredMask, DiscoveredMasks, cut_by_crop, suppress
from sam2track.masks import rle
from tests.parity import vision


def found(box: Box, score: float = 0.9) -> DiscoveredMask:
    mask = np.zeros((100, 100), bool)
    x0, y0, x1, y1 = map(int, box)
    mask[y0:y1, x0:x1] = True
    return DiscoveredMask(rle.encode(mask), int(mask.sum()), box, score, 1.0, (x0, y0), (0, 0, 100, 100))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_suppression_is_that_of_a_plain_double_loop(threshold: float, ties: bool) -> None:
    random = np.random.default_rng(7)
    corners = random.integers(0, 60, (120, 2))
    sides = random.integers(1, 40, (120, 2))  # some are one pixel wide or high: boxes without an area
    masks = [found((*map(float, c), *map(float, c + s))) for c, s in zip(corners, sides, strict=True)]
    ranks = random.integers(0, 4, 120) / 4 if ties else random.uniform(size=120)
    boxes = torch.tensor([mask.box for mask in masks]) - torch.tensor([0.0, 0, 1, 1])
    expected = vision.batched_nms(boxes, torch.tensor(ranks), torch.zeros(120), threshold)
    kept = suppress(masks, ranks.tolist(), threshold)
    assert [masks.index(mask) for mask in kept] == expected.tolist()
    assert (0 < len(kept) < 120) == (threshold < 1)


def test_suppression_of_nothing() -> None:
    assert suppress([], [], 0.7) == []


def test_a_box_is_cut_by_a_crop_but_not_by_the_picture() -> None:
    crop = (0, 50, 100, 200)  # of a picture of 300 x 200
    assert cut_by_crop((30, 60, 50, 90), crop, 200, 300)  # near the crop's upper edge
    assert cut_by_crop((30, 100, 90, 120), crop, 200, 300)  # near its right edge
    assert not cut_by_crop((0, 100, 60, 200), crop, 200, 300)  # left and bottom are the picture's own
    assert not cut_by_crop((30, 100, 50, 120), crop, 200, 300)


def test_records_and_detections() -> None:
    masks = DiscoveredMasks((100, 100), (found((10, 20, 40, 30), 0.75), found((50, 50, 51, 52), 0.5)))
    record = masks.records()[0]
    assert record["bbox"] == [10, 20, 30, 10]
    assert record["area"] == 300
    assert record["crop_box"] == [0, 0, 100, 100]
    assert record["predicted_iou"] == 0.75
    assert np.array_equal(masks.records(as_masks=True)[0]["segmentation"], rle.decode(record["segmentation"]))
    detections = masks.detections()
    assert detections.xyxy.tolist() == [[10, 20, 40, 30], [50, 50, 51, 52]]
    assert detections.mask.sum(axis=(1, 2)).tolist() == [300, 2]
    assert len(DiscoveredMasks((100, 100), ()).detections()) == 0

"""Automatic masks against the official package: the same set of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import data

from sam2track.data import Image
from sam2track.discovery import DiscoveryRules, discover
from tests.parity import oracle, stills

pytestmark = pytest.mark.parity

TOLERANCE = 1e-3  # of mask pixels
HEIGHT, WIDTH = 150, 210

OWN = np.random.default_rng(0).uniform(0.02, 0.98, (20, 2))
SETTINGS: dict[str, dict[str, Any]] = {
    "grid": {"points_per_side": 8},
    "batches of odd size": {"points_per_side": 7, "points_per_batch": 10},
    "crops": {"points_per_side": 6, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2},
    "two layers of crops": {"points_per_side": 4, "crop_n_layers": 2, "crop_overlap_ratio": 0.5},
    "one mask a click": {"points_per_side": 8, "multimask_output": False, "stability_score_thresh": 0.2},
    "refined": {"points_per_side": 6, "use_m2m": True},
    "regions": {"points_per_side": 8, "min_mask_region_area": 40},
    "own grid": {"points_per_side": None, "point_grids": [OWN], "stability_score_thresh": 0.2},
    "other cuts": {"points_per_side": 8, "mask_threshold": 0.2, "stability_score_offset": 0.5},
    "few duplicates": {"points_per_side": 8, "stability_score_thresh": 0.3, "box_nms_thresh": 0.3},
}
# Neither model is sure of much, and the masks of drawn weights are strewn over the whole picture.
LENIENT: dict[str, dict[str, Any]] = {
    "nano": {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.4},
    "drawn nano": {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.6, "box_nms_thresh": 1, "crop_nms_thresh": 1},
}


def picture(model: str) -> Image:
    if model == "nano":
        return np.ascontiguousarray(data.astronaut()[:HEIGHT, 100 : 100 + WIDTH])
    return stills.texture(HEIGHT, WIDTH, seed=5)


def rules(settings: dict[str, Any]) -> DiscoveryRules:
    return DiscoveryRules(**{key: value for key, value in settings.items() if value is not None})


# The masks of drawn weights are all as large as the picture, so no two would be left where boxes are compared.
CASES = [(model, name) for model in LENIENT for name in SETTINGS if model == "nano" or name != "few duplicates"]


@pytest.mark.parametrize(("model", "name"), CASES)
def test_the_same_masks(model: str, name: str) -> None:
    both = stills.both(model)
    settings = LENIENT[model] | SETTINGS[name]
    with oracle.quiet():
        official = both.official_generator(**settings, output_mode="binary_mask").generate(picture(model))
    mine = discover(picture(model), both.ours(), rules(settings)).records(as_masks=True)

    assert len(official) > 3, "too few masks to prove anything"
    assert len(mine) == len(official)
    for ours, theirs in zip(mine, official, strict=True):  # in the same order, too
        assert stills.differing(ours["segmentation"], theirs["segmentation"]) <= TOLERANCE
        assert abs(ours["area"] - theirs["area"]) <= TOLERANCE * theirs["area"]
        assert np.allclose(ours["bbox"], np.add(theirs["bbox"], (0, 0, 1, 1)), atol=1)
        assert ours["crop_box"] == theirs["crop_box"]
        assert np.allclose(ours["point_coords"], theirs["point_coords"], atol=1e-3)
        assert abs(ours["predicted_iou"] - theirs["predicted_iou"]) < 1e-4
        assert abs(ours["stability_score"] - theirs["stability_score"]) < 2e-3


def test_every_filter_drops_something() -> None:
    """On the picture of the tests above, each rule alone changes what is found."""
    segmenter = stills.both("nano").ours()
    base = LENIENT["nano"] | {"points_per_side": 6, "crop_n_layers": 1, "stability_score_thresh": 0.3}

    def count(**changes: Any) -> int:
        return len(discover(picture("nano"), segmenter, rules(base | changes)))

    usual = count()
    assert count(pred_iou_thresh=0) > usual
    assert count(stability_score_thresh=0.1) > usual
    assert count(box_nms_thresh=0.3) < usual
    assert count(crop_nms_thresh=0.3) < usual

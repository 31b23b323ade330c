"""``SAM2AutomaticMaskGenerator`` beside the official one."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from sam2track.compat.sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2track.compat.sam2.build_sam import build_sam2
from sam2track.errors import ConfigError
from tests.parity import oracle, stills

pytestmark = pytest.mark.parity

PICTURE = stills.texture(90, 130, seed=5)
SETTINGS: dict[str, Any] = {"points_per_side": 6, "pred_iou_thresh": 0.1, "stability_score_thresh": 0.2}

README = """
from sam2.build_sam import build_sam2
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

sam2 = build_sam2(model_cfg, sam2_checkpoint, device="cpu", apply_postprocessing=True)
mask_generator = SAM2AutomaticMaskGenerator(sam2)
masks = mask_generator.generate(image)

mask_generator_2 = SAM2AutomaticMaskGenerator(
    model=sam2,
    points_per_side=6,
    points_per_batch=128,
    pred_iou_thresh=0.1,
    stability_score_thresh=0.2,
    stability_score_offset=0.7,
    crop_n_layers=1,
    box_nms_thresh=0.7,
    crop_n_points_downscale_factor=2,
    min_mask_region_area=25.0,
    use_m2m=True,
)
masks2 = mask_generator_2.generate(image)
"""


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_records_are_the_official_ones(mode: str) -> None:
    with oracle.quiet():
        official = stills.both("nano").official_generator(**SETTINGS, output_mode=mode).generate(PICTURE)
    mine = SAM2AutomaticMaskGenerator(build_sam2("nano", device="cpu"), **SETTINGS, output_mode=mode).generate(PICTURE)
    assert len(mine) == len(official) > 2
    for ours, theirs in zip(mine, official, strict=True):
        assert list(ours) == list(theirs)
        assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in theirs.items()}
        assert ours["bbox"] == theirs["bbox"]
        assert ours["area"] == theirs["area"]
        assert ours["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-4)
        assert ours["crop_box"] == theirs["crop_box"]
        assert np.allclose(ours["point_coords"], theirs["point_coords"], atol=1e-4)
        assert np.array_equal(ours["segmentation"], theirs["segmentation"])


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools, of its own arrays
def test_the_mask_of_a_coco_record_is_what_pycocotools_reads() -> None:
    settings = SETTINGS | {"points_per_side": 3}
    model = build_sam2("nano", device="cpu")
    rles, masks = (
        SAM2AutomaticMaskGenerator(model, **settings, output_mode=mode).generate(PICTURE)
        for mode in ("coco_rle", "binary_mask")
    )
    for rle, mask in zip(rles, masks, strict=True):
        assert np.array_equal(coco.decode(rle["segmentation"]).astype(bool), mask["segmentation"])


def test_the_notebook_example_runs_with_the_import_changed() -> None:
    names: dict[str, Any] = {"model_cfg": "nano", "sam2_checkpoint": None, "image": PICTURE}
    exec(README.replace("from sam2.", "from sam2track.compat.sam2."), names)
    assert isinstance(names["masks"], list)
    assert names["masks2"]
    assert names["masks2"][0]["segmentation"].shape == PICTURE.shape[:2]


def test_arguments_have_the_official_names_order_and_defaults() -> None:
    both = stills.both("nano").official_generator(**SETTINGS)
    ours, theirs = (inspect.signature(c).parameters for c in (SAM2AutomaticMaskGenerator, type(both)))
    assert [(p.name, p.default) for p in ours.values()] == [
        (p.name, p.default) for p in theirs.values() if p.name != "kwargs"
    ]


def test_bad_settings_are_named() -> None:
    model = build_sam2("nano", device="cpu")
    for settings, message in (
        ({"points_per_side": None}, "points_per_side and point_grids say the same"),
        ({"output_mode": "coco"}, "output_mode 'coco' is unknown; did you mean 'coco_rle'"),
        ({"pred_iou_thresh": 2}, "pred_iou_thresh is 2; expected 0 to 1"),
        ({"points_per_side": None, "point_grids": [np.array([[1.5, 0]])]}, "x and y in 0 to 1"),
        ({"points_per_side": None, "point_grids": []}, "point_grids has 0 grids for 0 layers of crops; expected 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            SAM2AutomaticMaskGenerator(model, **settings)

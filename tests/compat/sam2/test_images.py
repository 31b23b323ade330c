"""``SAM2ImagePredictor`` beside the official one: names, arguments, shapes, dtypes and values."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from sam2track.compat.sam2.build_sam import build_sam2
from sam2track.compat.sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2track.errors import PromptError, SourceError
from tests.parity import oracle, stills

pytestmark = pytest.mark.parity

PICTURE = stills.texture(90, 130, seed=5)
SIDE = 80  # of nano's low-resolution logits

README = """
import torch
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

checkpoint = None
model_cfg = "nano"
predictor = SAM2ImagePredictor(build_sam2(model_cfg, checkpoint))

with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
    predictor.set_image(image)
    masks, _, _ = predictor.predict(point_coords=point, point_labels=label)
"""


@pytest.fixture(scope="module")
def pair() -> tuple[Any, SAM2ImagePredictor]:
    """The official predictor and ours, both with nano's weights and the same picture."""
    official = stills.both("nano").official_predictor()
    mine = SAM2ImagePredictor(build_sam2("nano", device="cpu"))
    with oracle.quiet():
        official.set_image(PICTURE)
    mine.set_image(PICTURE)
    return official, mine


def assert_same(mine: Any, official: Any) -> None:
    for ours, theirs in zip(mine, official, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == np.float32
        assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs)


POINT = {"point_coords": np.array([[60, 40]]), "point_labels": np.array([1])}
BOXES = np.array([[10, 10, 100, 70], [30, 20, 120, 80.5]])
CALLS: dict[str, dict[str, Any]] = {
    "three masks": POINT,
    "one mask": POINT | {"multimask_output": False},
    "logits": POINT | {"return_logits": True},
    "shares of the picture": {"point_coords": [[0.4, 0.5]], "point_labels": [1], "normalize_coords": False},
    "box": {"box": BOXES[0], "multimask_output": False},
    "box in a row": {"box": BOXES[:1]},
    "boxes": {"box": BOXES, "multimask_output": False},
    "three masks of boxes": {"box": BOXES},
    "boxes and points": {"box": BOXES, "point_coords": [[[60, 40]], [[50, 50]]], "point_labels": [[1], [0]]},
    "points in batches": {"point_coords": [[[60, 40]], [[20, 70]]], "point_labels": [[1], [1]]},
    "draft": POINT | {"mask_input": np.linspace(-5, 5, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)},
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_predict(pair: tuple[Any, SAM2ImagePredictor], call: dict[str, Any]) -> None:
    official, mine = pair
    assert_same(mine.predict(**call), official.predict(**call))


def test_tensors_with_a_gradient_are_as_good_as_arrays(pair: tuple[Any, SAM2ImagePredictor]) -> None:
    given = {name: torch.tensor(value, dtype=torch.float32, requires_grad=True) for name, value in POINT.items()}
    assert_same(pair[1].predict(**given), pair[1].predict(**POINT))


def test_arguments_have_the_official_names_and_order(pair: tuple[Any, SAM2ImagePredictor]) -> None:
    official, mine = pair
    for name in ("predict", "predict_batch", "set_image", "set_image_batch", "get_image_embedding", "reset_predictor"):
        ours, theirs = (inspect.signature(getattr(predictor, name)).parameters for predictor in (mine, official))
        assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in theirs.values()]
    rules = [*inspect.signature(type(mine)).parameters]
    assert rules == [name for name in inspect.signature(type(official)).parameters if name != "kwargs"]


def test_a_batch_of_pictures(pair: tuple[Any, SAM2ImagePredictor]) -> None:
    official, _ = pair
    mine = SAM2ImagePredictor(pair[1].model)
    images = [PICTURE, stills.texture(70, 60, seed=1)]
    asked = {
        "point_coords_batch": [[[60, 40]], [[20, 30], [40, 50]]],
        "point_labels_batch": [[1], [1, 0]],
        "box_batch": None,
        "multimask_output": False,
    }
    with oracle.quiet():
        official.set_image_batch(images)
    mine.set_image_batch(images)
    for ours, theirs in zip(mine.predict_batch(**asked), official.predict_batch(**asked), strict=True):
        assert_same(ours, theirs)
    official.set_image(PICTURE)


def test_features_and_attributes(pair: tuple[Any, SAM2ImagePredictor]) -> None:
    official, mine = pair
    ours, theirs = mine.get_image_embedding(), official.get_image_embedding()
    assert ours.shape == theirs.shape == (1, 128, 20, 20)
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert mine.device == torch.device("cpu")
    assert mine.mask_threshold == official.mask_threshold == 0.0


def test_a_pil_picture(pair: tuple[Any, SAM2ImagePredictor]) -> None:
    mine = SAM2ImagePredictor(pair[1].model)
    mine.set_image(Pil.fromarray(PICTURE))
    assert_same(mine.predict(**POINT), pair[1].predict(**POINT))


def test_the_readme_example_runs_with_the_import_changed() -> None:
    names: dict[str, Any] = {"image": PICTURE, "point": np.array([[60, 40]]), "label": np.array([1])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autocast for a GPU that is not there
        exec(README.replace("from sam2.", "from sam2track.compat.sam2."), names)
    assert names["masks"].shape == (3, 90, 130)


def test_bad_input_is_named_and_leaves_the_predictor_usable(pair: tuple[Any, SAM2ImagePredictor]) -> None:
    mine = SAM2ImagePredictor(pair[1].model)
    with pytest.raises(RuntimeError, match="no image is set"):
        mine.predict(**POINT)
    with pytest.raises(
        SourceError, match=r"image 1: image is float64\[90, 130, 3\].*image 2: picture /nowhere.jpg cannot be read"
    ):
        mine.set_image_batch([PICTURE, PICTURE / 255.0, "/nowhere.jpg"])
    mine.set_image(PICTURE)
    for call, message in (
        ({}, "prompt 0 is None and has no logits"),
        ({"point_coords": [[60, 40]]}, "point_coords come without point_labels"),
        ({"point_coords": [[60, 40]], "point_labels": [1, 0]}, "1 points but 2 labels"),
        ({"point_coords": [[600, 40]], "point_labels": [1]}, r"point \(600, 40\) lies outside the 130x90"),
        ({"point_coords": [[np.nan, 40]], "point_labels": [1]}, "not 2 finite numbers"),
        ({"box": [50, 50, 50, 60]}, "is empty; expected"),
        ({"box": [[1, 1, 5, 5]] * 2, "point_coords": [[[1, 1]]] * 3, "point_labels": [[1]] * 3}, "for 2 and for 3"),
        ({"mask_input": np.zeros((1, 9, 9))}, r"logits 0 have shape \[1, 9, 9\]; this model takes \[80, 80\]"),
        (POINT | {"mask_input": np.full((1, SIDE, SIDE), np.inf)}, "not all finite"),
    ):
        with pytest.raises(PromptError, match=message):
            mine.predict(**call)
    assert_same(mine.predict(**POINT), pair[1].predict(**POINT))

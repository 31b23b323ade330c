"""Official names of configurations, repositories and settings as ours."""

from typing import Any

import pytest

from sam2track.compat.sam2 import build, build_sam
from sam2track.compat.sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2track.errors import BackendError, ConfigError, WeightsError

SMALL = ["++model.image_size=64"]


@pytest.mark.parametrize(
    ("config_file", "name"),
    [
        ("configs/sam2.1/sam2.1_hiera_t.yaml", "sam2.1-tiny"),
        ("configs/sam2.1/sam2.1_hiera_b+.yaml", "sam2.1-base-plus"),
        ("configs/sam2/sam2_hiera_s.yaml", "sam2-small"),
        ("sam2_hiera_l.yaml", "sam2-large"),
        (r"configs\sam2.1\sam2.1_hiera_s", "sam2.1-small"),
        ("nano", "nano"),
    ],
)
def test_configurations(config_file: str, name: str) -> None:
    assert build.model_name(config_file) == name


def test_repositories() -> None:
    assert build._model_of("facebook/sam2.1-hiera-base-plus") == "sam2.1-base-plus"
    assert build._model_of("facebook/sam2-hiera-tiny") == "sam2-tiny"
    with pytest.raises(ConfigError, match=r"did you mean 'facebook/sam2.1-hiera-tiny'"):
        build_sam.build_sam2_hf("facebook/sam2.1-hiera-tni")
    with pytest.raises(ConfigError, match="'other/model' is no official repository"):
        SAM2VideoPredictor.from_pretrained("other/model")


def test_the_rules_are_the_official_defaults() -> None:
    config = build_sam.build_sam2("nano", device="cpu").config
    assert (config.memory.keep_corrections, config.tracking.fill_holes, config.memory.pointers) == (False, 8, 16)
    extras = [*SMALL, "++model.fill_hole_area=0", "model.add_all_frames_to_correct_as_cond=true"]
    model = build_sam.build_sam2("nano", None, "cpu", "eval", extras)
    assert (model.sizes.image_size, model.config.tracking.fill_holes, model.config.memory.keep_corrections) == (
        64, 0, True,
    )  # fmt: skip
    predictor = build_sam.build_sam2_video_predictor(
        "nano", device="cpu", hydra_overrides_extra=[*SMALL, "++model.max_cond_frames_in_attn=4"], vos_optimized=True
    )
    assert predictor._most_prompted == 4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"config_file": "configs/sam2.1/sam2.1_hiera_x.yaml"}, ConfigError, "is no official configuration; did you"),
        ({"mode": "train"}, ConfigError, "mode is 'train'"),
        ({"apply_postprocessing": False}, ConfigError, "apply_postprocessing is False"),
        ({"compile_image_encoder": True}, ConfigError, "'compile_image_encoder' of build_sam2 is unknown"),
        ({"hydra_overrides_extra": ["++model.non_overlap_masks=true"]}, ConfigError, "non_overlap_masks=true', which"),
        ({"hydra_overrides_extra": ["++model.image_size=big"]}, ConfigError, "expected a whole number after ="),
        ({"hydra_overrides_extra": ["++model.image_size=100"]}, ConfigError, "image_size = 100; expected a multiple"),
        ({"ckpt_path": "nowhere.pt"}, WeightsError, "nowhere.pt"),
        ({"device": "cuda:99"}, BackendError, "cuda"),
        ({"device": "tpu"}, ConfigError, "device 'tpu' is unknown"),
    ],
)
def test_what_cannot_be_done_is_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_sam.build_sam2_video_predictor(**{"config_file": "nano", **arguments})

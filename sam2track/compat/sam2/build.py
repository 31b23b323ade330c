"""``build_sam2`` and its like: the official names of configurations, checkpoints and repositories, as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2track import hub
from sam2track.config import MODELS
from sam2track.errors import ConfigError, nearest
from sam2track.segmenter import Segmenter

if TYPE_CHECKING:
    from sam2track.compat.sam2.video import SAM2VideoPredictor

_SIZES = {"t": "tiny", "s": "small", "b+": "base-plus", "l": "large"}
_SETTINGS = {  # official constructor argument -> our setting
    "image_size": "image_size",
    "fill_hole_area": "tracking.fill_holes",
    "add_all_frames_to_correct_as_cond": "memory.keep_corrections",
    "max_obj_ptrs_in_encoder": "memory.pointers",
}
_DEFAULTS: Mapping[str, object] = {"memory.keep_corrections": False, "tracking.max_objects": 1024}


def build_sam2(
    config_file: str,
    ckpt_path: str | Path | None = None,
    device: str = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: object,
) -> Segmenter:
    """Load a model for ``SAM2ImagePredictor`` or ``SAM2AutomaticMaskGenerator``.

    Args:
        config_file: ``configs/sam2.1/sam2.1_hiera_t.yaml`` and its like, with or without the folder, or a model
            name of ours.
        ckpt_path: the checkpoint; None takes the published one, downloading it the first time.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` is CUDA where there is one.
        mode: ``eval``; there is no training here.
        hydra_overrides_extra: ``++model.image_size=512`` and what else ``_SETTINGS`` knows.
        apply_postprocessing: True; the rules it stands for cannot be switched off.
        kwargs: none; the official package ignores some.

    Raises:
        ConfigError: an argument that cannot be honoured.
        WeightsError: a checkpoint that is missing, damaged or of another model.
        BackendError: a device that is not there.
    """
    if mode != "eval":
        raise ConfigError(f"mode is {mode!r}; only 'eval' is built here, sam2track train trains")
    if not apply_postprocessing:
        raise ConfigError("apply_postprocessing is False; its rules are always on, use hydra_overrides_extra for one")
    if kwargs:
        raise ConfigError(f"argument {next(iter(kwargs))!r} of build_sam2 is unknown here; leave it out")
    settings = {**_DEFAULTS, **_overrides(hydra_overrides_extra)}
    return Segmenter.load(model_name(config_file), weights=ckpt_path, device=str(device), set=settings)


def build_sam2_video_predictor(
    config_file: str,
    ckpt_path: str | Path | None = None,
    device: str = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: object,
) -> SAM2VideoPredictor:
    """Load a model for video; as ``build_sam2``.

    ``++model.max_cond_frames_in_attn=N`` is understood too. ``vos_optimized`` changes nothing: it asks for the same
    masks by a compiled model.
    """
    from sam2track.compat.sam2.video import SAM2VideoPredictor

    own = [text for text in hydra_overrides_extra if _key(text) == "max_cond_frames_in_attn"]
    others = [text for text in hydra_overrides_extra if text not in own]
    most = int(_integer(own[-1])) if own else -1
    model = build_sam2(config_file, ckpt_path, device, mode, others, apply_postprocessing, **kwargs)
    return SAM2VideoPredictor(model, max_cond_frames_in_attn=most)


def build_sam2_hf(model_id: str, **kwargs: Any) -> Segmenter:
    """``build_sam2`` by repository, such as ``facebook/sam2.1-hiera-tiny``."""
    return build_sam2(_model_of(model_id), **kwargs)


def build_sam2_video_predictor_hf(model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
    """``build_sam2_video_predictor`` by repository, such as ``facebook/sam2.1-hiera-tiny``."""
    return build_sam2_video_predictor(_model_of(model_id), **kwargs)


def model_name(config_file: str) -> str:
    """Our name of an official configuration: ``configs/sam2.1/sam2.1_hiera_b+.yaml`` is ``sam2.1-base-plus``."""
    stem = str(config_file).replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".yaml")
    match = re.fullmatch(r"(sam2(?:\.1)?)_hiera_(t|s|b\+|l)", stem)
    if match is not None:
        return f"{match[1]}-{_SIZES[match[2]]}"
    if stem in MODELS:
        return stem
    valid = [f"{family}_hiera_{size}.yaml" for family in ("sam2.1", "sam2") for size in _SIZES]
    raise ConfigError(f"config_file {str(config_file)!r} is no official configuration{nearest(stem, valid)}")


def _model_of(model_id: str) -> str:
    repositories = {model.repo: model.name for model in hub.known() if model.repo is not None}
    if model_id not in repositories:
        raise ConfigError(f"model_id {model_id!r} is no official repository{nearest(model_id, repositories)}")
    return repositories[model_id]


def _overrides(texts: Sequence[str]) -> Mapping[str, object]:
    """``++model.fill_hole_area=8`` and its like as our settings."""
    settings: dict[str, object] = {}
    for text in texts:
        key = _key(text)
        if key not in _SETTINGS:
            known = ", ".join([*_SETTINGS, "max_cond_frames_in_attn (video)"])
            raise ConfigError(f"hydra_overrides_extra has {text!r}, which is unknown here; known: {known}")
        value = text.partition("=")[2].strip().lower()
        settings[_SETTINGS[key]] = value == "true" if value in ("true", "false") else _integer(text)
    return settings


def _key(text: str) -> str:
    return text.partition("=")[0].strip().lstrip("+").removeprefix("model.")


def _integer(text: str) -> int:
    try:
        return int(text.partition("=")[2])
    except ValueError:
        raise ConfigError(f"hydra_overrides_extra has {text!r}; expected a whole number after =") from None

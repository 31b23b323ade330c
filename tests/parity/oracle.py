"""The official ``sam2`` package as an oracle: built at any size, with weights that make it behave.

Freshly initialised weights prove nothing: masks are empty or full, memory is ignored, every object
score has one sign. ``build_official`` draws weights of visible size and then calibrates the heads on
a short clip, so that masks cover a good part of the frame, differ between candidates, objects and
frames, and depend on memory; ``test_oracle.py`` asserts all of that.

What is always true: both sides are given the same image tensors, and the official package decides
everything else. The one part it lacks without its CUDA extension, connected components, comes from
OpenCV here, so that holes really are filled.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from sam2track.network.variants import VARIANTS, Variant

_FILES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
_POSTPROCESSING = (  # what build_sam2_video_predictor switches on
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    "++model.binarize_mask_from_pts_for_mem_enc=true",
    "++model.fill_hole_area=8",
)


# Without these, memory hardly matters to random weights; with much more, rounding noise grows from frame to frame.
_EMPHASIS = {
    "*cross_attn_image.out_proj.weight": 1.5,  # what memory adds to a frame
    "memory_encoder.mask_downsampler.encoder.12.weight": 2.0,  # the mask against the picture, in memory
    "memory_encoder.pix_feat_proj.weight": 0.5,
    "obj_ptr_proj.layers.2.weight": 4.0,  # object pointers, few among many tokens
    "obj_ptr_tpos_proj.*": 3.0,  # their age
    "maskmem_tpos_enc": 1.5,  # the age of memories
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the official package's warnings out of a run that treats warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


with quiet():
    import sam2.sam2_video_predictor
    import sam2.utils.misc
    from hydra import compose
    from hydra.utils import instantiate
    from omegaconf import OmegaConf


def _connected_components(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and areas ``[N, 1, H, W]`` of the 8-connected components; 0 where ``mask`` is False."""
    labels, areas = [], []
    for picture in mask[:, 0].to(torch.uint8).numpy():
        _, label, statistics, _ = cv2.connectedComponentsWithStats(picture, connectivity=8)
        labels.append(label)
        areas.append(np.where(label > 0, statistics[:, cv2.CC_STAT_AREA][label], 0))
    return torch.from_numpy(np.stack(labels))[:, None], torch.from_numpy(np.stack(areas))[:, None]


def _progress(steps: Any, **_: Any) -> Any:
    return steps


sam2.utils.misc.get_connected_components = _connected_components
sam2.sam2_video_predictor.tqdm = _progress


def construct(variant: str | Variant, image_size: int, switches: Mapping[str, object] | None = None) -> Any:
    """The official video predictor for ``variant`` in inference mode, weights as torch initialises them.

    Args:
        variant: an official name (its packaged configuration is used) or sizes of ours.
        image_size: S.
        switches: further constructor arguments of the official predictor.
    """
    if isinstance(variant, str) and variant in VARIANTS and variant != "nano":
        family, size = variant.split("-", 1)
        name, sizes = f"configs/{family}/{family}_hiera_{_FILES[size]}.yaml", []
    else:
        sizes_of = VARIANTS[variant] if isinstance(variant, str) else variant
        family = "sam2.1" if sizes_of.pointer_age else "sam2"
        name, sizes = f"configs/{family}/{family}_hiera_t.yaml", _size_overrides(sizes_of)
    overrides = [
        "++model._target_=sam2.sam2_video_predictor.SAM2VideoPredictor",
        *_POSTPROCESSING,
        f"model.image_size={image_size}",
        *sizes,
        *(f"++model.{key}={str(value).lower()}" for key, value in (switches or {}).items()),
    ]
    logging.getLogger("hydra").setLevel(logging.ERROR)
    with quiet():
        config = compose(config_name=name, overrides=overrides)
        OmegaConf.resolve(config)
        return instantiate(config.model, _recursive_=True).eval()


def _size_overrides(v: Variant) -> list[str]:
    d, m = v.width, v.memory_width
    channels = [v.embed * 2**stage for stage in (3, 2, 1, 0)]
    values: dict[str, object] = {
        "image_encoder.trunk.embed_dim": v.embed,
        "image_encoder.trunk.num_heads": v.heads,
        "image_encoder.trunk.stages": list(v.stages),
        "image_encoder.trunk.global_att_blocks": list(v.global_blocks),
        "image_encoder.trunk.window_spec": list(v.windows),
        "image_encoder.trunk.window_pos_embed_bkg_spatial_size": [v.background, v.background],
        "image_encoder.neck.d_model": d,
        "image_encoder.neck.backbone_channel_list": channels,
        "image_encoder.neck.position_encoding.num_pos_feats": d,
        "memory_attention.d_model": d,
        "memory_attention.num_layers": v.memory_layers,
        "memory_attention.layer.d_model": d,
        "memory_attention.layer.dim_feedforward": v.memory_hidden,
        "memory_attention.layer.self_attention.embedding_dim": d,
        "memory_attention.layer.cross_attention.embedding_dim": d,
        "memory_attention.layer.cross_attention.kv_in_dim": m,
        "memory_encoder.out_dim": m,
        "memory_encoder.in_dim": d,
        "memory_encoder.position_encoding.num_pos_feats": m,
        "memory_encoder.mask_downsampler.embed_dim": d,
        "memory_encoder.fuser.layer.dim": d,
        "no_obj_embed_spatial": str(v.occlusion_memory).lower(),
    }
    return [f"++model.{key}={value}" for key, value in values.items()]


def build_official(
    variant: str | Variant, image_size: int, seed: int, occluded: float = 0.0, **switches: object
) -> Any:
    """An official predictor with seeded weights that are not degenerate.

    Args:
        variant: see ``construct``.
        image_size: S.
        seed: of weights.
        occluded: about this share of tracked frames has a negative object score.
        switches: further constructor arguments, such as ``add_all_frames_to_correct_as_cond=True``.
    """
    predictor = construct(variant, image_size, switches)
    draw(predictor, seed)
    _calibrate(predictor, moving_texture(8, image_size, seed), occluded)
    return predictor


def draw(model: nn.Module, seed: int) -> None:
    """Seeded weights of unit gain, norms near identity, codes and embeddings of visible size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor, std: float, mean: float = 0.0) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * std + mean)

    with torch.no_grad():
        for buffer in model.buffers():  # the frequencies of the point code
            normal(buffer, 1.0)
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "gamma":
                parameter.copy_(0.5 + 0.5 * torch.rand(parameter.shape, generator=generator))
            elif "norm" in name or (leaf == "weight" and parameter.ndim == 1):
                normal(parameter, 0.1, mean=1.0 if leaf == "weight" else 0.0)
            elif leaf == "bias":
                normal(parameter, 0.1)
            elif leaf == "weight" and "embed" not in name.split(".")[-2] and "token" not in name.split(".")[-2]:
                fan_in = parameter[0].numel()
                normal(parameter, fan_in**-0.5)
            else:  # learned codes: positions, times, tokens, prompts, no-memory, no-object
                normal(parameter, 0.5)
            for pattern, factor in _EMPHASIS.items():
                if fnmatch.fnmatch(name, pattern):
                    parameter.mul_(factor)


class Decoded(NamedTuple):
    """What the mask decoder says of one object on one frame."""

    masks: Tensor  # [1, 4, h, w] logits
    iou: Tensor  # [1, 4]
    object_score: Tensor  # [1, 1]
    points: int  # it was asked with, padding included where there are none


def _calibrate(predictor: Any, frames: Tensor, occluded: float) -> None:
    """Shift and scale the last layers of the mask, IoU and object score heads to a useful range.

    Each changes what is remembered and so what comes next, hence a few rounds.
    """
    decoder = predictor.sam_mask_decoder
    for _ in range(3):
        said, pixels = _watch(predictor, frames)
        masks, iou, score = (torch.cat(column).clone() for column in list(zip(*said, strict=True))[:3])
        with torch.no_grad():
            mean = pixels.mean(dim=(0, 2, 3))
            for i, head in enumerate(decoder.output_hypernetworks_mlps):
                logits = masks[:, i]
                cut = torch.quantile(logits.flatten()[::7], 0.7 - 0.05 * i)
                _rescale(head.layers[-1], cut * mean / mean.square().sum(), 4.0 / logits.std())
            logits = torch.logit(iou, eps=1e-6)
            _rescale(decoder.iou_prediction_head.layers[-1], logits.mean(dim=0), 1.0 / logits.std(dim=0))
            tracked = score[4:, 0]  # prompted frames stand apart
            cut = torch.quantile(tracked, occluded) if occluded else score.min() - tracked.std()
            _rescale(decoder.pred_obj_score_head.layers[-1], cut, 2.0 / tracked.std())


def _rescale(layer: nn.Linear, shift: Tensor, scale: Tensor) -> None:
    """Make ``layer`` give (what it gave - shift) * scale."""
    layer.weight.mul_(scale.reshape(-1, 1))
    layer.bias.sub_(shift).mul_(scale)


def _watch(predictor: Any, frames: Tensor) -> tuple[list[Decoded], Tensor]:
    """What the mask decoder says while two objects are tracked, and the pixels [n, d/8, h, w] its masks are made of."""
    pixels: list[Tensor] = []
    layer = predictor.sam_mask_decoder.output_upscaling[4]
    hook = layer.register_forward_hook(lambda *call: pixels.append(call[2]))
    try:
        with listen(predictor) as said, quiet():
            state = begin(predictor, frames, (96, 128))
            predictor.add_new_points_or_box(state, 0, 1, points=[[40, 30]], labels=[1])
            predictor.add_new_points_or_box(state, 0, 2, box=[60, 40, 110, 90])
            for _ in predictor.propagate_in_video(state):
                pass
    finally:
        hook.remove()
    return said, torch.cat(pixels)


@contextlib.contextmanager
def listen(predictor: Any) -> Iterator[list[Decoded]]:
    """Collect what the mask decoder says."""
    decoder, said = predictor.sam_mask_decoder, []
    plain = decoder.predict_masks

    def predict_masks(**inputs: Any) -> Any:
        outputs = masks, iou, _, score = plain(**inputs)
        said.append(Decoded(masks, iou, score, inputs["sparse_prompt_embeddings"].shape[1] - 1))
        return outputs

    decoder.predict_masks = predict_masks
    try:
        yield said
    finally:
        del decoder.predict_masks


def begin(predictor: Any, frames: Tensor, size: tuple[int, int]) -> dict[str, Any]:
    """An inference state over ``frames`` [T, 3, S, S], already normalised, of a video of ``size`` (H, W)."""

    def load_video_frames(**_: Any) -> tuple[Tensor, int, int]:
        return frames, *size

    plain = sam2.sam2_video_predictor.load_video_frames
    sam2.sam2_video_predictor.load_video_frames = load_video_frames
    try:
        with quiet():
            return predictor.init_state("frames in memory")  # type: ignore[no-any-return]
    finally:
        sam2.sam2_video_predictor.load_video_frames = plain


def moving_texture(count: int, size: int, seed: int) -> Tensor:
    """Normalised frames ``[count, 3, size, size]``: drifting waves and blobs that move over them."""
    random = np.random.default_rng(seed + 1000)
    y, x = np.mgrid[0:size, 0:size] / size
    frames = np.zeros((count, 3, size, size), np.float32)
    for _ in range(12):
        wave, phase, speed = random.normal(0, 4, 2), random.uniform(0, 2 * np.pi, 3), random.normal(0, 0.25)
        for t in range(count):
            angle = 2 * np.pi * (wave[0] * x + wave[1] * y) + speed * t
            frames[t] += 0.35 * np.sin(angle[None] + phase[:, None, None])
    for _ in range(5):
        centre, speed, radius = random.uniform(0.2, 0.8, 2), random.normal(0, 0.015, 2), random.uniform(0.08, 0.2)
        colour = random.normal(0, 1.5, 3).astype(np.float32)
        for t in range(count):
            cx, cy = centre + speed * t
            inside = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) * 60))
            frames[t] = frames[t] * (1 - inside) + colour[:, None, None] * inside
    return torch.from_numpy(frames)

"""``SAM2AutomaticMaskGenerator``: the official interface over ``discover``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2track.compat.sam2.build import build_sam2_hf
from sam2track.data import Mask
from sam2track.discovery import DiscoveredMask, DiscoveryRules, discover
from sam2track.errors import ConfigError, nearest
from sam2track.segmenter import Segmenter
from sam2track.stills import ImageSegmenter
from sam2track.video.picture import ImageLike

_FORMS: dict[str, Callable[[DiscoveredMask], Any]] = {
    "binary_mask": lambda found: found.mask,
    "uncompressed_rle": lambda found: _uncompressed(found.mask),
    "coco_rle": lambda found: found.rle,
}


class SAM2AutomaticMaskGenerator:
    """Masks of a whole picture; the arguments are those of ``DiscoveryRules``.

    Args:
        model: what ``build_sam2`` returns.
        output_mode: ``binary_mask`` (bool ``[H, W]``), ``uncompressed_rle`` or ``coco_rle``.
        **rules: see ``DiscoveryRules``; they may be given by place, in the official order, too.
    """

    def __init__(  # noqa: PLR0913, PLR0917, the official arguments in the official order
        self,
        model: Segmenter,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[NDArray[Any]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise ConfigError("points_per_side and point_grids say the same; give one of them and None for the other")
        if output_mode not in _FORMS:
            raise ConfigError(f"output_mode {output_mode!r} is unknown{nearest(output_mode, _FORMS)}")
        self.output_mode = output_mode
        self.rules = DiscoveryRules(
            points_per_side=points_per_side or 1,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            mask_threshold=mask_threshold,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=min_mask_region_area,
            use_m2m=use_m2m,
            multimask_output=multimask_output,
        )
        self._segmenter = ImageSegmenter(model.components, model.config)

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2AutomaticMaskGenerator:
        """By repository, such as ``facebook/sam2.1-hiera-tiny``; with arguments of the class or of ``build_sam2``."""
        rules = {name: kwargs.pop(name) for name in signature(cls).parameters if name in kwargs}
        return cls(build_sam2_hf(model_id, **kwargs), **rules)

    def generate(self, image: ImageLike) -> list[dict[str, Any]]:
        """One record a mask, with the official keys; a bbox (x, y, width, height) ends at its last pixel's start."""
        return [self._record(found) for found in discover(image, self._segmenter, self.rules)]

    def _record(self, found: DiscoveredMask) -> dict[str, Any]:
        record = found.record()
        x, y, width, height = record["bbox"]
        return record | {"segmentation": _FORMS[self.output_mode](found), "bbox": [x, y, width - 1, height - 1]}


def _uncompressed(mask: Mask) -> dict[str, Any]:
    """Runs down the columns, the first of them outside."""
    pixels = mask.ravel(order="F")
    ends = [*(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1).tolist(), pixels.size]
    runs = np.diff([0, *ends]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if pixels[0] else runs}

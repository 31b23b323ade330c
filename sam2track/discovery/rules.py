"""What to look for and where: the settings of discovery, and the crops and points they stand for.

A grid of clicks over the picture, and over overlapping crops of it, is SAM's automatic mask generation
(arXiv:2304.02643, appendix B); names and defaults are those of the official package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sam2track.errors import ConfigError

Points = NDArray[np.float64]

MAX_POINTS_PER_SIDE = 1024
MAX_LAYERS = 6  # 4096 crops
_OF_NANO: dict[str, Any] = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.6}


@dataclass(frozen=True, slots=True)
class DiscoveryRules:
    """Settings of ``discover``.

    Attributes:
        points_per_side: clicks along each side of the picture.
        points_per_batch: clicks decoded at once; more takes more memory.
        pred_iou_thresh: masks of a lower predicted IoU are dropped; 0 keeps all.
        stability_score_thresh: so are masks that change more when the cut is moved up and down; 0 keeps all.
        stability_score_offset: how far the cut is moved, in logits.
        mask_threshold: logits above it are inside.
        box_nms_thresh: of two masks of a crop whose boxes have a higher IoU, the one of lower predicted IoU is dropped.
        crop_n_layers: layers of crops beside the whole picture; layer n has 2^n x 2^n crops.
        crop_nms_thresh: as ``box_nms_thresh``, of two masks of different crops; the smaller crop wins.
        crop_overlap_ratio: overlap of the crops of the first layer, as a share of the picture's shorter side.
        crop_n_points_downscale_factor: layer n has so many to the n times fewer clicks a side.
        point_grids: own clicks of each layer, ``[P, 2]`` x, y in [0, 1], in place of ``points_per_side``.
        min_mask_region_area: holes and specks of at most so many low-resolution pixels are removed.
        use_m2m: decode each mask once more with itself as a draft.
        multimask_output: three masks a click instead of one.

    Raises:
        ConfigError: a value out of range.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    mask_threshold: float = 0.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[NDArray[Any]] | None = None
    min_mask_region_area: float = 0
    use_m2m: bool = False
    multimask_output: bool = True

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:  # nor NaN
                raise ConfigError(f"{name} is {value}; expected {low:g} to {high:g}")
        for name in ("points_per_side", "points_per_batch", "crop_n_layers", "crop_n_points_downscale_factor"):
            if not isinstance(getattr(self, name), int):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected an integer")
        if self.point_grids is not None:
            if len(self.point_grids) != self.crop_n_layers + 1:
                raise ConfigError(
                    f"point_grids has {len(self.point_grids)} grids for {self.crop_n_layers} layers of crops; "
                    f"expected {self.crop_n_layers + 1}, the whole picture's first"
                )
            object.__setattr__(self, "point_grids", tuple(_checked_grid(grid) for grid in self.point_grids))

    @classmethod
    def of(cls, model: str, **changes: Any) -> DiscoveryRules:
        """The defaults for a model of that name, with ``changes``: nano is seldom sure, the others are as official."""
        return cls(**((_OF_NANO if model == "nano" else {}) | changes))

    def grid(self, layer: int) -> Points:
        """The clicks on a crop of ``layer``, ``[P, 2]`` x, y in [0, 1], row by row."""
        if self.point_grids is not None:
            return self.point_grids[layer]
        count = max(1, self.points_per_side // self.crop_n_points_downscale_factor**layer)
        side = (np.arange(count) + 0.5) / count
        x, y = np.meshgrid(side, side)
        return np.stack([x.ravel(), y.ravel()], axis=1)


class Crop(NamedTuple):
    """A part of the picture, and its clicks."""

    box: tuple[int, int, int, int]  # x0, y0, x1, y1, right and bottom exclusive
    points: Points  # [P, 2], x, y in pixels of the crop


def crops(height: int, width: int, rules: DiscoveryRules) -> list[Crop]:
    """The whole picture, then the crops of each layer, column by column."""
    found = [Crop((0, 0, width, height), rules.grid(0) * (width, height))]
    for layer in range(1, rules.crop_n_layers + 1):
        count = 2**layer
        overlap = int(rules.crop_overlap_ratio * min(height, width) * 2 / count)
        rows = _spans(height, count, overlap)
        for x0, x1 in _spans(width, count, overlap):
            found += [Crop((x0, y0, x1, y1), rules.grid(layer) * (x1 - x0, y1 - y0)) for y0, y1 in rows]
    return found


def _spans(length: int, count: int, overlap: int) -> list[tuple[int, int]]:
    """``count`` equal spans that cover ``length`` and share ``overlap`` with the next; what a tiny length leaves."""
    span = math.ceil((length + overlap * (count - 1)) / count)
    starts = range(0, max(1, count * (span - overlap)), max(1, span - overlap))
    return [(start, min(start + span, length)) for start in starts if start < length]


def _checked_grid(grid: NDArray[Any]) -> Points:
    points = np.asarray(grid, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not points.size or not ((points >= 0) & (points <= 1)).all():
        raise ConfigError(f"a point grid has shape {list(points.shape)}; expected [P, 2], x and y in 0 to 1")
    return points


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("points_per_side", 1, MAX_POINTS_PER_SIDE),
    ("points_per_batch", 1, 65536),
    ("pred_iou_thresh", 0, 1),
    ("stability_score_thresh", 0, 1),
    ("stability_score_offset", 0, 1000),
    ("mask_threshold", -1000, 1000),
    ("box_nms_thresh", 0, 1),
    ("crop_n_layers", 0, MAX_LAYERS),
    ("crop_nms_thresh", 0, 1),
    ("crop_overlap_ratio", 0, 1),
    ("crop_n_points_downscale_factor", 1, MAX_POINTS_PER_SIDE),
    ("min_mask_region_area", 0, math.inf),
)

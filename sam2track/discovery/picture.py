"""All masks of one picture: a click at each point of a grid, and the masks that hold.

The path of a click: decode, drop by predicted IoU, enlarge, drop by stability, drop what a crop cut, keep as RLE. Then
duplicates are dropped within each crop, and between crops. Only a few masks at a time exist as pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sam2track.config import Config
from sam2track.data import Image, Mask
from sam2track.discovery.masks import DiscoveredMask, DiscoveredMasks, cut_by_crop, suppress
from sam2track.discovery.rules import Crop, DiscoveryRules, Points, crops
from sam2track.errors import PromptError
from sam2track.masks import rle
from sam2track.masks.regions import bounding_box
from sam2track.segmenter import Encoded
from sam2track.steps import PRIOR_LIMIT
from sam2track.stills import ImageSegmenter, MaskRules
from sam2track.video.picture import ImageLike

ENLARGED = 2**24  # pixels of enlarged logits at once: 64 MiB


def discover(
    image: ImageLike | Encoded,
    model: str | Config | ImageSegmenter = "nano",
    rules: DiscoveryRules | None = None,
    *,
    within: Mask | None = None,
) -> DiscoveredMasks:
    """Find the masks of a picture without a prompt.

    Args:
        image: a picture (what ``ImageSegmenter.encode`` takes), encoded already or not.
        model: a model name, a ``Config``, or a segmenter that is loaded already (its own mask rules are not used).
        rules: what to look for; by default ``DiscoveryRules.of`` the model.
        within: bool ``[H, W]``: click only where it is True.

    Returns:
        The masks, best predicted IoU first; with crops, those of the smallest crops first.

    Raises:
        SourceError: ``image`` is no picture.
        PromptError: ``within`` is not of the picture's size.
    """
    segmenter = model if isinstance(model, ImageSegmenter) else ImageSegmenter.load(model)
    rules = rules or DiscoveryRules.of(segmenter.config.model)
    area = rules.min_mask_region_area
    segmenter = segmenter.with_rules(MaskRules(max_hole_area=area, max_sprinkle_area=area))
    encoded = image if isinstance(image, Encoded) else segmenter.encode(image)
    height, width = encoded.frame.height, encoded.frame.width
    if within is not None and (within.shape != (height, width) or within.dtype != np.bool_):
        raise PromptError(f"within is {within.dtype}{list(within.shape)}; expected bool [{height}, {width}]")
    parts = crops(height, width, rules)
    found: list[DiscoveredMask] = []
    for crop in parts:
        clicks = crop if within is None else _clicks_within(crop, within)
        if len(clicks.points):
            whole = crop.box == (0, 0, width, height)
            view = encoded if whole else segmenter.encode(_part(encoded.frame.image, crop))
            masks = list(_masks_of_crop(segmenter, view, clicks, (height, width), rules))
            found += suppress(masks, [mask.score for mask in masks], rules.box_nms_thresh)
    if len(parts) > 1:
        found = suppress(found, [1 / _area(mask.crop) for mask in found], rules.crop_nms_thresh)
    return DiscoveredMasks((height, width), tuple(found))


def _clicks_within(crop: Crop, within: Mask) -> Crop:
    x0, y0, x1, y1 = crop.box
    columns = np.minimum(crop.points[:, 0].astype(int) + x0, x1 - 1)
    rows = np.minimum(crop.points[:, 1].astype(int) + y0, y1 - 1)
    return crop._replace(points=crop.points[within[rows, columns]])


def _part(image: Image, crop: Crop) -> Image:
    x0, y0, x1, y1 = crop.box
    return image[y0:y1, x0:x1]


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _masks_of_crop(
    segmenter: ImageSegmenter, encoded: Encoded, crop: Crop, size: tuple[int, int], rules: DiscoveryRules
) -> Iterator[DiscoveredMask]:
    """The masks of one crop that are good enough, duplicates included, in the order of its clicks."""
    height, width = encoded.frame.height, encoded.frame.width
    at_once = max(1, ENLARGED // (height * width))
    for first in range(0, len(crop.points), rules.points_per_batch):
        points = crop.points[first : first + rules.points_per_batch]
        logits, iou, clicks = _decoded(segmenter, encoded, points, rules)
        if rules.pred_iou_thresh > 0:
            good = iou > rules.pred_iou_thresh
            logits, iou, clicks = logits[good], iou[good], clicks[good.cpu().numpy()]
        for start in range(0, len(logits), at_once):
            enlarged = segmenter.enlarge(logits[start : start + at_once], (height, width))
            stability = _stability(enlarged, rules)
            masks = (enlarged > rules.mask_threshold).cpu().numpy()
            for n, mask in enumerate(masks, start):
                if rules.stability_score_thresh > 0 and not stability[n - start] >= rules.stability_score_thresh:
                    continue
                said = float(iou[n]), float(stability[n - start])
                yield from _kept(mask, said, (clicks[n][0], clicks[n][1]), crop, size)


def _decoded(
    segmenter: ImageSegmenter, encoded: Encoded, points: Points, rules: DiscoveryRules
) -> tuple[Tensor, Tensor, Points]:
    """Logits ``[N, S/4, S/4]``, predicted IoU ``[N]`` and click ``[N, 2]`` of the masks that ``points`` give."""
    scale = np.array(
        [segmenter.sizes.image_size / encoded.frame.width, segmenter.sizes.image_size / encoded.frame.height]
    )
    xy = torch.from_numpy(points * scale).float()[:, None]
    logits, iou = segmenter.decode(encoded.features, (xy, torch.ones(len(xy), 1)), multimask=rules.multimask_output)
    count = logits.shape[1]
    logits, iou, points, xy = (
        logits.flatten(0, 1),
        iou.flatten(),
        points.repeat(count, axis=0),
        xy.repeat_interleave(count, 0),
    )
    if rules.use_m2m:
        again = []
        for first in range(0, len(logits), rules.points_per_batch):
            rows = slice(first, first + rules.points_per_batch)
            draft = logits[rows, None].clamp(-PRIOR_LIMIT, PRIOR_LIMIT), torch.ones(len(logits[rows]))
            again.append(segmenter.decode(encoded.features, (xy[rows], torch.ones(len(xy[rows]), 1)), draft))
        logits, iou = (torch.cat(parts).flatten(0, 1) for parts in zip(*again, strict=True))
    return logits, iou, points


def _stability(logits: Tensor, rules: DiscoveryRules) -> Tensor:
    """IoU ``[N]`` of masks cut above with masks cut below the threshold; NaN where both are empty."""
    inner = (logits > rules.mask_threshold + rules.stability_score_offset).sum(dim=(1, 2))
    outer = (logits > rules.mask_threshold - rules.stability_score_offset).sum(dim=(1, 2))
    return inner / outer


def _kept(
    mask: Mask, said: tuple[float, float], click: tuple[float, float], crop: Crop, size: tuple[int, int]
) -> Iterator[DiscoveredMask]:
    """The mask of a crop as one of the picture, unless it is empty or cut by the crop's edge."""
    inner = bounding_box(mask)
    if inner is None:
        return
    x0, y0, x1, y1 = crop.box
    box = (inner[0] + x0, inner[1] + y0, inner[2] + x0, inner[3] + y0)
    if cut_by_crop(box, crop.box, *size):
        return
    if mask.shape != size:
        whole = np.zeros(size, dtype=bool)
        whole[y0:y1, x0:x1] = mask
        mask = whole
    score, stability = said
    point = float(click[0]) + x0, float(click[1]) + y0
    yield DiscoveredMask(rle.encode(mask), int(mask.sum()), box, score, stability, point, crop.box)

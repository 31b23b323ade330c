"""Held-out synthetic clips: the first yardstick of a training run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sam2track.contracts import ImageFeatures
from sam2track.data import Mask
from sam2track.masks.metrics import contour_accuracy, iou
from sam2track.network.variants import Network
from sam2track.pixels import resize_logits
from sam2track.train.assets import Assets
from sam2track.train.clips import make_clips
from sam2track.train.dice import Dice
from sam2track.train.objective import normalise
from sam2track.train.prompts import draw_objects
from sam2track.train.rollout import (
    Lesson,
    Rows,
    best_alternative,
    click_and_box,
    follow,
    frame_features,
    make_rows,
    start,
)
from sam2track.train.style import Style

SEED = 1 << 40  # apart from every training step's
CHUNK = 4
OBJECTS = 2  # followed in each clip
SCORES = ("click", "box", "mask_jf", "click_jf", "presence")


def yardstick(size: int) -> Style:
    """What held-out clips look like, whatever the recipe."""
    return Style(size=size, frames=4, layers=4, extent=(0.12, 0.75), speed=0.05, textured=0.4, leaving=0.25)


@torch.no_grad()
def held_out_scores(network: Network, assets: Assets, clips: int = 16) -> dict[str, float]:
    """Scores of held-out clips, in [0, 1].

    Returns:
        ``click``, ``box``: mean IoU on the prompted frame; ``mask_jf``, ``click_jf``: mean J&F of the tracked
        frames after a mask prompt and after a click (1 where the object is gone and nothing is shown);
        ``presence``: share of tracked frames whose visibility is told right.
    """
    network.eval()
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    style = yardstick(network.sizes.image_size)
    for chunk in range(max(clips // CHUNK, 1)):
        batch = make_clips(assets, style, CHUNK, SEED + chunk)
        dice = Dice(SEED + chunk, batch.labels.device)
        features = network.image_encoder(normalise(batch.frames.flatten(0, 1)))
        rows = make_rows(batch.labels, *draw_objects(dice, batch.labels, batch.layers, OBJECTS))
        _score_rows(network, features, rows, dice, values)
    network.train()
    return {name: sum(each) / max(len(each), 1) for name, each in values.items()}


def _score_rows(
    network: Network, features: ImageFeatures, rows: Rows, dice: Dice, values: dict[str, list[float]]
) -> None:
    length, real = rows.masks.shape[1], rows.real.bool().tolist()
    first = frame_features(features, rows.clip, 0, length)
    prompted = click_and_box(network, first, rows.masks[:, 0], dice)
    for name, logits in (("click", best_alternative(prompted[0])[0]), ("box", prompted[-1].logits[:, :1])):
        values[name] += _over(iou, rows.masks[:, 0], logits, real)
    nobody = torch.zeros_like(rows.clip, dtype=torch.bool)
    for name, kind in (("mask_jf", 0), ("click_jf", 1)):
        memories = [start(network, first, rows.masks[:, 0], prompted, torch.full_like(rows.clip, kind))]
        for frame in range(1, length):
            lesson = Lesson(rows.masks[:, frame], nobody)
            now = frame_features(features, rows.clip, frame, length)
            decoded, memory = follow(network, now, memories, lesson, dice)
            memories.append(memory)
            visible = decoded[0].object_score[:, 0] > 0
            logits = best_alternative(decoded[0])[0].float()
            logits = torch.where(visible[:, None, None, None], logits, -1.0)
            both = zip(
                _over(iou, lesson.masks, logits, real), _over(contour_accuracy, lesson.masks, logits, real), strict=True
            )
            values[name] += [(j + f) / 2 for j, f in both]
            right = (visible == lesson.present).float().tolist()
            values["presence"] += [each for each, counts in zip(right, real, strict=True) if counts]


def _over(measure: Callable[[Mask, Mask], float], truth: Tensor, logits: Tensor, real: list[bool]) -> list[float]:
    """``measure`` of each real row's mask [R, S, S] and the mask of its logits [R, 1, h, w]."""
    found = (resize_logits(logits, (truth.shape[1], truth.shape[2]))[:, 0] > 0).cpu().numpy()
    pairs = zip(truth.cpu().numpy(), found, real, strict=True)
    return [measure(a, b) for a, b, counts in pairs if counts]

"""Held-out synthetic clips: the first yardstick of a training run."""

from __future__ import annotations

import torch

from sam2track.network.variants import Network
from sam2track.pixels import resize_logits
from sam2track.train.assets import Assets
from sam2track.train.clips import Dice, Style, make_clips
from sam2track.train.losses import iou
from sam2track.train.objective import normalise
from sam2track.train.prompts import draw_objects
from sam2track.train.rollout import best_alternative, click_and_box, follow, frame_features, make_rows, start

SEED = 1 << 40  # apart from every training step's
CHUNK = 4


@torch.no_grad()
def held_out_scores(
    network: Network, assets: Assets, style: Style, clips: int = 16, objects: int = 2
) -> dict[str, float]:
    """Mean IoU of held-out clips, by prompt, and presence accuracy.

    Returns:
        ``click``, ``box``: IoU on the prompted frame; ``mask``: on the tracked frames after a mask prompt, where
        the object can be seen; ``tracked``: the same after a click; ``present``: share of tracked frames whose
        visibility is told right.
    """
    network.eval()
    values: dict[str, list[float]] = {name: [] for name in ("click", "box", "mask", "tracked", "present")}
    for chunk in range(clips // CHUNK):
        _score_chunk(network, assets, style, SEED + chunk, objects, values)
    network.train()
    return {name: sum(each) / max(len(each), 1) for name, each in values.items()}


def _score_chunk(
    network: Network, assets: Assets, style: Style, seed: int, objects: int, values: dict[str, list[float]]
) -> None:
    batch = make_clips(assets, style, CHUNK, seed)
    dice = Dice(seed, batch.labels.device)
    length = style.frames
    features = network.image_encoder(normalise(batch.frames.flatten(0, 1)))
    rows = make_rows(batch.labels, *draw_objects(dice, batch.labels, batch.layers, objects))
    real = rows.real > 0
    first = frame_features(features, rows.clip, 0, length)
    prompted = click_and_box(network, first, rows.masks[:, 0], dice)
    size = (style.size, style.size)

    def overlap(logits: torch.Tensor, frame: int) -> torch.Tensor:
        return iou(resize_logits(logits, size)[:, 0], rows.masks[:, frame].float())

    values["click"] += overlap(best_alternative(prompted[0])[0], 0)[real].tolist()
    values["box"] += overlap(prompted[-1].logits[:, :1], 0)[real].tolist()
    for name, kind in (("mask", 0), ("tracked", 1)):
        memories = [start(network, first, rows.masks[:, 0], prompted, torch.full_like(rows.clip, kind))]
        for frame in range(1, length):
            now = frame_features(features, rows.clip, frame, length)
            candidates, memory = follow(network, now, memories)
            memories.append(memory)
            visible = candidates.object_score[:, 0] > 0
            there = rows.masks[:, frame].flatten(1).any(dim=1)
            score = overlap(best_alternative(candidates)[0], frame) * visible
            values[name] += score[real & there].tolist()
            values["present"] += (visible == there)[real].float().tolist()

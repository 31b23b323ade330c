"""The training loss of a batch of clips."""

from __future__ import annotations

import torch
from torch import Tensor

from sam2track.contracts import ImageFeatures, MaskCandidates
from sam2track.network.variants import Network
from sam2track.pixels import MEAN, STD
from sam2track.train.clips import Clips, Dice
from sam2track.train.dense import DenseHeads
from sam2track.train.losses import LossWeights, candidate_loss, mask_target
from sam2track.train.prompts import draw_objects
from sam2track.train.recipe import Stage
from sam2track.train.rollout import PROMPT_KINDS, Rows, Truth, click_and_box, follow, frame_features, make_rows, start


def batch_loss(
    network: Network, heads: DenseHeads, clips: Clips, stage: Stage, weights: LossWeights, dice: Dice
) -> Tensor:
    """Mean loss of ``clips``."""
    features = network.image_encoder(normalise(clips.frames.flatten(0, 1)))
    dense: Tensor = heads(features, clips.labels, clips.layers) if stage.dense else features.s16.new_zeros(())
    loss = stage.dense * dense
    if stage.memory:
        return loss + clip_loss(network, features, clips, stage, weights, dice)
    for frame in range(clips.labels.shape[1]):
        alone = ImageFeatures(*(maps[frame :: clips.labels.shape[1]] for maps in features))
        still = Clips(clips.frames[:, frame : frame + 1], clips.labels[:, frame : frame + 1], clips.layers)
        loss = loss + still_loss(network, alone, still, stage, weights, dice) / clips.labels.shape[1]
    return loss


def still_loss(
    network: Network, features: ImageFeatures, still: Clips, stage: Stage, weights: LossWeights, dice: Dice
) -> Tensor:
    """Loss of prompts on single frames."""
    rows = make_rows(still.labels, *draw_objects(dice, still.labels, still.layers, stage.objects))
    masks = rows.masks[:, 0]
    candidates = click_and_box(network, frame_features(features, rows.clip, 0, 1), masks, dice)
    return _prompted_loss(candidates, rows, weights)


def clip_loss(
    network: Network, features: ImageFeatures, clips: Clips, stage: Stage, weights: LossWeights, dice: Dice
) -> Tensor:
    """Loss of prompts on the first frame and of tracking through the others."""
    length = clips.labels.shape[1]
    rows = make_rows(clips.labels, *draw_objects(dice, clips.labels, clips.layers, stage.objects))
    first = frame_features(features, rows.clip, 0, length)
    prompted = click_and_box(network, first, rows.masks[:, 0], dice)
    loss = 0.5 * _prompted_loss(prompted, rows, weights)
    kind = dice.integer(len(rows.clip), below=PROMPT_KINDS)
    taught = dice.chance(len(rows.clip), of=stage.taught)
    memories = [start(network, first, rows.masks[:, 0], prompted, kind)]
    for frame in range(1, length):
        now = frame_features(features, rows.clip, frame, length)
        candidates, memory = follow(network, now, memories, Truth(rows.masks[:, frame], taught))
        memories.append(memory)
        loss = loss + _row_mean(candidates, rows.masks[:, frame], rows.real, weights) / (length - 1)
    return loss


def normalise(frames: Tensor) -> Tensor:
    """RGB in [0, 1] to what the image encoder reads."""
    mean, std = (torch.tensor(values, device=frames.device).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (frames - mean) / std


def _prompted_loss(prompted: list[MaskCandidates], rows: Rows, weights: LossWeights) -> Tensor:
    total = rows.real.new_zeros(())
    for candidates in prompted:
        total = total + _row_mean(candidates, rows.masks[:, 0], rows.real, weights)
    return total / len(prompted)


def _row_mean(candidates: MaskCandidates, masks: Tensor, real: Tensor, weights: LossWeights) -> Tensor:
    target = mask_target(masks, candidates.logits.shape[-1])
    return (candidate_loss(candidates, target, weights) * real).sum() / real.sum().clamp_min(1)

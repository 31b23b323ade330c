"""Losses of SAM 2 (arXiv:2408.00714, appendix D.2): focal 20, dice 1, predicted IoU 1, object score 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2track.contracts import MaskCandidates


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each term counts; ``chosen``: the mask of the alternative whose predicted IoU is the best."""

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    presence: float = 1.0
    chosen: float = 0.0


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (arXiv:1708.02002), mean over the last two axes; ``target`` in [0, 1]."""
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = probability + target - 2 * probability * target  # 1 - p of the truth
    balance = alpha * target + (1 - alpha) * (1 - target)
    return (balance * missed**gamma * entropy).mean(dim=(-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft dice over the last two axes (arXiv:1606.04797)."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum(dim=(-2, -1))
    return 1 - (overlap + 1) / (probability.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1)) + 1)


def iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of masks cut at 0 and at one half, over the last two axes; 1 where both are empty."""
    a, b = logits > 0, target > 0.5
    union = (a | b).sum(dim=(-2, -1))
    return torch.where(union > 0, (a & b).sum(dim=(-2, -1)) / union.clamp_min(1), 1.0)


def mask_target(masks: Tensor, side: int) -> Tensor:
    """Bool masks ``[..., S, S]`` as the share of each logit's pixels that is object, ``[..., side, side]``."""
    return F.adaptive_avg_pool2d(masks.float(), side)


def candidate_loss(candidates: MaskCandidates, target: Tensor, weights: LossWeights) -> Tensor:
    """Loss ``[B]`` of four masks against ``target`` [B, h, w] in [0, 1].

    The single mask is always supervised, of the three alternatives the best; every predicted IoU is. What is
    best is known in training alone: ``weights.chosen`` also supervises the alternative that a user would be given.
    Where the target is empty only the object score is.
    """
    logits = candidates.logits.float()
    truth = target[:, None].expand_as(logits)
    masks = weights.focal * focal_loss(logits, truth) + weights.dice * dice_loss(logits, truth)
    per_row = masks[:, 0] + masks[:, 1:].min(dim=1).values
    if weights.chosen:
        chosen = candidates.iou[:, 1:].argmax(dim=1, keepdim=True) + 1
        per_row = per_row + weights.chosen * masks.gather(1, chosen)[:, 0]
    with torch.no_grad():
        overlap = iou(logits, truth)
    per_row = per_row + weights.iou * (candidates.iou.float() - overlap).abs().mean(dim=1)
    present = ((target > 0.5).flatten(1).sum(dim=1) > 0).float()
    score = candidates.object_score.float()[:, 0]
    return per_row * present + weights.presence * F.binary_cross_entropy_with_logits(score, present, reduction="none")

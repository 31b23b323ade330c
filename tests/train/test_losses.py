"""Losses and prompts of known masks."""

import numpy as np
import pytest
import torch

from sam2track.contracts import MaskCandidates
from sam2track.train.dice import Dice
from sam2track.train.losses import LossWeights, candidate_loss, dice_loss, focal_loss, iou
from sam2track.train.prompts import draw_boxes, draw_clicks, draw_objects, labels_at


def test_losses_of_known_masks():
    target = torch.zeros(1, 8, 8)
    target[:, :4] = 1
    right, wrong = (target * 2 - 1) * 20, (1 - target * 2) * 20
    assert dice_loss(right, target).item() == pytest.approx(0, abs=1e-4)
    assert dice_loss(wrong, target).item() == pytest.approx(1 - 1 / 65, abs=1e-4)
    assert focal_loss(right, target).item() == pytest.approx(0, abs=1e-6)
    assert focal_loss(torch.zeros_like(target), target).item() == pytest.approx(0.5 * 0.25 * np.log(2), rel=1e-5)
    assert iou(right, target).item() == 1
    half = target.clone()
    half[:, 2:4] = 0
    assert iou(half * 2 - 1, target).item() == pytest.approx(0.5)


def test_only_the_best_alternative_is_supervised():
    target = torch.zeros(1, 8, 8)
    target[:, :4] = 1
    good, bad = (target * 2 - 1) * 5, (1 - target * 2) * 5
    logits = torch.stack([good, bad, good, bad], dim=1).requires_grad_()
    candidates = MaskCandidates(logits, torch.zeros(1, 4), torch.zeros(1, 4, 8), torch.zeros(1, 1))
    candidate_loss(candidates, target, LossWeights(iou=0)).sum().backward()
    moved = logits.grad.abs().flatten(2).sum(dim=2)[0] > 0
    assert moved.tolist() == [True, False, True, False]


def test_the_chosen_alternative_is_supervised_where_it_counts():
    target = torch.zeros(1, 8, 8)
    target[:, :4] = 1
    good, bad = (target * 2 - 1) * 5, (1 - target * 2) * 5
    logits = torch.stack([good, bad, good, bad], dim=1).requires_grad_()
    predicted = torch.tensor([[0.9, 0.8, 0.1, 0.2]])  # the second mask is chosen, the third is the best
    candidates = MaskCandidates(logits, predicted, torch.zeros(1, 4, 8), torch.zeros(1, 1))
    plain, more = (candidate_loss(candidates, target, LossWeights(chosen=chosen)) for chosen in (0.0, 0.5))
    (more - plain).sum().backward()
    moved = logits.grad.abs().flatten(2).sum(dim=2)[0] > 1e-6  # the other terms cancel, but for rounding
    assert moved.tolist() == [False, True, False, False]
    assert (more - plain).item() == pytest.approx(0.5 * (20 * focal_loss(bad, target) + dice_loss(bad, target)).item())


def test_an_absent_object_trains_only_the_object_score():
    logits, score = torch.zeros(1, 4, 8, 8, requires_grad=True), torch.zeros(1, 1, requires_grad=True)
    candidates = MaskCandidates(logits, torch.zeros(1, 4), torch.zeros(1, 4, 8), score)
    candidate_loss(candidates, torch.zeros(1, 8, 8), LossWeights()).sum().backward()
    assert logits.grad.abs().sum() == 0
    assert score.grad.item() == pytest.approx(0.5)  # too high a score: a step lowers it


def test_prompts_fit_their_masks():
    dice = Dice(0, torch.device("cpu"))
    masks = torch.zeros(20, 64, 64, dtype=torch.bool)
    masks[:, 10:30, 20:50] = True
    assert labels_at(masks, draw_clicks(dice, masks)).min() == 1
    assert draw_boxes(dice, masks, jitter=0.0)[0].tolist() == [[20, 10], [50, 30]]
    labels = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    labels[:, :, 10:30, 20:50] = 2
    objects, real = draw_objects(dice, labels, 3, 2)
    assert objects.tolist() == [[2, 2]]
    assert real.all()
    assert not draw_objects(dice, torch.zeros_like(labels), 3, 2)[1].any()

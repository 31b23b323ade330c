"""Choices between candidate masks, and batches of objects with different histories."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from sam2track import steps
from sam2track.backends import pytorch
from sam2track.config import Config
from sam2track.contracts import MaskCandidates
from sam2track.data import Frame, Prompt
from sam2track.network.variants import VARIANTS, Network
from sam2track.pins import Pin
from sam2track.tracker import Tracker

SIZE = 64


def candidates(iou, score=1.0, first=2.0):
    logits = torch.stack([torch.full((4, 4), value) for value in (first, 3.0, 4.0, 5.0)])[None]
    pointer = torch.arange(4.0)[None, :, None].expand(1, 4, 3)
    return MaskCandidates(logits, torch.tensor([iou]), pointer, torch.tensor([[score]]))


def test_best_alternative_takes_the_best_of_the_last_three_and_its_pointer():
    chosen = steps.best_alternative(candidates([0.99, 0.1, 0.8, 0.3]), visible_above=0.0)
    assert (chosen.logits == 4).all()
    assert chosen.logits.shape == (1, 1, 4, 4)
    assert chosen.iou.tolist() == pytest.approx([0.8])
    assert chosen.pointer[0].tolist() == [2, 2, 2]


def test_single_mask_is_taken_while_it_is_stable():
    chosen = steps.single_mask(candidates([0.2, 0.1, 0.8, 0.3]), visible_above=0.0)
    assert (chosen.logits == 2).all()
    assert chosen.pointer[0].tolist() == [0, 0, 0]


def test_an_unstable_single_mask_gives_way_but_keeps_its_pointer():
    wavering = candidates([0.2, 0.1, 0.8, 0.3])
    wavering.logits[0, 0, 0] = 0.01  # a quarter of the mask is neither in nor out
    chosen = steps.single_mask(wavering, visible_above=0.0)
    assert (chosen.logits == 4).all()
    assert chosen.iou.tolist() == pytest.approx([0.8])
    assert chosen.pointer[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("score", "above", "shown"), [(-0.1, 0.0, False), (0.0, 0.0, False), (1.0, 2.0, False), (-1.0, -2.0, True)]
)
def test_what_is_not_visible_has_no_mask(score, above, shown):
    chosen = steps.best_alternative(candidates([0.1, 0.2, 0.3, 0.4], score), above)
    assert (chosen.logits == (5.0 if shown else steps.NO_OBJECT)).all()


def test_stability_is_the_iou_of_two_cuts():
    logits = torch.tensor([[[1.0, 0.0, -0.04, -1.0]], [[-1.0] * 4]])
    assert steps.stability(logits).tolist() == pytest.approx([1 / 3, 1.0])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    net = Network(VARIANTS["nano"], SIZE)
    for module in net.modules():  # unit gain, so that what is remembered shows in the masks
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    for name, parameter in net.named_parameters():
        if name.endswith(("tokens", "token", "slot_code", "scale", "no_mask", "position")) or ".labels." in name:
            torch.nn.init.normal_(parameter, std=0.5)
    torch.nn.init.constant_(net.mask_decoder.score_head.layers[-1].bias, 5.0)
    return net.eval()


@pytest.fixture
def make_tracker(network):
    config = Config(model="nano", memory={"prompted": 2}, tracking={"fill_holes": 0})
    return lambda: Tracker(pytorch.components(network, Pin("torch", "cpu", "fp32")), config)


def test_objects_with_different_histories_in_one_batch_equal_one_by_one(make_tracker):
    """Added, corrected and removed on different frames: each object's logits are what it gets when tracked alone."""
    rng = np.random.default_rng(0)
    frames = [Frame(rng.integers(0, 256, (48, 64, 3), np.uint8), t, Fraction(t)) for t in range(24)]
    mask = np.zeros((48, 64), bool)
    mask[10:30, 20:50] = True
    script = {
        1: {0: Prompt(points=[(20, 20)]), 9: Prompt(points=[(30, 10), (5, 5)], labels=[1, 0])},
        2: {0: Prompt(box=(5, 5, 40, 40)), 12: Prompt(points=[(20, 30)]), 15: Prompt(points=[(9, 9)])},
        3: {6: Prompt(mask=mask)},
        4: {17: Prompt(points=[(40, 40), (50, 20)]), 20: Prompt(mask=mask)},
    }

    def logits(ids):
        tracker, seen = make_tracker(), {i: {} for i in ids}
        for t, frame in enumerate(frames):
            if t == 14 and 3 in tracker.object_ids:
                tracker.remove(3)
            result = tracker.step(frame, {i: script[i][t] for i in ids if t in script[i]})
            for i in result.objects:
                seen[i][t] = tracker._last.logits[i]
        return seen

    together = logits([1, 2, 3, 4])
    assert sorted(together[3]) == list(range(6, 14))
    for i in script:
        (alone,) = logits([i]).values()
        assert alone.keys() == together[i].keys()
        for t in alone:
            error = (alone[t] - together[i][t]).norm() / alone[t].norm()
            assert error < 1e-3, (i, t)  # memories are bf16: a last-bit difference can round either way
    assert (together[1][5] - together[2][5]).norm() / together[1][5].norm() > 4e-3, "objects do differ"

"""Degradation leaves a picture a picture."""

import pytest
import torch

from sam2track.train.degrade import compress, degrade
from sam2track.train.dice import Dice


@pytest.fixture
def ramp():
    y, x = torch.meshgrid(torch.linspace(0.2, 0.8, 32), torch.linspace(0.2, 0.8, 32), indexing="ij")
    return torch.stack([x, y, (x + y) / 2]).expand(2, 2, 3, 32, 32).clone()


def test_compression_is_coarser_the_coarser_it_is(ramp):
    noisy = (ramp + 0.1 * torch.randn(ramp.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    errors = [
        (compress(noisy, torch.full((2, 1, 1, 1, 1), coarse)) - noisy).pow(2).mean().sqrt().item()
        for coarse in (1e-4, 0.2, 1.0)
    ]
    assert errors[0] < 1e-4
    assert errors[0] < errors[1] < errors[2] < 0.12


def test_a_block_of_one_colour_stays_one(ramp):
    flat = torch.full_like(ramp, 0.5)
    packed = compress(flat, torch.full((2, 1, 1, 1, 1), 1.0))
    assert packed.flatten(3).std(dim=3).max() < 1e-5
    assert (packed - 0.5).abs().max() < 0.05


def test_nothing_happens_at_strength_nought(ramp):
    assert torch.equal(degrade(Dice(0, ramp.device), 0.0, ramp.clone()), ramp)


def test_a_degraded_clip_is_in_range_and_alike(ramp):
    worst = degrade(Dice(1, ramp.device), 1.0, ramp.clone())
    assert 0 <= worst.min() <= worst.max() <= 1
    assert 0.01 < (worst - ramp).abs().mean() < 0.35

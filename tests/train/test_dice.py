"""Random numbers are as likely as they should be."""

import torch

from sam2track.train.dice import Dice


def dice(seed=0):
    return Dice(seed, torch.device("cpu"))


def test_some_is_the_share_on_average_and_never_twice_the_same():
    sizes = []
    for seed in range(400):
        chosen = dice(seed).some(5, 0.3)
        assert len(set(chosen.tolist())) == len(chosen)
        sizes.append(len(chosen))
    assert set(sizes) == {1, 2}
    assert abs(sum(sizes) / 400 - 1.5) < 0.1


def test_pick_follows_the_weights():
    weight = torch.tensor([[0.0, 1.0, 3.0]]).expand(4000, -1)
    share = torch.bincount(dice().pick(weight), minlength=3) / 4000
    assert share[0] == 0
    assert abs(share[2] - 0.75) < 0.03

"""What a step of training learns of a clip."""

from dataclasses import replace

import torch

from sam2track.network.variants import VARIANTS, Network
from sam2track.train import objective
from sam2track.train.dense import DenseHeads
from sam2track.train.initialise import initialise
from sam2track.train.losses import LossWeights
from sam2track.train.objective import Objective
from sam2track.train.recipe import Stills
from tests.train.material import SMOKE


def test_prompts_are_learned_on_as_many_frames_as_a_stage_says_and_of_what_these_show(monkeypatch):
    labels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    for frame in range(3):
        labels[0, frame, 2 : 22 + 2 * frame, 2:22] = 1  # 400, 440 and 480 pixels
    labels[0, :2, 40:50, 40:50] = 2  # gone by the last frame
    network = Network(VARIANTS["nano"], 64)
    initialise(network, 0)
    stage = replace(SMOKE.stages[1], prompted=3, corrected=0.0)
    module = Objective(network, DenseHeads(VARIANTS["nano"]), LossWeights(), stage)

    areas, counts = [], []  # of the rows of each frame; of each loss
    click_and_box, mean = objective.click_and_box, module._mean

    def prompt(network, features, masks, dice):
        areas.append(masks.flatten(1).sum(dim=1).tolist())
        return click_and_box(network, features, masks, dice)

    def counted(candidates, masks, rows):
        counts.append(rows.tolist())
        return mean(candidates, masks, rows)

    monkeypatch.setattr(objective, "click_and_box", prompt)
    monkeypatch.setattr(module, "_mean", counted)
    loss = module(torch.zeros(1, 3, 3, 64, 64), labels, 2, seed=0)

    assert torch.isfinite(loss)
    assert sorted(sorted(each) for each in areas) == [[0, 480], [100, 400], [100, 440]]
    for frame, rows in enumerate(areas):  # a click, its correction and a box
        assert counts[3 * frame : 3 * frame + 3] == [[float(area > 0) for area in rows]] * 3
    assert counts[9:] == [[1.0, 1.0]] * 2  # tracking: that an object has gone is learned as well


def test_stills_add_the_loss_of_prompts_for_as_many_objects_as_they_say(monkeypatch):
    labels = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    labels[0, 0, 2:22, 2:22] = 1
    labels[0, 0, 30:60, 30:50] = 2
    labels[1, 0, 10:50, 10:50] = 2
    stills = torch.rand(2, 1, 3, 64, 64), labels, 2
    clips = torch.rand(1, 3, 3, 64, 64), labels[:1].expand(1, 3, 64, 64), 2
    network = Network(VARIANTS["nano"], 64)
    initialise(network, 0)
    stage = replace(SMOKE.stages[1], corrected=0.0, taught=0.0)
    beside = replace(stage, stills=Stills(count=2, style=replace(stage.style, frames=1), objects=3))

    def loss(stage, *batches):
        return Objective(network, DenseHeads(VARIANTS["nano"]), LossWeights(), stage)(*clips, 7, *batches)

    areas, click_and_box = [], objective.click_and_box

    def prompt(network, features, masks, dice):
        areas.append(masks.flatten(1).sum(dim=1).tolist())
        return click_and_box(network, features, masks, dice)

    alone = loss(stage)
    monkeypatch.setattr(objective, "click_and_box", prompt)
    both = loss(beside, stills)
    assert sorted(areas[1][:3]) in ([400, 400, 600], [400, 600, 600])  # two objects, one of them twice
    assert areas[1][3:] == [1600] * 3
    assert both > alone
    gradient = torch.autograd.grad(both - alone, network.image_encoder.trunk.patch.weight)[0]
    assert gradient.abs().max() > 0

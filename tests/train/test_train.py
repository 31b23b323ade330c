"""Training: clips tell the truth about themselves, the losses about masks, and a run resumes exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2track.errors import SourceError
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network
from sam2track.train.assets import CELL, Assets, load_assets
from sam2track.train.clips import Dice, Style, make_clips
from sam2track.train.evaluate import held_out_scores
from sam2track.train.loop import CHECKPOINT, LOG, WEIGHTS, Run, Trainer, learning_rate
from sam2track.train.losses import LossWeights, candidate_loss, dice_loss, focal_loss, iou
from sam2track.train.prompts import draw_boxes, draw_clicks, draw_objects, labels_at
from sam2track.train.recipe import RECIPES, scaled

STYLE = Style(size=64, frames=3, layers=2, textured=0.0)


@pytest.fixture(scope="module")
def assets():
    """Two discs, a turning square of two cells, and two plain photos: red and green on blue."""
    y, x = np.mgrid[0:CELL, 0:CELL] - CELL / 2 + 0.5
    disc = np.zeros((4, CELL, CELL), np.uint8)
    disc[0], disc[3] = 255, (np.hypot(x, y) < 40) * 255
    square = np.zeros((4, CELL, CELL), np.uint8)
    square[1], square[3] = 255, ((abs(x) < 36) & (abs(y) < 36)) * 255
    photo = np.zeros((2, 3, 240, 320), np.uint8)
    photo[:, 2] = 200
    sprites = torch.from_numpy(np.stack([disc, disc, square, square]))
    return Assets(sprites, stills=2, cells=2, photos=torch.from_numpy(photo))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of assets with enough files for both sides of the split."""
    root = tmp_path_factory.mktemp("assets")
    rng = np.random.default_rng(0)
    for part in ("cutouts", "photos", "turns"):
        (root / part).mkdir()
    for i in range(60):
        cutout = rng.integers(0, 255, (40, 30, 4), np.uint8)
        cutout[..., 3] = 255
        Image.fromarray(cutout).save(root / "cutouts" / f"sh3d_thing{i}_v0.png")
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(root / "photos" / f"photo{i}.png")
    Image.fromarray(rng.integers(0, 255, (20, 60, 4), np.uint8)).save(root / "turns" / "thing0.png")
    return root


def test_a_clip_depends_on_its_seed_alone(assets):
    a, b, c = (make_clips(assets, STYLE, 2, seed) for seed in (5, 5, 6))
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.labels, b.labels)
    assert not torch.equal(a.frames, c.frames)


def test_labels_are_where_the_objects_are(assets):
    clips = make_clips(assets, replace(STYLE, degrade=0.0, twins=0.0, leaving=0.0), 8, 1)
    assert clips.frames.shape == (8, 3, 3, 64, 64)
    assert clips.frames.min() >= 0
    assert clips.frames.max() <= 1
    blue = clips.frames[:, :, 2] > clips.frames[:, :, :2].amax(dim=2)  # the photos are blue, the objects are not
    assert (clips.labels > 0).float().mean() > 0.03
    assert ((clips.labels == 0) == blue).float().mean() > 0.999


def test_objects_leave_and_return(assets):
    clips = make_clips(assets, Style(size=32, frames=8, layers=2, leaving=1.0, speed=0.0, camera=0.0), 16, 3)
    present = (clips.labels == 1).flatten(2).any(dim=2)
    assert (present[:, 0] & ~present[:, 1:].all(dim=1)).any()
    assert (~present[:, 1:-1] & present[:, 2:]).any()


def test_twins_are_the_same_cut_out(assets):
    style = Style(size=64, frames=1, layers=2, twins=1.0, textured=1.0, degrade=0.0)
    clips = make_clips(assets, style, 8, 2)
    red = [[clips.frames[i, 0, 0][clips.labels[i, 0] == k] > 0.4 for k in (1, 2)] for i in range(8)]
    both = [(a.float().mean(), b.float().mean()) for a, b in red if len(a) > 20 and len(b) > 20]
    assert both
    assert all(abs(a - b) < 0.2 for a, b in both)


def test_assets_are_packed_once_and_split_by_object(folder, tmp_path):
    cache = tmp_path / "runs" / "assets.pt"
    seen, unseen = (load_assets(folder, cache, held_out) for held_out in (False, True))
    assert seen.stills + unseen.stills == 60
    assert 0 < unseen.stills < seen.stills
    assert len(seen.photos) + len(unseen.photos) == 60
    assert seen.turns + unseen.turns == 1
    written = cache.stat().st_mtime_ns
    load_assets(folder, cache)
    assert cache.stat().st_mtime_ns == written


def test_assets_without_photos_are_refused(tmp_path):
    (tmp_path / "cutouts").mkdir()
    Image.new("RGBA", (4, 4)).save(tmp_path / "cutouts" / "a.png")
    with pytest.raises(SourceError, match="photos hold no pictures"):
        load_assets(tmp_path, tmp_path / "cache.pt")


def test_a_damaged_picture_is_named(folder, tmp_path):
    for part in ("cutouts", "photos"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"bad\.png cannot be read"):
        load_assets(tmp_path, tmp_path / "cache.pt")


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
    from sam2track.contracts import MaskCandidates

    target = torch.zeros(1, 8, 8)
    target[:, :4] = 1
    good, bad = (target * 2 - 1) * 5, (1 - target * 2) * 5
    logits = torch.stack([good, bad, good, bad], dim=1).requires_grad_()
    candidates = MaskCandidates(logits, torch.zeros(1, 4), torch.zeros(1, 4, 8), torch.zeros(1, 1))
    candidate_loss(candidates, target, LossWeights(iou=0)).sum().backward()
    moved = logits.grad.abs().flatten(2).sum(dim=2)[0] > 0
    assert moved.tolist() == [True, False, True, False]


def test_an_absent_object_trains_only_the_object_score():
    from sam2track.contracts import MaskCandidates

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


def smoke(out, steps_each=2):
    recipe = scaled(RECIPES["smoke"], steps_each / 2)
    return Run("nano", recipe, out, seed=3, log_every=1, evaluate_every=steps_each)


def test_a_resumed_run_gives_the_same_weights(assets, tmp_path):
    whole = Trainer(smoke(tmp_path / "whole"), assets, assets)
    whole.train(say=lambda line: None)
    first = Trainer(smoke(tmp_path / "parts"), assets, assets)
    assert not first.resume()

    class StopError(Exception):
        pass

    def stop(line):
        if line.startswith("step 2 "):
            raise StopError

    with pytest.raises(StopError):
        first.train(say=stop)
    second = Trainer(smoke(tmp_path / "parts"), assets, assets)
    assert second.resume()
    assert second.step == 2
    second.train(say=lambda line: None)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name


def test_a_run_leaves_weights_a_log_and_a_checkpoint(assets, tmp_path):
    trainer = Trainer(smoke(tmp_path), assets, assets)
    lines = []
    trainer.train(lines.append)
    assert (tmp_path / CHECKPOINT).is_file()
    assert len((tmp_path / LOG).read_text().splitlines()) == 1 + 4
    assert "frames_per_s" in lines[-1]
    assert "mask" in lines[-1]
    network = Network(VARIANTS["nano"])
    weights.load(network, tmp_path / WEIGHTS)
    assert torch.equal(network.mask_decoder.iou_token, trainer.average["mask_decoder.iou_token"])


def test_training_lowers_the_loss(assets, tmp_path):
    recipe = replace(RECIPES["smoke"], stages=(replace(RECIPES["smoke"].stages[1], steps=14),))
    losses = []
    run = Run("nano", recipe, Path(tmp_path), seed=1, log_every=1, evaluate_every=1000)
    Trainer(run, assets, assets).train(lambda line: losses.append(float(line.split("loss ")[1].split()[0])))
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_held_out_scores_are_shares(assets):
    network = Network(VARIANTS["nano"], 64)
    scores = held_out_scores(network, assets, STYLE, clips=4)
    assert set(scores) == {"click", "box", "mask", "tracked", "present"}
    assert all(0 <= value <= 1 for value in scores.values())


def test_the_rate_warms_up_and_falls():
    recipe = replace(RECIPES["cpu"], warm_up=10)
    stage = recipe.stages[-1]
    rates = [learning_rate(recipe, stage, step) for step in range(stage.steps)]
    assert rates[0] == pytest.approx(stage.rate / 10)
    assert max(rates) == pytest.approx(stage.rate)
    assert rates[-1] < 0.02 * stage.rate
    assert recipe.at(recipe.steps - 1) == (stage, stage.steps - 1)

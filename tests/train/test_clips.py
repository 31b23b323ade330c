"""Synthetic clips tell the truth about themselves, and look like what their style says."""

import math
from dataclasses import replace

import pytest
import torch

from sam2track.train.clips import _background, _regions, make_clips
from sam2track.train.dice import Dice
from sam2track.train.motion import Camera, Motion, move_camera, move_objects, sprite_velocity
from sam2track.train.style import Style
from tests.train.material import STYLE

CLEAN = replace(STYLE, degrade=0.0, twins=0.0, leaving=0.0)


def test_a_clip_depends_on_its_seed_alone(assets):
    a, b, c = (make_clips(assets, STYLE, 2, seed) for seed in (5, 5, 6))
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.labels, b.labels)
    assert not torch.equal(a.frames, c.frames)


def test_labels_are_where_the_objects_are(assets):
    clips = make_clips(assets, CLEAN, 8, 1)
    assert clips.frames.shape == (8, 3, 3, 64, 64)
    assert clips.frames.min() >= 0
    assert clips.frames.max() <= 1
    blue = clips.frames[:, :, 2] > clips.frames[:, :, :2].amax(dim=2)  # the photos are blue, the objects are not
    assert (clips.labels > 0).float().mean() > 0.03
    assert ((clips.labels == 0) == blue).float().mean() > 0.998


def test_painting_only_where_an_object_is_changes_nothing(assets, monkeypatch):
    style = replace(STYLE, size=96, layers=4, textured=0.3)
    tight = make_clips(assets, style, 4, 3)
    everywhere = slice(None)
    monkeypatch.setattr("sam2track.train.clips._regions", lambda *_: iter([(everywhere, everywhere, everywhere)]))
    whole = make_clips(assets, style, 4, 3)
    assert torch.equal(tight.labels, whole.labels)
    assert torch.allclose(tight.frames, whole.frames, atol=1e-4)
    assert 0 < (tight.labels > 0).float().mean() < 0.9


def test_a_layer_that_is_not_there_is_not_painted():
    nowhere = torch.full((1, 1, 2), 9.0)
    one = torch.ones(1, 1, 2)
    motion = Motion(nowhere, nowhere, one, one, one, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1), torch.ones(1, 1))
    assert list(_regions(motion, 0, 64)) == []


def test_objects_leave_and_return(assets):
    style = Style(size=32, frames=8, layers=2, leaving=1.0, speed=0.0, camera=0.0, shaky=0.0)
    clips = make_clips(assets, style, 16, 3)
    present = (clips.labels == 1).flatten(2).any(dim=2)
    assert (present[:, 0] & ~present[:, 1:].all(dim=1)).any()
    assert (~present[:, 1:-1] & present[:, 2:]).any()


def test_twins_are_the_same_cut_out(assets):
    clips = make_clips(assets, Style(size=64, frames=1, layers=2, twins=1.0, textured=1.0, degrade=0.0), 8, 2)
    red = [[clips.frames[i, 0, 0][clips.labels[i, 0] == k] > 0.4 for k in (1, 2)] for i in range(8)]
    both = [(a.float().mean(), b.float().mean()) for a, b in red if len(a) > 20 and len(b) > 20]
    assert both
    assert all(abs(a - b) < 0.2 for a, b in both)


def test_camouflaged_shapes_are_filled_from_the_photo_behind_them(assets):
    hues = torch.eye(3)[:, :, None, None].expand(-1, -1, *assets.photos.shape[2:]) * 200
    coloured = replace(assets, photos=hues.byte(), scenes=3)  # a red photo, a green one and a blue one
    style = replace(CLEAN, frames=1, textured=1.0)
    for camouflaged in (False, True):
        clips = make_clips(coloured, replace(style, camouflaged=float(camouflaged)), 8, 4)
        assert (clips.labels > 0).flatten(1).any(dim=1).sum() > 4
        seen = (clips.frames[:, 0].amax(dim=(2, 3)) > 0.1).sum(dim=1)
        assert (int(seen.max()) == 1) == camouflaged


def test_joined_layers_are_one_object_whose_parts_stay_together_and_sway():
    style = Style(size=64, frames=4, layers=5, jointed=1.0, speed=0.2, turn=0.2, camera=0.0, shaky=0.0, leaving=0.0)
    dice = Dice(4, torch.device("cpu"))
    motion = move_objects(dice, style, 8, move_camera(dice, style, 8))
    assert motion.label.tolist() == [[1, 1, 3, 3, 5]] * 8
    x, y = motion.x, motion.y
    distance = torch.hypot(x[:, :4:2] - x[:, 1:4:2], y[:, :4:2] - y[:, 1:4:2])
    assert (distance <= 0.86 * (motion.half_height[:, :4:2] + motion.half_height[:, 1:4:2])).all()
    assert x[:, ::2].diff(dim=2).abs().amax() > 0.3
    direction = torch.atan2(y[:, 1] - y[:, 0], x[:, 1] - x[:, 0])
    assert direction.diff(dim=1).abs().amax() > 0.1


def test_parts_of_a_body_point_away_from_it():
    style = Style(size=64, frames=2, layers=7, parts=3, jointed=1.0, camera=0.0, shaky=0.0, leaving=0.0)
    dice = Dice(4, torch.device("cpu"))
    motion = move_objects(dice, style, 4, move_camera(dice, style, 4))
    assert motion.label.tolist() == [[1, 1, 1, 4, 4, 4, 7]] * 4
    for part in (1, 2, 4, 5):
        body = part // 3 * 3
        direction = torch.atan2(
            motion.y[:, part] - motion.y[:, body],
            motion.x[:, part] - motion.x[:, body],
        )
        long_axis = motion.angle[:, part] + math.pi / 2
        assert torch.allclose((direction - long_axis).cos(), torch.ones_like(direction), atol=1e-3)
        assert (motion.half_width[:, part].abs() <= 1.16 * motion.half_height[:, part]).all()
    assert (motion.half_width[:, 1].abs() < 0.55 * motion.half_height[:, 1]).any()


def test_a_joined_part_is_painted_with_the_label_of_its_object(assets):
    style = replace(CLEAN, layers=2, jointed=1.0, extent=(0.3, 0.5))
    clips = make_clips(assets, style, 8, 1)
    assert set(clips.labels.unique().tolist()) == {0, 1}
    blue = clips.frames[:, :, 2] > clips.frames[:, :, :2].amax(dim=2)
    assert ((clips.labels == 0) == blue).float().mean() > 0.998
    apart = make_clips(assets, replace(style, jointed=0.0), 8, 1)
    assert set(apart.labels.unique().tolist()) == {0, 1, 2}


def test_near_layers_move_more_than_far_ones():
    dice = Dice(0, torch.device("cpu"))
    style = Style(frames=4, layers=5, camera=0.2, speed=0.0, leaving=0.0)
    camera = move_camera(dice, style, 6)
    assert (camera.depth.diff(dim=1)[:, 1:] >= 0).all()
    assert (camera.depth[:, 0] <= 1).all()
    still = Camera(camera.pan, torch.ones_like(camera.zoom), camera.depth)
    motion = move_objects(dice, style, 6, still)
    moved = motion.x.diff(dim=2) / camera.pan[:, None, :, 0].diff(dim=2)
    assert torch.allclose(-moved, camera.depth[:, 1:, None].expand_as(moved), atol=1e-3)


def test_a_moving_camera_streaks_the_background(assets):
    stripes = assets.photos.clone()
    stripes[..., ::8] = 0
    style = Style(size=64, frames=2, layers=1, camera=0.0)
    camera = move_camera(Dice(1, torch.device("cpu")), style, 1)
    pan = torch.tensor([[[0.0, 0.0], [0.2, 0.0]]])
    camera = Camera(pan, camera.zoom, camera.depth)
    nobody, everybody = torch.zeros(0, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    sharp, streaked = (
        _background(Dice(2, torch.device("cpu")), stripes[:1], style, camera, (who, torch.full((len(who), 1, 1), 0.6)))
        for who in (nobody, everybody)
    )
    assert streaked[:, :, 2].std() < 0.6 * sharp[:, :, 2].std()
    assert streaked.mean() == pytest.approx(float(sharp.mean()), rel=0.1)


def test_a_streak_follows_the_object_in_its_own_frame():
    quarter = torch.full((1, 1, 2), torch.pi / 2)  # what moves right on the picture moves up in a sprite turned left
    x = torch.tensor([[[0.0, 0.1]]])
    two = torch.full((1, 1, 2), 0.5)
    motion = Motion(
        x, torch.zeros_like(x), two, two, quarter, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1), torch.ones(1, 1)
    )
    assert torch.allclose(sprite_velocity(motion), torch.tensor([0.0, -0.2]).expand(1, 1, 2, 2), atol=1e-6)

"""Annotated clips as training material."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sam2track.datasets import open_dataset
from sam2track.errors import SourceError
from sam2track.train.clips import make_clips
from sam2track.train.footage import Footage
from sam2track.train.style import Style
from sam2track.train.supply import mixed
from tests.train.material import davis_folder

STYLE = Style(size=64, frames=4, layers=2, degrade=0.0)


def test_labels_lie_on_their_objects(davis):
    footage = Footage(open_dataset(davis), torch.device("cpu"))
    clips = footage(STYLE, 8, 1)
    assert clips.frames.shape == (8, 4, 3, 64, 64)
    coloured = (clips.frames[:, :, :2] - 90 / 255).abs().amax(dim=2) > 0.2
    assert ((clips.labels > 0) == coloured).float().mean() > 0.96
    assert {1, 2} <= set(clips.labels.unique().tolist())
    again = footage(STYLE, 8, 1)
    assert torch.equal(clips.frames, again.frames)
    assert not torch.equal(clips.frames, footage(STYLE, 8, 2).frames)


def test_a_clip_that_is_too_short_waits_at_its_end(davis):
    clips = Footage(open_dataset(davis), torch.device("cpu"))(Style(size=64, frames=9, layers=2, degrade=0.0), 2, 3)
    same = [torch.equal(clips.frames[i, -1], clips.frames[i, -2]) for i in range(2)]
    mirrored = [torch.equal(clips.frames[i, 0], clips.frames[i, 1]) for i in range(2)]
    assert all(end or start for end, start in zip(same, mirrored, strict=True))


def test_a_mixture_has_its_share_of_each(davis, assets):
    real = Footage(open_dataset(davis), torch.device("cpu"))
    supply = mixed(lambda *wanted: make_clips(assets, *wanted), real, share=0.5)
    clips = supply(STYLE, 4, 0)
    blue = clips.frames[:, :, 2].flatten(1).mean(dim=1) > 0.6  # the plain assets are blue
    assert sorted(blue.tolist()) == [False, False, True, True]


def test_a_picture_is_read_as_the_tracker_reads_it(tmp_path):
    davis_folder(tmp_path, clips=1, frames=2)
    exif = Image.Exif()
    exif[0x0112] = 3  # lies upside down
    for name in ("00000.jpg", "00001.jpg"):
        picture = tmp_path / "JPEGImages" / "480p" / "clip0" / name
        with Image.open(picture) as upright:
            upright.transpose(Image.Transpose.ROTATE_180).save(picture, exif=exif, quality=95)
    clips = Footage(open_dataset(tmp_path), torch.device("cpu"))(replace(STYLE, frames=2), 2, 0)
    red, green, blue = clips.frames.movedim(2, 0)[:, clips.labels > 0].sum(dim=1)
    assert max(red, green) > 2 * blue  # as the objects are; what is around them is grey


def test_pictures_and_masks_of_other_sizes_are_refused(tmp_path):
    davis_folder(tmp_path, clips=1, frames=2)
    picture = tmp_path / "JPEGImages" / "480p" / "clip0" / "00001.jpg"
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(picture)
    footage = Footage(open_dataset(tmp_path), torch.device("cpu"))
    with pytest.raises(SourceError, match=r"00001\.jpg is \(12, 10\) pixels and its mask \(96, 64\)"):
        footage(Style(size=64, frames=2, layers=2), 4, 0)
    picture.write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"00001\.jpg is no picture"):
        footage(Style(size=64, frames=2, layers=2), 4, 0)

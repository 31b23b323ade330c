"""Assets: read once, split by object, packed to travel."""

import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from sam2track.errors import SinkError, SourceError
from sam2track.train.assets import CELL, MARGIN, PHOTO, fit_sprite, load_assets, pack_assets


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of assets with enough files for both sides of the split."""
    root = tmp_path_factory.mktemp("assets")
    rng = np.random.default_rng(0)
    for part in ("cutouts", "photos", "turns", "textures"):
        (root / part).mkdir()
    for i in range(60):
        cutout = rng.integers(0, 255, (40, 30, 4), np.uint8)
        cutout[..., 3] = 255
        Image.fromarray(cutout).save(root / "cutouts" / f"sh3d_thing{i}_v0.png")
        Image.new("RGB", (80, 60), tuple(rng.integers(0, 255, 3).tolist())).save(root / "photos" / f"photo{i}.png")
    Image.fromarray(rng.integers(0, 255, (20, 60, 4), np.uint8)).save(root / "turns" / "thing0.png")
    Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(root / "textures" / "wood.png")
    return root


def test_assets_are_read_once_and_split_by_object(folder, tmp_path):
    cache = tmp_path / "runs" / "assets.pt"
    seen, unseen = (load_assets(folder, cache, held_out) for held_out in (False, True))
    assert seen.stills + unseen.stills == 60
    assert 0 < unseen.stills < seen.stills
    assert seen.scenes + unseen.scenes == 60
    assert len(seen.photos) + len(unseen.photos) == 61
    assert seen.turns + unseen.turns == 1
    assert seen.photos.shape[1:] == (3, *PHOTO)
    written = cache.stat().st_mtime_ns
    load_assets(folder, cache)
    assert cache.stat().st_mtime_ns == written


def test_a_packed_file_holds_the_same_pictures(folder, tmp_path):
    pack_assets(folder, tmp_path / "assets.zip")
    direct = load_assets(folder, tmp_path / "a.pt")
    packed = load_assets(tmp_path / "assets.zip", tmp_path / "b.pt")
    assert (packed.stills, packed.turns, packed.scenes, packed.cells) == (direct.stills, direct.turns, direct.scenes, 3)
    assert torch.equal(packed.sprites[:, 3], direct.sprites[:, 3])  # outlines are kept exactly
    assert (packed.photos.float() - direct.photos.float()).abs().mean() < 3
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "a.pt.lock", "assets.zip", "b.pt", "b.pt.lock"]


def test_a_cache_that_is_damaged_is_made_again(folder, tmp_path):
    cache = tmp_path / "assets.pt"
    cache.write_bytes(b"half a file")
    assert load_assets(folder, cache).stills > 0


def test_a_filled_cache_is_only_read(folder, tmp_path, monkeypatch):
    cache = tmp_path / "runs" / "assets.pt"
    filled = load_assets(folder, cache)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sam2track.train.assets.FileLock", refuse)
    assert load_assets(folder, cache).sprites.equal(filled.sprites)
    with pytest.raises(SinkError, match=r"other.pt cannot be written \(Permission denied\)"):
        load_assets(folder, tmp_path / "other.pt")


def test_a_sprite_is_premultiplied_and_keeps_its_margin():
    picture = np.full((20, 10, 4), 200, np.uint8)
    picture[..., 3] = 100
    sprite = fit_sprite(Image.fromarray(picture))
    assert sprite.shape == (4, CELL, CELL)
    assert sprite[:, :MARGIN].max() == sprite[:, -MARGIN:].max() == 0
    assert sprite[:, CELL // 2, CELL // 2].tolist() == [78, 78, 78, 100]  # 200 * 100 / 255


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


def test_pictures_that_cannot_be_used_are_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "assets")
    turns, photos = tmp_path / "assets" / "turns", tmp_path / "assets" / "photos"
    for size in ((20, 40), (130 * 8, 8)):
        Image.new("RGBA", size).save(turns / "strip.png")
        with pytest.raises(SourceError, match=rf"strip\.png is {size[0]}x{size[1]} pixels; expected a row of 1 to 120"):
            load_assets(tmp_path / "assets", tmp_path / "cache.pt")
        with pytest.raises(SourceError, match=r"strip\.png is"):
            pack_assets(tmp_path / "assets", tmp_path / "packed.zip")
    (turns / "strip.png").unlink()
    Image.new("RGB", (8, 8)).save(photos / "twice.jpg")
    Image.new("RGB", (8, 8)).save(photos / "twice.png")
    with pytest.raises(SourceError, match=r"twice\.jpg and .*twice\.png would be packed under one name"):
        pack_assets(tmp_path / "assets", tmp_path / "packed.zip")
    broken = bytearray((photos / "twice.png").read_bytes())
    broken[37:41] = b"\xff\xff\xff\xff"
    (photos / "twice.png").write_bytes(broken)
    with pytest.raises(SourceError, match=r"twice\.png cannot be read"):
        load_assets(tmp_path / "assets", tmp_path / "cache.pt")
    assert {path.name for path in tmp_path.iterdir()} == {"assets", "cache.pt.lock"}


def test_a_damaged_packed_file_is_named(folder, tmp_path):
    packed = tmp_path / "assets.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("cutouts/a.webp", b"RIFF")
        archive.writestr("photos/a.webp", b"RIFF")
    with pytest.raises(SourceError, match=r"a\.webp cannot be read"):
        load_assets(packed, tmp_path / "cache.pt")
    packed.write_bytes(b"not a zip")
    with pytest.raises(SourceError, match="neither a folder nor a packed file"):
        load_assets(packed, tmp_path / "cache.pt")

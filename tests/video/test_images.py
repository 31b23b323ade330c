from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageOps

from sam2track.errors import SourceError
from sam2track.video.images import FolderSource
from tests.clips import index_of, numbered, write_images


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_numbers_decide_the_order(tmp_path: Path, suffix: str) -> None:
    folder = write_images(tmp_path / "clip", numbered(12), "{:d}" + suffix)  # 10 sorts before 2 as text
    with FolderSource(folder) as source:
        assert (source.width, source.height, source.frame_count, source.rate) == (96, 64, 12, 24)
        frames = list(source)
    assert [index_of(frame.image) for frame in frames] == list(range(12))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == [Fraction(index, 24) for index in range(12)]


def test_rate_is_settable(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", numbered(3))
    with FolderSource(folder, rate=Fraction(30000, 1001)) as source:
        assert [frame.time for frame in source] == [0, Fraction(1001, 30000), Fraction(2002, 30000)]
    with FolderSource(folder, rate=12.5) as source:
        assert source.rate == Fraction(25, 2)
    with pytest.raises(SourceError, match="not positive"):
        FolderSource(folder, rate=0)


def test_other_files_are_passed_over_and_percent_signs_are_harmless(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "100%03d", numbered(3), "frame%02d_{:d}.png")
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_text("hello")
    (folder / "sub").mkdir()
    with FolderSource(folder) as source:
        assert [index_of(frame.image) for frame in source] == [0, 1, 2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_decoded_and_turned_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    exif = Pil.Exif()
    exif[0x112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Pil.fromarray(np.kron(noise, np.ones((6, 6, 1), np.uint8))).save(tmp_path / "0.jpg", exif=exif)
    with FolderSource(tmp_path) as source:
        image = next(source).image
    assert np.array_equal(image, ImageOps.exif_transpose(Pil.open(tmp_path / "0.jpg")))


def test_damaged_picture_is_counted_and_skipped(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", numbered(5))
    (folder / "00002.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 50)
    (folder / "00003.png").write_bytes(b"")
    with FolderSource(folder) as source:
        frames = list(source)
        assert source.damaged == 2
    assert [(frame.index, index_of(frame.image)) for frame in frames] == [(0, 0), (1, 1), (4, 4)]
    assert frames[-1].time == Fraction(4, 24)


def test_mixed_sizes_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", numbered(2))
    write_images(folder, numbered(1, (32, 48)), first=2)
    with FolderSource(folder) as source:
        next(source), next(source)
        with pytest.raises(SourceError, match=r"00002.png is 48x32 but the clip began with 96x64"):
            next(source)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no images"):
        FolderSource(tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        FolderSource(tmp_path / "none")
    (tmp_path / "1.png").write_text("text")
    with pytest.raises(SourceError, match="1 images but none can be decoded"):
        FolderSource(tmp_path)


def test_pictures_beyond_the_pixel_limit_are_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", numbered(2))
    with pytest.raises(SourceError, match="is 96x64, more than the limit of 100 pixels"):
        FolderSource(folder, max_pixels=100)


def test_closing(tmp_path: Path) -> None:
    source = FolderSource(write_images(tmp_path / "clip", numbered(3)))
    next(source)
    source.close()
    source.close()
    with pytest.raises(SourceError, match="is closed"):
        next(source)

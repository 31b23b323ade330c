"""Pictures of every mode and orientation, with PIL as the truth."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageOps

from sam2track.errors import SinkError, SourceError
from sam2track.video.picture import read_picture, to_rgb, write_picture

RANDOM = np.random.default_rng(0)
PICTURE = np.kron(RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))  # 40 x 56


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_turns_the_picture_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Pil.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"photo{suffix}"
    Pil.fromarray(PICTURE).save(path, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Pil.open(path)))
    assert expected.shape == ((40, 56, 3) if orientation < 5 else (56, 40, 3))
    assert np.array_equal(read_picture(path), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_modes_of_a_file_and_of_pil(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    Pil.fromarray(PICTURE).convert(mode).save(path)
    expected = np.asarray(Pil.open(path).convert("RGB"))
    assert np.array_equal(to_rgb(str(path)), expected)
    assert np.array_equal(to_rgb(Pil.open(path)), expected)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = RANDOM.integers(0, 2**16, (20, 30), dtype=np.uint16)
    expected = np.repeat(np.round(deep / 257).astype(np.uint8)[..., None], 3, axis=2)
    path = tmp_path / "deep.png"
    Pil.fromarray(deep).save(path)
    assert np.array_equal(to_rgb(deep), expected)
    assert np.array_equal(to_rgb(path), expected)
    assert np.array_equal(to_rgb(Pil.open(path)), expected)


def test_arrays() -> None:
    alpha = np.dstack([PICTURE, np.zeros(PICTURE.shape[:2], np.uint8)])
    assert np.array_equal(to_rgb(alpha), PICTURE)
    assert np.array_equal(to_rgb(PICTURE[:, ::-1]), PICTURE[:, ::-1])
    grey = PICTURE[..., 0]
    for array in (grey, grey[..., None]):
        assert np.array_equal(to_rgb(array), np.dstack([grey] * 3))
    assert to_rgb(PICTURE[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PICTURE / 255, r"float64\[40, 56, 3\]; expected uint8, or uint16"),
        (PICTURE[..., :2], r"shape \[40, 56, 2\]"),
        (PICTURE[:0], "shape"),
        (np.broadcast_to(np.zeros((), np.uint8), (20000, 20000)), "is 20000x20000; at most"),
        (None, "image is a NoneType; expected a path, a numpy array or a PIL image"),
    ],
)
def test_what_is_no_picture_is_named(image: object, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        to_rgb(image)


def test_files_that_are_no_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = tmp_path / "whole.jpg"
    Pil.fromarray(PICTURE).save(whole, quality=95)
    cut, text, empty = (tmp_path / name for name in ("cut.jpg", "text.png", "empty.png"))
    cut.write_bytes(whole.read_bytes()[:-200])
    text.write_text("not a picture")
    empty.touch()
    for path, message in (
        (cut, "cut.jpg cannot be decoded; check that it is whole"),
        (text, "text.png is no picture"),
        (empty, "empty.png is no picture"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "missing.png", "cannot be read: No such file"),
    ):
        with pytest.raises(SourceError, match=message) as raised:
            read_picture(path)
        assert "\n" not in str(raised.value)
    assert "OpenCV" not in capfd.readouterr().err


def test_a_picture_larger_than_allowed_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    rows = zlib.compress(bytes(100_000))
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    with pytest.raises(SourceError, match="more than 67108864 pixels"):
        read_picture(bomb)
    small = tmp_path / "small.png"
    write_picture(small, PICTURE)
    with pytest.raises(SourceError, match="is 56x40, more than the limit of 1000 pixels"):
        read_picture(small, max_pixels=1000)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    write_picture(tmp_path / "photo.png", PICTURE)
    assert np.array_equal(read_picture(tmp_path / "photo.png"), PICTURE)
    mask = PICTURE[..., 0] > 100
    write_picture(tmp_path / "mask.png", mask)
    assert np.array_equal(np.asarray(Pil.open(tmp_path / "mask.png")), mask * np.uint8(255))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.png", "photo.png"]
    with pytest.raises(SinkError, match=r"is no picture's name; end it in \.bmp"):
        write_picture(tmp_path / "photo.gif", PICTURE)
    with pytest.raises(SinkError, match="cannot be written"):
        write_picture(tmp_path / "nowhere" / "photo.png", PICTURE)


@pytest.mark.parametrize(("suffix", "width"), [(".jpg", 70_000), (".webp", 20_000)])
def test_more_columns_than_a_format_holds(tmp_path: Path, suffix: str, width: int) -> None:
    with pytest.raises(SinkError, match=f"cannot hold a picture of {width}x2; write a .png"):
        write_picture(tmp_path / f"wide{suffix}", np.zeros((2, width, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_deep_pil_images() -> None:
    deep = RANDOM.integers(0, 2**16, (20, 30), dtype=np.uint16)
    other = Pil.frombytes("I;16B", (30, 20), deep.astype(">u2").tobytes())
    assert np.array_equal(to_rgb(other), to_rgb(deep))
    for dtype, mode in ((np.int32, "I"), (np.float32, "F")):
        with pytest.raises(SourceError, match=f"a PIL image of mode {mode}; convert it"):
            to_rgb(Pil.fromarray(deep.astype(dtype)))


def test_opencv_speaks_again_after_threads_have_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "photo.png", PICTURE)
    level = cv2.utils.logging.getLogLevel()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read_picture, [tmp_path / "photo.png"] * 200))
    assert cv2.utils.logging.getLogLevel() == level

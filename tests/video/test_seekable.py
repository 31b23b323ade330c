"""Random access gives the frames of sequential reading, whatever the file."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sam2track.errors import SourceError
from sam2track.video import open_recording, open_source
from sam2track.video.decode import Decoder
from sam2track.video.seekable import FileRecording, OrderedRecording
from tests.clips import damage_packets, moving_square, numbered, write_audio, write_clip, write_images

COUNT = 40
B_FRAMES = {"preset": "veryfast", "g": "12", "bf": "3", "sc_threshold": "0"}


def orders(count: int) -> list[list[int]]:
    """Forwards, backwards, at random, and back and forth over the seams of GOPs."""
    shuffled = list(range(count))
    random.Random(1).shuffle(shuffled)
    return [list(range(count)), list(range(count))[::-1], shuffled, [i ^ 1 for i in range(count - count % 2)]]


def assert_same_frames(path: Path, kind: type | None = FileRecording, **options: int) -> None:
    with open_source(path) as source:
        frames = {frame.index: frame for frame in source}
        shape = (source.width, source.height, source.rate, source.pixel_aspect)
    for order in orders(max(frames) + 1):
        with open_recording(path, **options) as recording:
            assert kind is None or type(recording) is kind
            assert (recording.width, recording.height, recording.rate, recording.pixel_aspect) == shape
            assert len(recording) >= max(frames) + 1
            for index in order:
                frame, expected = recording.read(index), frames.get(index)
                if expected is None:
                    assert frame is None
                    continue
                assert frame is not None
                assert (frame.index, frame.time, recording.time(index)) == (index, expected.time, expected.time)
                assert np.array_equal(frame.image, expected.image), f"frame {index}"


@pytest.mark.parametrize(
    "options",
    [B_FRAMES, B_FRAMES | {"x264-params": "open-gop=1"}, {"preset": "ultrafast", "g": "1000"}, {"preset": "veryfast"}],
    ids=["b-frames", "open gop", "one gop", "default"],
)
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_h264(tmp_path: Path, container: str, options: dict[str, str]) -> None:
    path = write_clip(tmp_path / f"a.{container}", moving_square(COUNT), 30, options=options)
    assert_same_frames(path)


def test_a_refresh_without_keyframes(tmp_path: Path) -> None:
    options = {"preset": "veryfast", "g": "10", "x264-params": "intra-refresh=1:bframes=0"}
    assert_same_frames(write_clip(tmp_path / "a.mp4", moving_square(COUNT), 30, options=options))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "kind"),
    [
        ("a.mkv", "ffv1", "yuv444p", FileRecording),
        ("a.avi", "mjpeg", "yuvj420p", FileRecording),
        ("a.mp4", "libx265", "yuv420p", FileRecording),
        ("a.webm", "libvpx-vp9", "yuv420p", FileRecording),
        ("a.mpg", "mpeg2video", "yuv420p", None),
        ("a.webm", "libvpx", "yuv420p", OrderedRecording),
        ("a.avi", "mpeg4", "yuv420p", OrderedRecording),
        ("a.gif", "gif", "rgb8", None),
    ],
)
def test_other_codecs(tmp_path: Path, name: str, codec: str, pix_fmt: str, kind: type | None) -> None:
    options = {
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "g": "9"},
        "libvpx": {"deadline": "good", "cpu-used": "5", "g": "9", "auto-alt-ref": "1", "lag-in-frames": "8"},
        "libx265": {"preset": "ultrafast", "x265-params": "keyint=9:bframes=2:log-level=none"},
    }.get(codec, {})
    path = write_clip(tmp_path / name, moving_square(24), 25, codec=codec, pix_fmt=pix_fmt, options=options)
    assert_same_frames(path, kind)


def test_variable_rate_and_a_late_start(tmp_path: Path) -> None:
    times = [Fraction(5) + Fraction(index * index, 50) for index in range(30)]
    assert_same_frames(write_clip(tmp_path / "v.mkv", moving_square(30), times=times, options=B_FRAMES))


@pytest.mark.parametrize("rotation", [90, 180])
def test_rotation(tmp_path: Path, rotation: int) -> None:
    assert_same_frames(write_clip(tmp_path / "r.mp4", moving_square(14), rotation=rotation, options=B_FRAMES))


@pytest.mark.parametrize("damaged", [[7, 8], [0], [12], [11, 13], [39], [20, 21, 22]])
@pytest.mark.parametrize("options", [{"preset": "ultrafast", "g": "5"}, B_FRAMES], ids=["p", "b"])
def test_damaged_frames_are_missing(tmp_path: Path, damaged: list[int], options: dict[str, str]) -> None:
    whole = write_clip(tmp_path / "a.mp4", moving_square(COUNT), 30, options=options)
    assert_same_frames(damage_packets(whole, tmp_path / "bad.mp4", damaged))


def test_a_file_without_times_is_read_in_order(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "raw.h264", moving_square(12), 25, container="h264")
    assert_same_frames(path, None)


def test_two_clocks_in_one_file(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{i}.ts", numbered(6, first=6 * i)).read_bytes() for i in range(2)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    assert_same_frames(path, OrderedRecording)


def test_folders(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "f", numbered(12), "{}.png")
    assert_same_frames(folder, None)
    (folder / "5.png").write_bytes(b"damaged")
    assert_same_frames(folder, None)


def test_reading_forwards_never_seeks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_square(COUNT), 30, options=B_FRAMES)
    sought = []
    plain = Decoder.seek
    monkeypatch.setattr(Decoder, "seek", lambda self, *to: sought.append(to) or plain(self, *to))
    with open_recording(path) as recording:
        assert [recording.read(i).index for i in range(COUNT)] == list(range(COUNT))
        assert sought == []
        assert recording._cache.used == 0, "nor is anything kept but the last frame"
        assert recording.read(COUNT - 1) is recording.read(COUNT - 1)
        assert sought == []
    with open_recording(path, cache_bytes=3 * 96 * 64 * 12) as recording:
        for index in range(COUNT)[::-1]:
            recording.read(index)
        assert len(sought) == 4, "once a GOP of 12"


def test_decoded_frames_stay_within_their_budget(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_square(COUNT), 30, options={"preset": "ultrafast", "g": "1000"})
    with open_recording(path, cache_bytes=10 * 3 * 96 * 64) as recording:
        for index in (39, 30, 12, 25, 3):
            recording.read(index)
            assert recording._cache.used <= 10 * 3 * 96 * 64
    assert_same_frames(path, cache_bytes=5 * 3 * 96 * 64)
    assert_same_frames(path, cache_bytes=0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (0, "camera 0 can be read only as it comes"),
        ("0", "camera 0 can be read only as it comes"),
        ("rtsp://user:secret@host/x", "stream rtsp://... can be read only as it comes"),
        ("nothing.mp4", "does not exist"),
        (" ", "source is empty"),
    ],
)
def test_what_cannot_be_read_in_any_order_is_refused(source: object, message: str) -> None:
    with pytest.raises(SourceError, match=message) as refusal:
        open_recording(source)
    assert "secret" not in str(refusal.value)


def test_wrong_calls_are_named(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(5))
    with open_recording(path) as recording:
        for index in (-1, 5):
            with pytest.raises(SourceError, match=f"frame {index} is not in .*a.mp4, which has frames 0 to 4"):
                recording.read(index)
        assert recording.read(4) is not None
        with pytest.raises(ValueError, match="read-only"):
            recording.read(4).image[0] = 0
    with pytest.raises(SourceError, match="is closed"):
        recording.read(0)
    with pytest.raises(SourceError, match="no video stream"):
        open_recording(write_audio(tmp_path / "sound.mp4"))

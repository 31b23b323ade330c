from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from sam2track import video
from sam2track.errors import SourceError
from sam2track.video import Camera, Source, open_source
from sam2track.video.file import FileSource
from sam2track.video.images import FolderSource
from sam2track.video.protocol import MAX_PIXELS
from sam2track.video.stream import StreamSource
from tests.clips import index_of, numbered, write_clip, write_images
from tests.video.servers import Server


def test_files_folders_and_urls_of_files(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a clip.mp4", numbered(3))
    folder = write_images(tmp_path / "frames", numbered(3))
    for source, kind in [
        (clip, FileSource),
        (str(clip), FileSource),
        (clip.as_uri(), FileSource),
        (folder, FolderSource),
    ]:
        with open_source(source) as opened:
            assert type(opened) is kind
            assert isinstance(opened, Source)
            assert [index_of(frame.image) for frame in opened] == [0, 1, 2]


def test_cameras() -> None:
    with open_source("lavfi:testsrc=size=96x64", rate=10) as source:
        assert isinstance(source, Camera)
        assert next(source).width == 96
    for camera in (77, "77", "/dev/video77", "v4l2:/dev/video77"):
        with pytest.raises(SourceError, match="77"):
            open_source(camera)


def test_streams(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "a.ts", numbered(5)).read_bytes()
    with (
        Server(lambda connection, number, stop: connection.sendall(data)) as server,
        open_source(f"tcp://127.0.0.1:{server.port}") as source,
    ):
        assert isinstance(source, StreamSource)
        assert index_of(next(source).image) == 0


def test_rate_of_a_folder(tmp_path: Path) -> None:
    with open_source(write_images(tmp_path / "f", numbered(2)), rate=10) as source:
        assert source.rate == 10
        assert [frame.time for frame in source] == [0, Fraction(1, 10)]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "source is empty"),
        ("  ", "source is empty"),
        ("missing.mp4", "missing.mp4 does not exist"),
        ("concat:a|b", "does not exist"),
        ("ftp://host/a.mp4", "is not a stream address"),
    ],
)
def test_what_cannot_be_opened(source: str, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        open_source(source)


def test_a_file_named_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", numbered(2)).rename(tmp_path / "concat:x.mp4")
    monkeypatch.chdir(tmp_path)
    with open_source("concat:x.mp4") as source:
        assert len(list(source)) == 2


def test_pixel_limit_reaches_every_kind(tmp_path: Path) -> None:
    for source in (
        write_clip(tmp_path / "a.mp4", numbered(2)),
        write_images(tmp_path / "f", numbered(2)),
        "lavfi:testsrc",
    ):
        with pytest.raises(SourceError, match="more than the limit"):
            open_source(source, max_pixels=100)
    assert MAX_PIXELS >= 7680 * 4320


def test_repr_tells_size_and_rate(tmp_path: Path) -> None:
    with open_source(write_clip(tmp_path / "a.mp4", numbered(2), 25)) as source:
        assert repr(source) == f"FileSource('{tmp_path / 'a.mp4'}', 96x64, 25.00 fps)"


def test_public_names() -> None:
    names = {"Camera", "Reconnect", "Recording", "Source", "VideoWriter", "open_recording", "open_source"}
    assert set(video.__all__) == names
    assert all(hasattr(video, name) for name in video.__all__)


def test_a_live_source_left_open_does_not_disturb_the_end_of_the_program() -> None:
    program = (
        "from sam2track.video import Camera; c = Camera('lavfi:testsrc=size=96x64,realtime'); next(c); print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")

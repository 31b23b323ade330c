from __future__ import annotations

import signal
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sam2track.data import Frame
from sam2track.errors import SinkError
from sam2track.video import Camera, VideoWriter, open_source
from tests.clips import NTSC, Image, index_of, numbered, solid, write_clip


def frames_at(images: list[Image], times: Iterable[Fraction]) -> list[Frame]:
    return [Frame(image, index, time) for index, (image, time) in enumerate(zip(images, times, strict=True))]


def at_rate(images: list[Image], rate: Fraction | int = 25) -> list[Frame]:
    return frames_at(images, [Fraction(index) / rate for index in range(len(images))])


def write(path: Path, frames: list[Frame], **settings: object) -> Path:
    with VideoWriter(path, **settings) as out:  # type: ignore[arg-type]
        for frame in frames:
            out.write(frame)
    return path


def write_and_raise(path: Path, frames: list[Frame], error: BaseException) -> None:
    with VideoWriter(path) as out:
        for frame in frames:
            out.write(frame)
        raise error


def only_file(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "o.ts", "o.avi"])
def test_ntsc_stays_ntsc(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path / "a.mp4", numbered(30), NTSC)
    with open_source(clip) as source, VideoWriter(tmp_path / name, like=source) as out:
        for frame in source:
            out.write(frame)
    with open_source(tmp_path / name) as again:
        assert again.rate == NTSC
        frames = list(again)
    assert [frame.time for frame in frames] == [index / NTSC for index in range(30)]
    assert [index_of(frame.image) for frame in frames] == list(range(30))


@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "o.mkv"])
def test_variable_rate_is_exact(tmp_path: Path, name: str) -> None:
    times = [Fraction(index * index * 20 + index, 1000) for index in range(10)]
    clip = write_clip(tmp_path / "v.mkv", numbered(10), times=times)
    with open_source(clip) as source, VideoWriter(tmp_path / name, like=source) as out:
        for frame in source:
            out.write(frame)
    with open_source(tmp_path / name) as again:
        frames = list(again)
    assert [frame.time for frame in frames] == times
    assert [index_of(frame.image) for frame in frames] == list(range(10))


@pytest.mark.parametrize(
    ("name", "codec", "tolerance"),
    [("o.mkv", "h264", Fraction(1, 2000)), ("o.webm", "vp9", Fraction(1, 2000)), ("o.gif", "gif", Fraction(1, 200)),
     ("o.ogv", "vp8", 0), ("o.mpg", "mpeg1video", 0)],
)  # fmt: skip
def test_other_containers(tmp_path: Path, name: str, codec: str, tolerance: Fraction) -> None:
    frames = at_rate(numbered(8), 30)
    path = write(tmp_path / name, frames, rate=30)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name.startswith(codec)
    with open_source(path) as source:
        again = list(source)
    assert [index_of(frame.image) for frame in again] == list(range(8))
    assert max(abs(a.time - b.time) for a, b in zip(again, frames, strict=True)) <= tolerance


def test_colours_are_kept_and_tagged(tmp_path: Path) -> None:
    color = (200, 60, 30)
    path = write(tmp_path / "o.mp4", at_rate([solid(color)] * 3))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_primaries, context.color_trc) == ("yuv420p", 1, 1, 1)
        assert context.color_range == 1
    with open_source(path) as source:
        assert np.abs(np.median(next(source).image, axis=(0, 1)) - color).max() <= 3


def test_index_of_an_mp4_comes_first(tmp_path: Path) -> None:
    data = write(tmp_path / "o.mp4", at_rate(numbered(5))).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("size", [(63, 97), (64, 97), (63, 96)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write(tmp_path / "o.mp4", at_rate(numbered(3, size)))
    with open_source(path) as source:
        assert (source.height, source.width) == (64, size[1] + size[1] % 2)
        frames = list(source)
    assert [index_of(frame.image[: size[0], : size[1]]) for frame in frames] == [0, 1, 2]


def test_pixel_shape_is_taken_over(tmp_path: Path) -> None:
    with open_source(write_clip(tmp_path / "a.mp4", numbered(2))) as source:
        source.pixel_aspect = Fraction(4, 3)
        with VideoWriter(tmp_path / "o.mp4", like=source) as out:
            for frame in source:
                out.write(frame)
    with open_source(tmp_path / "o.mp4") as again:
        assert again.pixel_aspect == Fraction(4, 3)


def test_like_a_live_source(tmp_path: Path) -> None:
    with Camera("lavfi:testsrc=size=96x64:rate=25") as camera, VideoWriter(tmp_path / "o.mp4", like=camera) as out:
        frames = [next(camera) for _ in range(6)]
        for frame in frames[:2] + frames[4:]:  # two were skipped
            out.write(frame)
    with open_source(tmp_path / "o.mp4") as again:
        assert [frame.time for frame in again] == [Fraction(index, 25) for index in (0, 1, 4, 5)]


def test_like_a_source_of_unknown_rate(tmp_path: Path) -> None:
    with Camera("lavfi:testsrc=size=96x64:rate=25") as camera:
        camera.rate, camera.time_base = None, Fraction(1, 1_000_000)
        times = [Fraction(us, 1_000_000) for us in (0, 33_334, 71_003, 99_999)]
        with VideoWriter(tmp_path / "o.mp4", like=camera) as out:
            for index, time in enumerate(times):
                out.write(Frame(next(camera).image, index, time))
    with open_source(tmp_path / "o.mp4") as again:
        assert [frame.time for frame in again] == times


def test_a_clock_finer_than_any_player_knows_is_rounded(tmp_path: Path) -> None:
    times = [Fraction(1, 999_999_937) * index * 40_000_000 for index in range(4)]
    path = write(tmp_path / "o.mp4", frames_at(numbered(4), times), rate=Fraction(999_983, 40_009))
    with open_source(path) as again:
        for frame, time in zip(again, times, strict=True):
            assert abs(frame.time - time) <= Fraction(1, 90_000)


def test_better_quality_is_larger(tmp_path: Path) -> None:
    images = [np.random.default_rng(index).integers(0, 255, (64, 96, 3), np.uint8) for index in range(4)]
    sizes = [
        write(tmp_path / f"{crf}.mp4", at_rate(images), crf=crf, preset="ultrafast").stat().st_size for crf in (10, 40)
    ]
    assert sizes[0] > 2 * sizes[1]


def test_the_name_is_taken_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    path.write_text("the one before")
    with VideoWriter(path) as out:
        for frame in at_rate(numbered(5)):
            out.write(frame)
        assert path.read_text() == "the one before"
    assert only_file(tmp_path) == ["o.mp4"]
    with open_source(path) as source:
        assert len(list(source)) == 5


def test_an_error_discards(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    with pytest.raises(RuntimeError, match="from elsewhere"):
        write_and_raise(path, at_rate(numbered(1)), RuntimeError("from elsewhere"))
    assert only_file(tmp_path) == []


def test_ctrl_c_finishes_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(path, at_rate(numbered(7)), KeyboardInterrupt())
    assert only_file(tmp_path) == ["o.mp4"]
    with open_source(path) as source:
        assert [index_of(frame.image) for frame in source] == list(range(7))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_while_the_file_is_finished_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line has it
    path = tmp_path / "o.mp4"
    plain = Path.replace

    def interrupted(partial: Path, target: Path) -> Path:
        signal.raise_signal(number)
        return plain(partial, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(path, at_rate(numbered(7)), KeyboardInterrupt())
    signal.signal(signal.SIGTERM, before)
    assert only_file(tmp_path) == ["o.mp4"]
    with open_source(path) as source:
        assert len(list(source)) == 7


def test_ctrl_c_in_the_first_frame_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "o.mp4"
    path.write_text("the one before")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, at_rate(numbered(1)))
    assert (only_file(tmp_path), path.read_text()) == (["o.mp4"], "the one before")


@pytest.mark.parametrize("rate", [60, 50, 25, Fraction(24_000, 1001)])
@pytest.mark.parametrize("settings", [{}, {"rate": 30}])
def test_times_are_kept_without_a_source_to_be_like(
    tmp_path: Path, rate: Fraction | int, settings: dict[str, object]
) -> None:
    frames = at_rate(numbered(6), rate)
    with open_source(write(tmp_path / "o.mp4", frames, **settings)) as source:
        times = [float(frame.time) for frame in source]
    assert times == pytest.approx([float(frame.time) for frame in frames], abs=1 / 90_000)


def test_a_container_whose_encoder_takes_no_fine_ticks(tmp_path: Path) -> None:
    with open_source(write(tmp_path / "o.nut", at_rate(numbered(6), 30))) as source:
        assert [float(frame.time) for frame in source] == pytest.approx([i / 30 for i in range(6)], abs=1e-4)


def test_no_frame_makes_no_file(tmp_path: Path) -> None:
    out = VideoWriter(tmp_path / "o.mp4")
    with pytest.raises(SinkError, match="got no frame"):
        out.close()
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "o.mp4"):
        raise KeyboardInterrupt
    assert only_file(tmp_path) == []


def test_closing(tmp_path: Path) -> None:
    out = VideoWriter(tmp_path / "o.mp4")
    frames = at_rate(numbered(2))
    out.write(frames[0])
    out.close()
    out.close()
    out.discard()
    assert only_file(tmp_path) == ["o.mp4"]
    with pytest.raises(SinkError, match="is closed"):
        out.write(frames[1])


def test_frames_that_do_not_fit(tmp_path: Path) -> None:
    frames = at_rate(numbered(3))
    small = Frame(numbered(1, (32, 48))[0], 1, Fraction(1))
    with VideoWriter(tmp_path / "o.mp4") as out:
        out.write(frames[1])
        with pytest.raises(SinkError, match=r"frame 1 is 48x32 but .*o.mp4 is 96x64"):
            out.write(small)
        for late in frames[:2]:
            with pytest.raises(SinkError, match="does not come after the last one"):
                out.write(late)
        out.write(frames[2])
    with pytest.raises(SinkError, match="is 200x100"), VideoWriter(tmp_path / "p.mp4", width=200, height=100) as out:
        out.write(frames[0])
    with pytest.raises(SinkError, match="leaves a gap"):
        write(tmp_path / "p.avi", [frames[0], frames[2]], rate=25)
    assert only_file(tmp_path) == ["o.mp4"]


@pytest.mark.parametrize("name", ["o.xyz", "o", "o.wav", "o.png", "o.srt"])
def test_extensions_that_hold_no_video(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match=r"no extension of a video container .* use one of \.mp4"):
        VideoWriter(tmp_path / name)
    assert only_file(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SinkError, match="does not exist; make it first"):
        VideoWriter(tmp_path / "none" / "o.mp4")
    (tmp_path / "d.mp4").mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        VideoWriter(tmp_path / "d.mp4")

    def refuse(self: Path, *_: object) -> None:  # the tests may run as root, whom no permission stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SinkError, match=r"cannot be written .Permission denied."):
        VideoWriter(tmp_path / "o.mp4")


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="not positive"):
        VideoWriter(tmp_path / "o.mp4", rate=0)
    with pytest.raises(SinkError, match="crf 20 has no meaning"):
        VideoWriter(tmp_path / "o.gif", crf=20)
    with pytest.raises(SinkError, match="cannot be written"), VideoWriter(tmp_path / "o.mp4", preset="warp") as out:
        out.write(at_rate(numbered(1))[0])
    assert only_file(tmp_path) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    out = VideoWriter(tmp_path / "o.mp4")
    out.write(at_rate(numbered(1))[0])
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SinkError, match="No space left on device"):
        out.close()
    assert only_file(tmp_path) == []

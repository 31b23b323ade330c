from __future__ import annotations

import gc
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sam2track.errors import SourceError
from sam2track.video.container import UndecodableError
from sam2track.video.file import FileSource
from tests.clips import NTSC, damage_packets, index_of, numbered, solid, write_audio, write_clip, write_images


def test_constant_rate_is_exact(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(12), NTSC)
    with FileSource(path) as source:
        assert (source.width, source.height, source.rate, source.frame_count) == (96, 64, NTSC, 12)
        assert (source.name, source.live, source.pixel_aspect) == (str(path), False, 1)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == [index / NTSC for index in range(12)]
    assert [index_of(frame.image) for frame in frames] == list(range(12))
    assert all(frame.image.flags.c_contiguous and frame.image.shape == (64, 96, 3) for frame in frames)


def test_variable_rate_keeps_every_time(tmp_path: Path) -> None:
    times = [Fraction(index * index, 50) for index in range(8)]
    with FileSource(write_clip(tmp_path / "v.mkv", numbered(8), times=times)) as source:
        frames = list(source)
    assert [frame.time for frame in frames] == times
    assert [index_of(frame.image) for frame in frames] == list(range(8))


@pytest.mark.parametrize("name", ["a.ts", "a.avi", "a.mkv", "late.mp4"])
def test_first_frame_is_at_zero(tmp_path: Path, name: str) -> None:
    start = 7 if name == "late.mp4" else 0
    times = [Fraction(start) + Fraction(index, 25) for index in range(5)]
    path = write_clip(tmp_path / name, numbered(5), 25, times=None if name == "a.avi" else times)
    with FileSource(path) as source:
        assert [frame.time for frame in source] == [Fraction(index, 25) for index in range(5)]


def test_missing_times_advance_by_the_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "raw.h264", numbered(5), 25, container="h264")  # a bare stream carries no pts
    with FileSource(path) as source:
        rate = source.rate
        assert rate is not None
        assert [frame.time for frame in source] == [index / rate for index in range(5)]


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    stored = solid((0, 0, 0))
    stored[:24, :24] = (255, 0, 0)  # top left
    stored[:24, -24:] = (0, 255, 0)  # top right
    path = write_clip(tmp_path / "r.mp4", [stored] * 2, rotation=rotation)
    expected = np.rot90(stored, k=rotation // 90)  # numpy turns counter-clockwise, as the tag is defined
    with FileSource(path) as source:
        assert (source.height, source.width) == expected.shape[:2]
        for frame in source:
            assert frame.image.flags.c_contiguous
            assert np.abs(frame.image.astype(int) - expected).mean() < 4


def test_mirrored_display_matrix_is_applied(tmp_path: Path) -> None:
    stored = solid((0, 0, 0))
    stored[:24, :24] = (255, 0, 0)
    with av.open(str(tmp_path / "m.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height = 96, 64
        stream.set_display_rotation(0, hflip=True)
        frame = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(format="yuv420p")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    with FileSource(tmp_path / "m.mp4") as source:
        image = next(source).image
    assert image[12, 96 - 12, 0] > 200
    assert image[12, 12].max() < 30


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size"),
    [
        ("ten.mp4", "libx264", "yuv420p10le", (64, 96)),
        ("ten.mkv", "ffv1", "yuv444p10le", (64, 96)),
        ("odd.mkv", "ffv1", "yuv420p", (63, 97)),
        ("grey.mkv", "ffv1", "gray", (64, 96)),
        ("grey16.mkv", "ffv1", "gray16le", (64, 96)),
        ("alpha.mov", "qtrle", "argb", (64, 96)),
        ("alpha.mkv", "ffv1", "yuva420p", (64, 96)),
        ("palette.gif", "gif", "rgb8", (64, 96)),
        ("vp9.webm", "libvpx-vp9", "yuv420p", (64, 96)),
        ("jpeg.avi", "mjpeg", "yuvj420p", (64, 96)),
    ],
)
def test_every_kind_of_pixels_becomes_rgb(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    images = numbered(4, size)
    if pix_fmt == "argb":
        images = [np.dstack([image, np.full(size, 90, np.uint8)]) for image in images]
    options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else None
    path = write_clip(tmp_path / name, images, 25, codec=codec, pix_fmt=pix_fmt, options=options)
    with FileSource(path) as source:
        assert (source.height, source.width) == size
        frames = list(source)
    assert [index_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert {(frame.image.shape, frame.image.dtype.name) for frame in frames} == {((*size, 3), "uint8")}


@pytest.mark.parametrize("colorspace", [None, 1, 5])
@pytest.mark.parametrize("color_range", [1, 2])
def test_colours_come_back(tmp_path: Path, colorspace: int | None, color_range: int) -> None:
    color = (200, 60, 30)
    path = write_clip(tmp_path / "c.mp4", [solid(color)] * 2, colorspace=colorspace, color_range=color_range)
    with FileSource(path) as source:
        image = next(source).image
    # The wrong matrix or range is more than 8 levels off here.
    assert np.abs(np.median(image, axis=(0, 1)) - color).max() <= 3


def test_damaged_frames_are_counted_and_skipped(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4", numbered(20), options={"preset": "ultrafast", "crf": "12", "g": "5"})
    with FileSource(damage_packets(whole, tmp_path / "bad.mp4", [7, 8])) as source:
        frames = list(source)
        assert source.damaged == 2
    assert [frame.index for frame in frames] == [*range(7), *range(9, 20)]
    assert [frame.time for frame in frames] == [Fraction(frame.index, 30) for frame in frames]
    intact = [frame for frame in frames if frame.index < 7 or frame.index >= 10]
    assert [index_of(frame.image) for frame in intact] == [frame.index for frame in intact]


def test_a_file_cut_short_ends_where_its_data_ends(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mkv", numbered(30))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with FileSource(cut) as source:
        frames = list(source)
    assert 5 < len(frames) < 30
    assert [index_of(frame.image) for frame in frames[:-1]] == list(range(len(frames) - 1))


def test_a_size_that_changes_midway_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "s.ts", numbered(5)).read_bytes()
    large = write_clip(tmp_path / "l.ts", numbered(5, (128, 192), first=5)).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)
    with FileSource(path) as source:
        frames = list(source)
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert [index_of(frame.image) for frame in frames] == list(range(10))
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


def test_pixel_shape_is_told_and_turns_with_the_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "p.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height = 96, 64
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(-90)
        frame = av.VideoFrame.from_ndarray(solid((9, 9, 9)), format="rgb24").reformat(format="yuv420p")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    with FileSource(tmp_path / "p.mp4") as source:
        assert (source.width, source.height, source.pixel_aspect) == (64, 96, Fraction(3, 4))


def test_sound_beside_the_picture_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=48000)
        video = output.add_stream("libx264", rate=25)
        video.width, video.height = 96, 64
        for index, image in enumerate(numbered(4)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts = index
            output.mux(video.encode(frame))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 48000, index * 1024
            output.mux(sound.encode(samples))
        output.mux([*video.encode(None), *sound.encode(None)])
    with FileSource(path) as source:
        assert [index_of(frame.image) for frame in source] == [0, 1, 2, 3]


def test_text_in_another_encoding_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.mkv"
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "cafX"
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        frame = av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24").reformat(format="yuv420p")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    data = path.read_bytes()
    assert b"cafX" in data
    path.write_bytes(data.replace(b"cafX", "café".encode("latin-1")))
    with FileSource(path) as source:
        assert len(list(source)) == 1


def test_a_stream_that_appears_midway_is_passed_over(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "b.ts"), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height = 96, 64
        sounds = [output.add_stream("aac", rate=48000) for _ in range(3)]
        for sound in sounds:
            sound.layout = "mono"
        for index, image in enumerate(numbered(5, first=40)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts = index
            output.mux(video.encode(frame))
            for sound in sounds:
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 48000, index * 1024
                output.mux(sound.encode(samples))
        output.mux([packet for stream in (video, *sounds) for packet in stream.encode(None)])
    first = write_clip(tmp_path / "a.ts", numbered(40), 25).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(first + (tmp_path / "b.ts").read_bytes())
    with FileSource(path) as source:
        assert [index_of(frame.image) for frame in source] == list(range(45))


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    cover = write_images(tmp_path / "c", [solid((1, 2, 3))], "{}.jpg") / "0.jpg"
    path = tmp_path / "song.mp4"
    sound = av.open(str(write_audio(tmp_path / "s.m4a")))
    art = av.open(str(cover))
    with sound, art, av.open(str(path), "w") as output:
        voice = output.add_stream_from_template(sound.streams.audio[0])
        picture = output.add_stream_from_template(art.streams.video[0], opaque=True)
        picture.disposition = av.stream.Disposition.attached_pic
        for container, target in ((art, picture), (sound, voice)):
            for packet in container.demux():
                if packet.size:
                    packet.stream = target
                    output.mux(packet)
    with pytest.raises(SourceError, match="has no video stream"):
        FileSource(path)


def _missing(folder: Path) -> Path:
    return folder / "none.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("not a video\n" * 100)
    return folder / "text.mp4"


def _beginning(folder: Path) -> Path:
    whole = write_clip(folder / "w.mkv", numbered(5)).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[:300])
    return folder / "cut.mkv"


def _sound(folder: Path) -> Path:
    return write_audio(folder / "sound.m4a")


def _undecodable(folder: Path) -> Path:
    return damage_packets(write_clip(folder / "a.mp4", numbered(5)), folder / "bad.mp4", range(5))


def _no_file(folder: Path) -> Path:
    return Path("/dev/null")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_missing, "does not exist"),
        (_empty, "is empty"),
        (_text, "is not a video"),
        (_beginning, r"cannot be read .*check that it is there, whole"),
        (_sound, "has no video stream .it holds: audio."),
        (_undecodable, "no frame that can be decoded"),
        (_no_file, "not a regular file"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, make: object, says: str) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(SourceError, match=says) as caught:
        FileSource(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cause_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UndecodableError) as caught:
        FileSource(_text(tmp_path))
    assert isinstance(caught.value.__cause__, av.FFmpegError)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(2))

    def refuse(self: Path, *_: object) -> None:  # the tests may run as root, whom no permission stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match="permission denied"):
        FileSource(path)


def test_frames_beyond_the_pixel_limit_are_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(2))
    with pytest.raises(SourceError, match="96x64, more than the limit of 6143 pixels"):
        FileSource(path, max_pixels=96 * 64 - 1)
    with FileSource(path, max_pixels=96 * 64) as source:
        assert len(list(source)) == 2


def test_closing_twice_is_fine_and_reading_on_is_not(tmp_path: Path) -> None:
    source = FileSource(write_clip(tmp_path / "a.mp4", numbered(5)))
    next(source)
    source.close()
    source.close()
    with pytest.raises(SourceError, match="is closed"):
        next(source)


def test_closing_while_another_thread_reads(tmp_path: Path) -> None:
    source = FileSource(write_clip(tmp_path / "a.mp4", numbered(60, (240, 320))))
    started = threading.Event()
    caught: list[BaseException] = []

    def read() -> None:
        try:
            for _ in source:
                started.set()
        except SourceError as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert started.wait(10)
    source.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(caught) <= 1  # one "is closed", or none if the file had ended by then


def test_frames_are_released_without_waiting_for_the_collector(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(40), rotation=90)
    gc.collect()
    gc.disable()
    try:
        with FileSource(path) as source:
            for _ in source:
                pass
            # by type: isinstance asks torch's lazy objects for their class, and they warn
            kept = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert kept < 5

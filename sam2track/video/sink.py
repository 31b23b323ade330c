"""Writes frames to a video file: exact times, and never a half-written file under the target's name."""

from __future__ import annotations

import math
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from sam2track.data import Frame, Image
from sam2track.errors import SinkError
from sam2track.interrupts import interrupts_deferred
from sam2track.video.protocol import Source

_BT709 = 1  # in FFmpeg's tables of matrices, primaries and transfer functions alike
_LIMITED = 1  # 16..235, as players expect of H.264
_FINEST = Fraction(1, 90_000)  # when no common tick is coarse enough
_MOST_TICKS = 2**24  # a second: MP4 stores ticks in 32 bits, some encoders in fewer
_NOMINAL = Fraction(30)  # a rate for the header where the source knows none


@dataclass(frozen=True)
class _Encoding:
    """An encoder, the pixels it takes, and the options that make it quick at good quality."""

    codec: str
    pix_fmt: str = "yuv420p"
    crf: int | None = None
    options: dict[str, str] = field(default_factory=dict)


_H264 = _Encoding("libx264", crf=20)
_ENCODINGS = {
    ".mp4": _H264,
    ".m4v": _H264,
    ".mov": _H264,
    ".mkv": _H264,
    ".ts": _H264,
    ".flv": _H264,
    ".avi": _Encoding("libx264", crf=20, options={"bf": "0"}),  # the format has no times to reorder frames by
    ".webm": _Encoding("libvpx-vp9", crf=32, options={"deadline": "realtime", "cpu-used": "7", "row-mt": "1"}),
    ".gif": _Encoding("gif", pix_fmt="rgb8"),
}
_FASTSTART = (".mp4", ".m4v", ".mov")


class VideoWriter:
    """Encodes frames into ``path``; the extension chooses the container.

        with VideoWriter("out.mp4", like=source) as out:
            for frame in source:
                out.write(frame)

    Times are those of the frames, to the tick: mp4 and mov hold the source's clock and rate exactly
    (29.97 stays 30000/1001), mkv and webm round to 1 ms and gif to 10 ms because their formats do, and a
    container of constant rate (avi) takes frames that follow each other without a gap.

    The file gets its name when it is whole. Left normally or by Ctrl-C, the block finishes the file with
    the frames written so far; left by any other exception, it removes what was written. Colours are
    BT.709, limited range. A picture of odd size is padded to even by repeating its last row or column,
    because 4:2:0 needs it: no pixel is lost and none moves.
    """

    def __init__(
        self,
        path: str | Path,
        like: Source | None = None,
        *,
        rate: Fraction | float | None = None,
        width: int | None = None,
        height: int | None = None,
        crf: int | None = None,
        preset: str = "veryfast",
    ) -> None:
        """Prepare to write ``path``. The size is that of the first frame unless given.

        Args:
            path: the file to make; one that exists is replaced, once the new one is whole.
            like: a source whose size, rate, clock and pixel shape to take over; it may be live.
            rate: nominal frames a second, for the header; ``like.rate`` or 30 by default.
            width: columns every frame must have.
            height: rows every frame must have.
            crf: quality on the encoder's own scale, lower is better; 20 for H.264 and 32 for VP9 by default.
            preset: x264's trade of speed for size, "ultrafast" to "veryslow".

        Raises:
            SinkError: an unknown extension, a missing or unwritable folder, or a rate that is not positive.
        """
        self.path = Path(path)
        self._width = width if width is not None or like is None else like.width
        self._height = height if height is not None or like is None else like.height
        self._aspect = like.pixel_aspect if like is not None else Fraction(1)
        wanted = rate if rate is not None or like is None else like.rate
        self.rate = _NOMINAL if wanted is None else Fraction(wanted).limit_denominator(1_000_000)
        if self.rate <= 0:
            raise SinkError(f"rate {rate} for {self.path} is not positive; give frames a second, e.g. 30")
        self._crf, self._preset = crf, preset
        self._stream: VideoStream | None = None
        self._last: int | None = None  # the tick of the last frame written
        self._closed = False
        self._partial = _reserve(self.path)
        try:
            self._container = _open(self._partial, self.path)
            self._encoding = _ENCODINGS.get(self.path.suffix.lower()) or _default_encoding(self._container, self.path)
        except BaseException:
            self._partial.unlink(missing_ok=True)
            raise
        if crf is not None and self._encoding.crf is None:
            self.discard()
            raise SinkError(f"crf {crf} has no meaning for {self._encoding.codec} in {self.path}; leave it out")
        self._varies = bool(self._container.format.flags & cast(int, av.format.Flags.variable_fps.value))
        self._time_base = self._choose_time_base(like)

    def write(self, frame: Frame) -> None:
        """Encode ``frame`` at its own time.

        Raises:
            SinkError: the writer is closed, the frame has another size, its time does not advance, or the
                file cannot be written (disk full).
        """
        if self._closed:
            raise SinkError(f"{self.path} is closed; no frame can be added")
        if self._width is None or self._height is None:
            self._width, self._height = frame.width, frame.height
        if (frame.width, frame.height) != (self._width, self._height):
            raise SinkError(
                f"frame {frame.index} is {frame.width}x{frame.height} but {self.path} is {self._width}x{self._height};"
                " write frames of one size"
            )
        tick = self._tick(frame)
        try:
            self._stream = self._stream or self._add_stream(self._width, self._height)
            self._container.mux(self._stream.encode(self._picture(frame, tick)))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failed(error) from error
        self._last = tick

    def close(self) -> None:
        """Finish the file and give it its name; safe to repeat.

        Raises:
            SinkError: no frame was written (then there is no file), or the file cannot be written.
        """
        if self._closed:
            return
        if self._stream is None or self._last is None:
            self.discard()
            raise SinkError(f"{self.path} was not written: it got no frame; write at least one")
        with interrupts_deferred():  # a second Ctrl-C must not cost what the first one left
            try:
                self._container.mux(self._stream.encode(None))
                self._container.close()
                self._partial.replace(self.path)
            except (av.FFmpegError, OSError, ValueError) as error:
                raise self._failed(error) from error
            finally:
                self.discard()

    def discard(self) -> None:
        """Remove what was written so far; nothing takes the target's name. Safe to repeat, and after ``close``."""
        if self._closed:
            return
        self._closed = True
        with suppress(av.FFmpegError, OSError, ValueError):  # what cannot be finished is removed all the same
            self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt) and self._last is not None
        if kind is None or interrupted:
            self.close()
        else:
            self.discard()

    def _choose_time_base(self, like: Source | None) -> Fraction:
        """The longest tick in which both the source's clock and its frame period are whole numbers."""
        period = 1 / self.rate
        known = self.path.suffix.lower() in _ENCODINGS
        if not self._varies or (like is None and not known):  # some encoders take no fine ticks
            return period
        clock = _FINEST if like is None else like.time_base
        common = Fraction(
            math.gcd(clock.numerator * period.denominator, period.numerator * clock.denominator),
            clock.denominator * period.denominator,
        )
        return common if common.numerator == 1 and common.denominator <= _MOST_TICKS else _FINEST

    def _tick(self, frame: Frame) -> int:
        """The time of ``frame`` in ticks, which must come after the last one."""
        tick = round(frame.time / self._time_base)
        if self._last is None:
            return tick
        if tick <= self._last:
            raise SinkError(
                f"frame {frame.index} at {float(frame.time):.3f} s does not come after the last one of {self.path} at"
                f" {float(self._last * self._time_base):.3f} s; write frames in the order of their times"
            )
        if not self._varies and tick != self._last + 1:
            raise SinkError(
                f"frame {frame.index} leaves a gap after {float(self._last * self._time_base):.3f} s, but {self.path}"
                f" holds {float(self.rate):g} frames every second; write mp4 or mkv"
            )
        return tick

    def _add_stream(self, width: int, height: int) -> VideoStream:
        """Start the encoder for frames of ``width x height``."""
        encoding = self._encoding
        options = dict(encoding.options)
        if encoding.codec == "libx264":
            options["preset"] = self._preset
        crf = encoding.crf if self._crf is None else self._crf
        if encoding.crf is not None:
            options["crf"] = str(crf)
        stream = cast(VideoStream, self._container.add_stream(encoding.codec, rate=self.rate, options=options))
        context = stream.codec_context
        context.width, context.height = width + width % 2, height + height % 2
        context.pix_fmt, context.time_base = encoding.pix_fmt, self._time_base
        context.sample_aspect_ratio = self._aspect
        if _is_yuv(encoding.pix_fmt):
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
        return stream

    def _picture(self, frame: Frame, tick: int) -> av.VideoFrame:
        """``frame`` in the encoder's pixels and at its tick."""
        picture = av.VideoFrame.from_ndarray(_even(frame.image), format="rgb24")
        yuv = _is_yuv(self._encoding.pix_fmt)
        picture = picture.reformat(
            format=self._encoding.pix_fmt,
            dst_colorspace=_BT709 if yuv else None,
            dst_color_range=_LIMITED if yuv else None,
        )
        picture.pts, picture.time_base = tick, self._time_base
        return picture

    def _failed(self, error: Exception) -> SinkError:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        return SinkError(f"{self.path} cannot be written ({reason}); check the free space, or write mp4")


def _reserve(path: Path) -> Path:
    """An empty file next to ``path``, of the same extension, that becomes it when it is whole."""
    if path.is_dir():
        raise SinkError(f"{path} is a folder; give a file name in it, e.g. {path / 'out.mp4'}")
    if not path.parent.is_dir():
        raise SinkError(f"folder {path.parent} for {path.name} does not exist; make it first")
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        partial.open("xb").close()
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error.strerror}); check the folder's permissions") from error
    return partial


def _open(partial: Path, path: Path) -> OutputContainer:
    """A container of the kind ``path`` names; nothing is written yet."""
    options = {"movflags": "+faststart"} if path.suffix.lower() in _FASTSTART else {}
    try:
        container = av.open(str(partial.absolute()), "w", container_options=options)
    except (av.FFmpegError, ValueError) as error:
        raise _unknown_extension(path) from error
    if container.format.name.startswith("image2"):
        raise _unknown_extension(path)  # FFmpeg would take it for a sequence of stills
    return container


def _default_encoding(container: OutputContainer, path: Path) -> _Encoding:
    """What FFmpeg itself would choose for a container we have no opinion on."""
    codec = container.default_video_codec
    if codec == "none":
        raise _unknown_extension(path)
    formats = av.Codec(codec, "w").video_formats or []
    names = [f.name for f in formats]
    return _Encoding(codec, "yuv420p" if "yuv420p" in names or not names else names[0])


def _unknown_extension(path: Path) -> SinkError:
    known = " ".join(_ENCODINGS)
    return SinkError(f"{path} has no extension of a video container ({path.suffix or 'none'}); use one of {known}")


def _is_yuv(pix_fmt: str) -> bool:
    return pix_fmt.startswith("yuv")


def _even(image: Image) -> Image:
    """``image`` with its last row and column repeated where its size is odd."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)

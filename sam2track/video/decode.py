"""From an open container to upright RGB pictures with exact times.

The one place that talks to FFmpeg's decoders. Damage is counted and skipped; every
FFmpeg error leaves here as a ``SourceError`` of one line.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from sam2track.data import Image
from sam2track.errors import SourceError
from sam2track.video.container import (
    UndecodableError,
    open_container,
    picture_a_packet,
    probe_limit,
    source_error,
    video_stream,
)
from sam2track.video.losses import Losses
from sam2track.video.protocol import MAX_PIXELS

_GIVE_UP_AFTER = 32  # read errors in a row: past the damage there is nothing left to read
_HIGHEST_RATE = 1000  # above it, the "rate" is a clock and not frames a second
_PLAYLISTS = ("hls", "dash")  # they have a duration but no size of their own
_ONE = 2**16  # of the fixed-point display matrix
_QUARTER_TURNS = {  # counter-clockwise
    1: (0, -_ONE, 0, _ONE, 0, 0, 0, 0, 2**30),
    2: (-_ONE, 0, 0, 0, -_ONE, 0, 0, 0, 2**30),
    3: (0, _ONE, 0, -_ONE, 0, 0, 0, 0, 2**30),
}


class Picture(NamedTuple):
    """One decoded picture: RGB, its time on the container's own clock if it has one, what was lost before it."""

    image: Image
    time: Fraction | None
    lost: int


class Decoder:
    """Iterates the pictures of one container's video stream, once; a context manager.

    The first picture is decoded on opening, so that its size is known and a stream that cannot be
    decoded is refused at once.

    Attributes:
        width, height: of every picture, upright.
        rate, time_base, frame_count: as in ``Source``.
        pixel_aspect: as in ``Source``, of the upright picture.
        endless: True when neither a duration nor a size says where it ends.
        damaged: packets and frames that could not be decoded.
    """

    def __init__(
        self,
        target: str | IO[bytes],
        name: str,
        *,
        format: str | None = None,  # noqa: A002  as av.open calls it
        options: Mapping[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
        threads: str = "AUTO",
        max_pixels: int = MAX_PIXELS,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Open ``target``.

        Args:
            target: what ``av.open`` takes: a path, URL, device or binary file.
            name: what errors call it.
            format: FFmpeg's demuxer; None to find out.
            options: of the demuxer.
            timeout: seconds to wait for opening and for each read; None waits for ever.
            threads: "AUTO" decodes frames in parallel; "SLICE" adds no delay, for what is live.
            max_pixels: of a frame; larger ones are refused before they are decoded.
            size: (width, height) to scale the upright pictures to; by default that of the first one.

        Raises:
            SourceError: it cannot be opened, holds no video, or no frame of it can be decoded.
        """
        self.name = name
        self.damaged = 0
        self._landed: int | None = None
        self._max_pixels = max_pixels
        self._timeout = timeout
        self._reformatter = VideoReformatter()
        self._size = size
        self._turned = False
        self._rotation: int | None = None
        self._matrix: tuple[int, ...] | None = None
        self._container = open_container(
            target, name, format=format, options={**probe_limit(max_pixels), **(options or {})}, timeout=timeout
        )
        try:
            self._stream = video_stream(self._container, name)
            self._describe()
            self._picture_a_packet = picture_a_packet(self._stream)
            self._stream.thread_type = cast(Any, threads)
            self._pictures = self._decode()
            self._begin()
        except BaseException:
            self._container.close()
            raise

    def _describe(self) -> None:
        """Read what the container says of the stream, and refuse an oversized one."""
        stream = self._stream
        self._check_size(stream.codec_context.width, stream.codec_context.height)
        # FFmpeg refuses by itself what only the coded data reveals to be larger; it counts aligned rows, hence twice.
        stream.codec_context.options = {"max_pixels": str(2 * self._max_pixels)}
        self.time_base = stream.time_base or Fraction(1, 1_000_000)
        rate = stream.guessed_rate or stream.average_rate
        self.rate = rate if rate and 0 < rate <= _HIGHEST_RATE else None
        duration = None if stream.duration is None else stream.duration * self.time_base
        if duration is None and self._container.duration is not None:
            duration = Fraction(self._container.duration, av.time_base)
        self.endless = duration is None or (self._container.size < 0 and self._container.format.name not in _PLAYLISTS)
        estimate = round(duration * self.rate) if duration and self.rate else None
        self.frame_count = stream.frames or estimate
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)

    def _begin(self) -> None:
        """Decode the first picture, which settles the size."""
        self._first = next(self._pictures, None)
        if self._first is None:
            raise UndecodableError(
                f"{self.name} holds no frame that can be decoded; check that it is whole, and not too large"
            )
        self.height, self.width = self._first.image.shape[:2]

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise SourceError(
                f"{self.name} has frames of {width}x{height}, more than the limit of {self._max_pixels} pixels;"
                " raise max_pixels if you trust it"
            )

    def __iter__(self) -> Iterator[Picture]:
        return self

    def __next__(self) -> Picture:
        first, self._first = self._first, None
        return next(self._pictures) if first is None else first

    def seek(self, to: int, wanted: int) -> bool:
        """Go on from the last keyframe at or before ``to``, with the first picture at or after ``wanted``.

        Both are in units of ``time_base``. What comes before ``wanted`` is decoded and dropped.

        Returns:
            Whether it did: False where the container cannot seek, or landed too late.
        """
        self._pictures.close()
        try:
            self._container.seek(to, stream=self._stream)
        except (av.FFmpegError, OSError):
            return False
        self._pictures = self._decode(wanted)
        self._first = next(self._pictures, None)
        return self._landed is not None and self._landed <= to

    def _decode(self, wanted: int | None = None) -> Generator[Picture, None, None]:
        """Pictures in presentation order; a packet or frame that is damaged is counted instead."""
        losses = Losses(self._picture_a_packet, self.damaged)
        packets = self._packets() if wanted is None else self._from_keyframe()
        for packet in chain(packets, [None]):  # None: out with the frames the decoder still holds
            if packet is not None and packet.pts is not None and not packet.is_discard:
                losses.expect(packet.pts, packet.dts)
            try:
                frames = self._stream.decode(packet)
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                lost = None if frame.is_corrupt else losses.before(frame.pts, self.damaged)
                if lost is None:
                    self.damaged += 1
                    continue
                if wanted is not None and frame.pts is not None and frame.pts < wanted:
                    continue
                at = None if frame.pts is None else frame.pts * self.time_base
                yield Picture(self._rgb(frame), at, lost)

    def _from_keyframe(self) -> Iterator[av.Packet[VideoStream]]:
        """Packets from the first keyframe on; its time is where the container landed."""
        self._landed = None
        for packet in self._packets():
            if self._landed is None and packet.is_keyframe:
                self._landed = packet.pts
            if self._landed is not None:
                yield packet

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Packets of the stream; past damage, as far as there is something to read."""
        failures = 0
        while failures < _GIVE_UP_AFTER:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    if packet.size:  # an empty one would end the decoding
                        yield packet
            except av.error.InvalidDataError:
                self.damaged += 1
                failures += 1
            except IndexError:
                return  # PyAV stumbles at the very end over streams that appeared midway (MPEG-TS)
            except (av.FFmpegError, OSError) as error:
                raise source_error(self.name, error, self._timeout[1] if self._timeout else None) from error
            else:
                return

    def _rgb(self, frame: av.VideoFrame) -> Image:
        """``frame`` as upright, contiguous RGB of the settled size.

        The stream's own matrix and range decide the colours; where it says nothing, swscale takes BT.601.
        """
        self._check_size(frame.width, frame.height)
        if frame.rotation != self._rotation:
            # Looked up only on change: reading side data makes PyAV's frame refer to itself and outlive its use.
            self._rotation, self._matrix = frame.rotation, display_matrix(frame)
        matrix = self._matrix
        turned = matrix is not None and lies_on_its_side(matrix)
        if self._size is None:
            self._size = (frame.height, frame.width) if turned else (frame.width, frame.height)
        width, height = reversed(self._size) if turned else self._size
        if turned != self._turned:
            self._turned, self.pixel_aspect = turned, 1 / self.pixel_aspect
        # A stream that changes its size midway is scaled back to it.
        converted = self._reformatter.reformat(frame, width=width, height=height, format="rgb24")
        image = cast(Image, converted.to_ndarray())
        return image if matrix is None else upright(image, matrix)

    def close(self) -> None:
        """Release the container; not while another thread reads from it."""
        self._first = None
        self._pictures.close()
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The 3 x 3 fixed-point matrix by which a player shows ``frame``, row by row; None when it has none."""
    try:
        data = cast(Any, frame.side_data).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV stumbles over kinds of side data it does not know (EXIF in a photo); the angle needs none of them.
        return _QUARTER_TURNS.get(round(frame.rotation / 90) % 4)
    return None if data is None else struct.unpack("=9i", bytes(data))


def lies_on_its_side(matrix: tuple[int, ...]) -> bool:
    """True when ``matrix`` swaps width and height."""
    return abs(matrix[1]) > abs(matrix[0])


def upright(image: Image, matrix: tuple[int, ...]) -> Image:
    """``image`` turned and mirrored by quarter turns as ``matrix`` asks, contiguous.

    A stored pixel (x, y) is shown at (a x + c y, b x + d y), where a, b = matrix[0:2] and
    c, d = matrix[3:5] (ISO/IEC 14496-12, 6.2.2); y points down.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if lies_on_its_side(matrix):
        image, mirror_x, mirror_y = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        mirror_x, mirror_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])

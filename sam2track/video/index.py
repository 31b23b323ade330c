"""The frames of a file, told by its packets: which there are, in what order, and where decoding can begin."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from sam2track.video.container import open_container, picture_a_packet, probe_limit, video_stream


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """Frame numbers of one file, counted from its first frame in order of presentation.

    Attributes:
        times: of each frame, in units of the stream's time base; strictly ascending.
        keys: numbers of the frames that decoding can begin with, ascending.
    """

    times: array[int]
    keys: array[int]

    def number(self, time: int) -> int | None:
        """The frame shown at ``time``; None when there is none."""
        number = bisect_left(self.times, time)
        return number if number < len(self.times) and self.times[number] == time else None

    def starts(self, number: int) -> list[int]:
        """The last two keyframes at or before frame ``number``, the last first."""
        place = bisect_right(self.keys, number)
        return list(self.keys[max(place - 2, 0) : place])[::-1]


def scan(path: Path, first: int, max_pixels: int) -> FrameIndex | None:
    """Read every packet of ``path``, decoding none.

    Args:
        path: of the file.
        first: time of its first frame that can be decoded, in units of the stream's time base.
        max_pixels: of a frame.

    Returns:
        The index; None where packets do not tell the frames: they lack times, repeat or jump in time, are
        damaged, or are of a codec some of whose packets show nothing.
    """
    container = open_container(str(path.absolute()), str(path), options=probe_limit(max_pixels))
    with container:
        return _index(container, video_stream(container, str(path)), first)


def _index(container: InputContainer, stream: VideoStream, first: int) -> FrameIndex | None:
    if not picture_a_packet(stream):
        return None
    times, keys, last = array("q"), array("q"), None
    try:
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            if last is not None and packet.dts is not None and packet.dts < last:
                return None  # a new clock
            last = packet.dts if packet.dts is not None else last
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    except (av.FFmpegError, OSError, IndexError):
        return None
    shown = array("q", sorted(time for time in times if time >= first))
    if len(set(shown)) != len(shown) or not shown or shown[0] != first:
        return None
    index = FrameIndex(shown, array("q"))
    numbers = (index.number(time) for time in sorted(keys))
    index.keys.extend(number for number in numbers if number is not None)
    return index

"""Recordings: the one door to them, and the three kinds there are."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sam2track.cache import LruCache
from sam2track.data import Frame, Image
from sam2track.errors import SourceError
from sam2track.video.camera import is_camera
from sam2track.video.decode import Decoder
from sam2track.video.file import FileSource, check_file
from sam2track.video.images import FolderSource, decodable, numbered_images
from sam2track.video.index import FrameIndex, scan
from sam2track.video.protocol import MAX_PIXELS
from sam2track.video.recording import FRAME_CACHE, Recording
from sam2track.video.stream import url_scheme

_NEAR = 16  # frames that are sooner decoded than sought
_NOWHERE = sys.maxsize  # past every frame: to read any, seek


def open_recording(
    source: str | Path,
    *,
    rate: Fraction | float | None = None,
    max_pixels: int = MAX_PIXELS,
    cache_bytes: int = FRAME_CACHE,
) -> Recording:
    """Open a video file or a folder of numbered images for reading in any order.

    A file is read through once, without decoding, to learn its frames.

    Args:
        source: a path.
        rate: frames a second of a folder, 24 by default.
        max_pixels: of a frame; larger ones are refused.
        cache_bytes: of decoded frames kept for going backwards through a file.

    Raises:
        SourceError: it cannot be opened, or is a camera or a stream, which can be read only as it comes.
    """
    if isinstance(source, int) or (isinstance(source, str) and is_camera(source)):
        raise _only_once(f"camera {source}")
    scheme = url_scheme(source) if isinstance(source, str) else None
    if scheme not in (None, "file"):
        raise _only_once(f"stream {scheme}://...")
    if not str(source).strip():
        raise SourceError("source is empty; give a video file or a folder of images")
    path = Path(source) if scheme is None else Path(unquote(urlsplit(str(source)).path))
    if path.is_dir():
        return FolderRecording(path, rate=rate, max_pixels=max_pixels)
    check_file(path)
    with Decoder(str(path.absolute()), str(path), max_pixels=max_pixels) as decoder:
        first = next(decoder).time
        ticks = None if first is None else int(first / decoder.time_base)
    index = None if ticks is None else scan(path, ticks, max_pixels)
    if index is None:
        return OrderedRecording(path, max_pixels, cache_bytes)
    return FileRecording(path, index, max_pixels, cache_bytes)


def _only_once(what: str) -> SourceError:
    return SourceError(f"{what} can be read only as it comes; record it to a file, or follow it with a Tracker")


class FileRecording(Recording):
    """A file whose packets tell its frames: reads from the nearest keyframe, and on from where it is."""

    def __init__(self, path: Path, index: FrameIndex, max_pixels: int, cache_bytes: int) -> None:
        self._index = index
        self._path, self._max_pixels = path, max_pixels
        self._decoder = decoder = self._open()
        self._next = 0  # number of the frame the decoder gives next
        self._damaged: set[int] = set()
        self._last: Frame | None = None
        self._cache: LruCache[int, Image] = LruCache(cache_bytes, lambda image: image.nbytes)
        self.name = str(path)
        self.width, self.height = decoder.width, decoder.height
        self.rate, self.pixel_aspect = decoder.rate, decoder.pixel_aspect
        # As many as the cache can hold before the wanted one are worth converting.
        self._room = max(cache_bytes // (3 * self.width * self.height) - 1, 0)

    def __len__(self) -> int:
        return len(self._index.times)

    def time(self, index: int) -> Fraction:
        """See ``Recording``."""
        self.check(index)
        return (self._index.times[index] - self._index.times[0]) * self._decoder.time_base

    def read(self, index: int) -> Frame | None:
        """See ``Recording``."""
        self.check(index)
        if self._last is not None and self._last.index == index:
            return self._last
        image = self._cache.get(index)
        if image is None and index not in self._damaged:
            image = self._fetch(index)
            if image is None:
                self._damaged.add(index)
        if image is None:
            return None
        self._last = Frame(image, index, self.time(index))
        return self._last

    def close(self) -> None:
        """See ``Recording``."""
        if not self.closed:
            self.closed = True
            self._decoder.close()
            self._cache.clear()
            self._last = None

    def _fetch(self, index: int) -> Image | None:
        starts = self._index.starts(index)
        if self._next <= index and (index - self._next < _NEAR or not starts or starts[0] <= self._next):
            return self._read_on(index)
        times, landed, self._next = self._index.times, False, _NOWHERE
        for start in starts:  # from the second, in case the first needs a run-up (periodic intra refresh)
            if self._decoder.seek(times[start], times[max(start, index - self._room)]):
                landed = True
                image = self._read_on(index)
                if image is not None:
                    return image
        if landed:
            return None
        self._decoder.close()
        self._decoder = self._open()
        return self._read_on(index)

    def _read_on(self, index: int) -> Image | None:
        """Decode up to frame ``index``, keeping those before it for going backwards; None when it does not come."""
        for picture in self._decoder:
            number = None if picture.time is None else self._index.number(int(picture.time / self._decoder.time_base))
            if number is None:
                continue
            picture.image.flags.writeable = False  # it may be handed out again
            self._next = number + 1
            if number == index:
                return picture.image
            self._cache.put(number, picture.image)
            if number > index:
                return None
        self._next = _NOWHERE
        return None

    def _open(self) -> Decoder:
        return Decoder(str(self._path.absolute()), str(self._path), max_pixels=self._max_pixels)


class OrderedRecording(Recording):
    """A file whose packets do not tell its frames: decoded once to count them, and from its start to go back."""

    def __init__(self, path: Path, max_pixels: int, cache_bytes: int) -> None:
        self._path, self._max_pixels = path, max_pixels
        self._source = FileSource(path, max_pixels=max_pixels)
        self._cache: LruCache[int, Frame] = LruCache(cache_bytes, lambda frame: frame.image.nbytes)
        self._times = {frame.index: frame.time for frame in self._source}
        self._next = self._count = max(self._times) + 1
        self.name = str(path)
        self.width, self.height = self._source.width, self._source.height
        self.rate, self.pixel_aspect = self._source.rate, self._source.pixel_aspect

    def __len__(self) -> int:
        return self._count

    def time(self, index: int) -> Fraction:
        """See ``Recording``; of a damaged frame, the time of the one before it."""
        self.check(index)
        while index not in self._times:
            index -= 1
        return self._times[index]

    def read(self, index: int) -> Frame | None:
        """See ``Recording``."""
        self.check(index)
        if index not in self._times:
            return None
        return self._cache.get(index) or self._fetch(index)

    def close(self) -> None:
        """See ``Recording``."""
        self.closed = True
        self._source.close()
        self._cache.clear()

    def _fetch(self, index: int) -> Frame | None:
        if index < self._next:
            self._source.close()
            self._source = FileSource(self._path, max_pixels=self._max_pixels)
        for frame in self._source:
            frame.image.flags.writeable = False
            self._cache.put(frame.index, frame)
            self._next = frame.index + 1
            if frame.index >= index:
                return frame if frame.index == index else None
        return None


class FolderRecording(Recording):
    """The pictures of a folder, in the order of their numbers."""

    def __init__(self, path: Path, *, rate: Fraction | float | None, max_pixels: int) -> None:
        with FolderSource(path, rate=rate, max_pixels=max_pixels) as source:  # which checks the folder
            self.width, self.height, self.rate = source.width, source.height, source.rate
            self._interval = source.time_base
        self.name = str(path)
        self._files = numbered_images(path)
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._files)

    def time(self, index: int) -> Fraction:
        """See ``Recording``."""
        self.check(index)
        return index * self._interval

    def read(self, index: int) -> Frame | None:
        """See ``Recording``."""
        self.check(index)
        image = decodable(self._files[index], self._max_pixels)
        if image is None:
            return None
        height, width = image.shape[:2]
        if (width, height) != (self.width, self.height):
            raise SourceError(
                f"{self._files[index]} is {width}x{height} but the clip began with {self.width}x{self.height};"
                " keep one clip of one size in a folder"
            )
        return Frame(image, index, self.time(index))

    def close(self) -> None:
        """See ``Recording``."""
        self.closed = True

"""A folder of numbered pictures as a source, as the DAVIS and SA-V datasets ship their clips."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

from sam2track.data import Frame, Image
from sam2track.errors import SourceError
from sam2track.files import natural
from sam2track.video.container import UndecodableError
from sam2track.video.picture import IMAGE_SUFFIXES, read_picture
from sam2track.video.protocol import MAX_PIXELS, Source

DEFAULT_RATE = Fraction(24)  # a folder does not say; DAVIS and SA-V were shot at 24


class FolderSource(Source):
    """The pictures of a folder in the order of their numbers: 2.jpg before 10.jpg.

    Frame ``index`` is the place in that order and ``time`` is index / rate. A picture that cannot be
    decoded is skipped and counted; one of another size than the first is an error, since the folder
    then holds more than one clip.
    """

    def __init__(self, path: str | Path, *, rate: Fraction | float | None = None, max_pixels: int = MAX_PIXELS) -> None:
        """List ``path`` and decode its first picture.

        Args:
            path: the folder; files that are not pictures, hidden files and sub-folders are passed over.
            rate: frames a second; 24 by default.
            max_pixels: of a picture; larger ones are refused.

        Raises:
            SourceError: the folder is missing or unreadable, or no picture in it can be decoded.
        """
        self.name = str(path)
        self._files = numbered_images(Path(path))
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._closed = False
        self._next = 0
        self.rate = DEFAULT_RATE if rate is None else Fraction(rate).limit_denominator(1_000_000)
        if self.rate <= 0:
            raise SourceError(f"rate {rate} of {self.name} is not positive; give frames a second, e.g. rate=24")
        self.time_base = 1 / self.rate
        self.frame_count = len(self._files)
        self._pending = self._read_next()
        if self._pending is None:
            raise SourceError(f"{self.name} holds {len(self._files)} images but none can be decoded; check them")
        self.height, self.width = self._pending.height, self._pending.width

    def __next__(self) -> Frame:
        with self._lock:
            if self._closed:
                raise SourceError(f"{self.name} is closed; open it again to read it")
            frame, self._pending = self._pending or self._read_next(), None
        if frame is None:
            raise StopIteration
        if (frame.width, frame.height) != (self.width, self.height):
            raise SourceError(
                f"{self._files[frame.index]} is {frame.width}x{frame.height} but the clip began with"
                f" {self.width}x{self.height}; keep one clip of one size in a folder"
            )
        return frame

    def close(self) -> None:
        """Release the pending picture; safe to repeat, and from any thread."""
        with self._lock:
            self._closed, self._pending = True, None

    def _read_next(self) -> Frame | None:
        """The next picture that can be decoded, or None after the last one."""
        while self._next < len(self._files):
            index = self._next
            self._next += 1
            image = decodable(self._files[index], self._max_pixels)
            if image is not None:
                return Frame(image, index, index * self.time_base)
            self.damaged += 1
        return None


def decodable(path: Path, max_pixels: int) -> Image | None:
    """The picture in a file; None if it is damaged."""
    try:
        return read_picture(path, max_pixels)
    except UndecodableError:
        return None


def numbered_images(folder: Path) -> list[Path]:
    """The pictures in ``folder`` in the order of the numbers in their names."""
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"folder {folder} cannot be read ({error.strerror}); check the path") from error
    if not files:
        raise SourceError(f"folder {folder} holds no images; expected numbered {', '.join(IMAGE_SUFFIXES)} files")
    return sorted(files, key=lambda path: (natural(path.stem), path.name))  # the name settles ties: 1.jpg, 01.jpg

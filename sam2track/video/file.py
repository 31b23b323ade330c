"""A video file: any container and codec FFmpeg reads, every frame once, exact times."""

from __future__ import annotations

import threading
from pathlib import Path

from sam2track.data import Frame
from sam2track.errors import SourceError
from sam2track.video.decode import Decoder
from sam2track.video.protocol import MAX_PIXELS, Source
from sam2track.video.timeline import Timeline


class FileSource(Source):
    """The frames of one file, in order and none dropped.

    A damaged frame is skipped and counted; a file cut short ends where its data ends. A stream whose
    frame size changes midway is scaled to the size of its first frame.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
        """Open ``path`` and decode its first frame.

        Raises:
            SourceError: it is missing, empty, unreadable, not a video, or larger than ``max_pixels`` a frame.
        """
        path = Path(path)
        check_file(path)
        # An absolute path cannot be mistaken for one of FFmpeg's protocols ("concat:...").
        self._decoder = decoder = Decoder(str(path.absolute()), str(path), max_pixels=max_pixels)
        self._timeline = Timeline(decoder.rate, decoder.time_base)
        self._lock = threading.Lock()  # close() must not pull the container from under a read
        self._closed = False
        self.name = str(path)
        self.width, self.height = decoder.width, decoder.height
        self.rate, self.time_base = decoder.rate, decoder.time_base
        self.frame_count, self.pixel_aspect = decoder.frame_count, decoder.pixel_aspect

    def __next__(self) -> Frame:
        with self._lock:
            if self._closed:
                raise SourceError(f"{self.name} is closed; open it again to read it")
            try:
                return self._timeline.frame(next(self._decoder))
            finally:
                self.damaged = self._decoder.damaged

    def close(self) -> None:
        """Release the file; safe to repeat, and from any thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._decoder.close()


def check_file(path: Path) -> None:
    """Raise what FFmpeg would say less clearly."""
    try:
        if path.is_file() and path.stat().st_size > 0:
            path.open("rb").close()
            return
    except PermissionError as error:
        raise SourceError(f"{path} may not be read (permission denied); change its permissions") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}); check the path") from error
    if path.is_file():
        raise SourceError(f"{path} is empty (0 bytes); give a file with video")
    if path.exists():
        raise SourceError(f"{path} is not a regular file; give a video file, a folder of images, a camera or a URL")
    raise SourceError(f"{path} does not exist; check the path")

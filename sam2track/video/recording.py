"""What every clip looks like whose frames can be read in any order.

    with open_recording("dog.mp4") as video:    # a file or a folder of pictures
        video.read(250); video.read(249)        # the frames `open_source` would give, by their index

Always true: ``read(i)`` has the pixels, index and time of the frame that a ``Source`` of the same clip
yields with index ``i``, and is None where that one skips a damaged frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from types import TracebackType
from typing import Self

from sam2track.data import Frame
from sam2track.errors import SourceError

FRAME_CACHE = 2**27  # bytes of decoded frames: 21 of 1080p


class Recording(ABC):
    """A clip with random access; a context manager. One thread at a time.

    Attributes:
        name: what was opened.
        width: columns of every frame, after rotation.
        height: rows of every frame, after rotation.
        rate: nominal frames a second; None when unknown.
        pixel_aspect: width of a pixel over its height; 1 when square.
        closed: True after ``close``.
    """

    name: str
    width: int
    height: int
    rate: Fraction | None
    pixel_aspect: Fraction = Fraction(1)
    closed: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames, the damaged included."""

    @abstractmethod
    def time(self, index: int) -> Fraction:
        """When frame ``index`` is shown, in seconds from the first."""

    @abstractmethod
    def read(self, index: int) -> Frame | None:
        """Frame ``index``; None when it is damaged. Its pixels may be read-only.

        Raises:
            SourceError: there is no such frame, or the recording is closed or was lost.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the clip; safe to repeat."""

    def check(self, index: int) -> None:
        """Raise ``SourceError`` unless frame ``index`` can be asked for."""
        if self.closed:
            raise SourceError(f"{self.name} is closed; open it again to read it")
        if not 0 <= index < len(self):
            raise SourceError(f"frame {index} is not in {self.name}, which has frames 0 to {len(self) - 1}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} frames of {self.width}x{self.height})"

"""Masklet files: what a run saw, as JSON Lines.

The first line is the header, every other line one frame::

    {"format": "sam2track-masklets", "version": 1, "source": "dog.mp4", "width": 640, "height": 360,
     "rate": "30000/1001", "model": "sam2.1-large", "software": {"sam2track": "0.1.0", "torch": "2.13.0"}}
    {"index": 1, "time": "1001/30000", "objects": {"1": {"rle": {"size": [360, 640], "counts": "..."},
     "score": 0.93, "visible": true, "box": [10.0, 20.0, 200.0, 180.0]}}}

Masks are COCO RLE, all of the header's size, and indices increase. A file that bears its own name
is whole; one that broke off is called ``<name>.partial`` and reads up to the break.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sam2track.data import FrameResult
from sam2track.errors import MaskletError, SinkError
from sam2track.masks.lines import MAX_LINE, MaskletHeader, read_frame, read_header, software, write_frame, write_header


class Clip(Protocol):
    """What a masklet file records of the source it was made from; every ``Source`` is one."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def width(self) -> int:
        """Columns of a frame."""

    @property
    def height(self) -> int:
        """Rows of a frame."""

    @property
    def rate(self) -> Fraction | None:
        """Frames a second; None when it varies."""


class MaskletWriter:
    """Writes frame results to a masklet file, one line each, as they come.

    Use as a context manager and call ``write`` once a frame. Lines reach the disk at once, in
    ``<path>.partial``; leaving the block, normally or by Ctrl-C, gives the file its name. After any
    other exception the partial file stays, beside whatever ``path`` held before. Of two writers to one
    ``path``, the later one has it; the other says so when it is closed.

    Args:
        path: the file to make; an existing one is replaced when this one is whole.
        source: the video the masks belong to, or its name; recorded in the header.
        model: name of the model; recorded in the header.

    Raises:
        SinkError: the file cannot be made.
    """

    def __init__(self, path: str | Path, source: Clip | str | None = None, model: str | None = None) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._source = source
        self._model = model
        self._header: MaskletHeader | None = None
        self._last_index = -1
        self._whole = 0  # bytes of whole lines
        if self.path.is_dir():
            raise SinkError(f"{self.path} is a folder; give the name of a masklet file to make")
        try:
            self.partial.unlink(missing_ok=True)  # never a file that another run still writes to
            self._file = self.partial.open("xb")
        except OSError as error:
            raise SinkError(f"{self.path} cannot be made ({error.strerror}); choose a folder you can write") from error

    def write(self, result: FrameResult) -> None:
        """Append one frame.

        Raises:
            SinkError: the index does not increase, the size is not that of the file, a value cannot be
                written, the writer is closed, or the disk refuses.
        """
        if self._file.closed:
            raise SinkError(f"{self.path} is closed; write inside the with-block")
        header = self._header or self._begin(result.size)
        height, width = result.size
        if (width, height) != (header.width, header.height):
            raise SinkError(
                f"frame {result.index} is {width}x{height} but {self.path.name} holds {header.width}x{header.height};"
                " begin another file when the size changes"
            )
        if result.index <= self._last_index:
            raise SinkError(
                f"frame {result.index} comes after frame {self._last_index} in {self.path.name}; indices must increase"
            )
        self._append(write_frame(result))
        self._last_index = result.index

    def close(self) -> None:
        """Finish the file and give it its name; closing twice does nothing.

        Raises:
            SinkError: the disk refuses, and the partial file stays; or another run has taken its place.
        """
        if self._file.closed:
            return
        if not self._is_ours():
            self._file.close()
            raise SinkError(f"{self.path} is being written by another run too; give each an output of its own")
        if self._header is None:
            self._begin((0, 0))
        try:
            with self._file as file:
                file.flush()
                file.truncate(self._whole)  # Ctrl-C may have come in the middle of a line
                os.fsync(file.fileno())
            os.replace(self.partial, self.path)
        except OSError as error:
            raise self._refused(error) from error

    def discard(self) -> None:
        """Give up: close the file and remove what was written of it."""
        if self._is_ours():
            self.partial.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            with suppress(OSError):  # a full disk refuses its last bytes again; the first refusal is on its way
                self._file.close()

    def _is_ours(self) -> bool:
        """Whether the open file is still the one of the partial name."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.partial.stat())
        except FileNotFoundError:
            return False

    def _begin(self, size: tuple[int, int]) -> MaskletHeader:
        """Write the header; ``size`` is that of the first frame, for a source that does not tell its own."""
        name, (height, width), rate = self._source, size, None
        if name is not None and not isinstance(name, str):
            clip = name
            name, height, width, rate = clip.name, clip.height, clip.width, clip.rate
        header = MaskletHeader(
            source=name, width=width, height=height, rate=rate, model=self._model, software=software()
        )
        self._append(write_header(header))
        self._header = header
        return header

    def _append(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error
        self._whole += len(line)

    def _refused(self, error: OSError) -> SinkError:
        return SinkError(f"{self.path} cannot be written ({error.strerror}); {self.partial.name} has what was written")


class MaskletReader:
    """A masklet file: its ``header``, and its frames in order, from the first, each time it is iterated.

    Frames are read one at a time, so memory does not grow with the file, and nothing stays open
    between iterations.

    Raises:
        MaskletError: on making it, when the file is missing or has no valid header; on iterating,
            when a line is damaged, with its number.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with closing(self._lines()) as lines:
            first = next(lines, b"")
        try:
            self.header = read_header(first)
        except MaskletError as error:
            raise self._at(error) from error

    def __iter__(self) -> Iterator[FrameResult]:
        previous = -1
        size = (self.header.height, self.header.width)
        for number, line in enumerate(self._lines(), start=1):
            if number == 1:
                continue
            try:
                result = read_frame(line, size)
            except MaskletError as error:
                if not line.endswith(b"\n"):
                    raise self._at(f"line {number} is cut off; the frames before it are whole") from error
                raise self._at(f"line {number}: {error}") from error
            if result.index <= previous:
                raise self._at(f"line {number} has frame {result.index} after {previous}; indices must increase")
            previous = result.index
            yield result

    def __repr__(self) -> str:
        return f"MaskletReader({str(self.path)!r}, {self.header.width}x{self.header.height})"

    def _lines(self) -> Generator[bytes, None, None]:
        try:
            with self.path.open("rb") as file:
                number = 0
                while line := file.readline(MAX_LINE + 1):
                    number += 1
                    if len(line) > MAX_LINE:
                        raise self._at(f"line {number} is longer than {MAX_LINE} bytes")
                    yield line
        except OSError as error:
            raise self._at(f"cannot be read ({error.strerror}); give a masklet file") from error

    def _at(self, problem: object) -> MaskletError:
        return MaskletError(f"{self.path}: {problem}")


def read_masklets(path: str | Path) -> MaskletReader:
    """Open a masklet file; iterating it yields one ``FrameResult`` a frame.

    Raises:
        MaskletError: see ``MaskletReader``.
    """
    return MaskletReader(path)

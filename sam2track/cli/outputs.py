"""The files that a command writes: checked before any work, whole or not there after it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sam2track as st
from sam2track.cli import report
from sam2track.cli.options import UsageError
from sam2track.masks.formats.files import text_written_whole
from sam2track.video.picture import IMAGE_SUFFIXES


def check_path(path: Path, inputs: list[Path], *, force: bool) -> None:
    """Raise ``UsageError`` if ``path`` may not be written."""
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} for {path.name} does not exist; make it first")
    for other in inputs:
        if path.exists() and other.exists() and path.samefile(other):
            raise UsageError(f"{path} is an input; give the output another name")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file in it")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; give another name, or --force to replace it")


def check_picture_name(path: Path) -> None:
    """Raise ``UsageError`` unless ``path`` is named as a picture."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UsageError(f"{path} is no picture's name; end it in {', '.join(IMAGE_SUFFIXES)}")


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Write ``content`` to ``path``, whole or not at all. Raises ``SinkError``."""
    with text_written_whole(path) as file:
        json.dump(content, file, indent=indent)
        file.write("\n")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the masklets and the overlay go; None for what is not wanted."""

    masklets: Path | None = None
    overlay: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        yield from (path for path in (self.masklets, self.overlay) if path is not None)

    def check(self, inputs: list[Path], *, force: bool) -> None:
        """Raise ``UsageError`` for a path that may not be written."""
        paths = list(self)
        for path in paths:
            check_path(path, inputs, force=force)
        if len(paths) > len({path.absolute() for path in paths}):
            raise UsageError(f"masklets and overlay are both {paths[0]}; give two names")
        if self.overlay is not None:
            try:
                st.VideoWriter(self.overlay).discard()  # only a writer knows which names it can write
            except st.SinkError as error:
                raise UsageError(str(error)) from error

    def as_text(self) -> dict[str, str]:
        """Kind of output -> path, of those that are wanted."""
        named = {"masklets": self.masklets, "overlay": self.overlay}
        return {kind: str(path) for kind, path in named.items() if path is not None}


class Outputs:
    """The open files of a run: ``write`` each frame, and they are finished when the block is left.

    Left normally or by Ctrl-C, the files hold the frames written so far; left by an error, the overlay
    is removed and the masklets stay as ``<name>.partial``. A run without frames leaves no file. The overlay
    begins at time 0, whatever the time of its first frame.
    """

    def __init__(self, paths: Paths, source: st.Source, model: str, timings: st.Timings) -> None:
        self.frames = 0
        self._timings = timings
        self._start: Fraction | None = None
        with ExitStack() as stack:
            self._overlay = None  # the first to open: if it cannot be, an earlier run's partial masklets stay
            if paths.overlay is not None:
                self._overlay = stack.enter_context(st.VideoWriter(paths.overlay, like=source))
            self._masklets = None
            if paths.masklets is not None:
                self._masklets = stack.enter_context(st.MaskletWriter(paths.masklets, source, model))
            self._open = stack.pop_all()

    def write(self, result: st.FrameResult, drawn: st.Frame | None) -> None:
        """Write one frame; ``drawn`` is its overlay, needed when ``draws``."""
        with self._timings.measure("write"):
            if self._masklets is not None:
                self._masklets.write(result)
            if self._overlay is not None and drawn is not None:
                self._start = drawn.time if self._start is None else self._start
                self._overlay.write(replace(drawn, time=drawn.time - self._start))
        self.frames += 1

    @property
    def draws(self) -> bool:
        """Whether an overlay is written."""
        return self._overlay is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.frames:
                self._open.__exit__(kind, error, trace)
            else:  # nothing to keep, so nothing may take the place of an earlier file
                self._open.__exit__(SystemExit, SystemExit(), trace)
        finally:
            if self._masklets is not None:
                self._settle_partial(self._masklets.partial)

    def _settle_partial(self, partial: Path) -> None:
        """Remove an unfinished masklet file that is empty, and tell of one that is not."""
        if not self.frames:
            partial.unlink(missing_ok=True)
        elif partial.exists():
            report.note(f"the {self.frames} frames before the error are in {partial}")


def clip_stem(clip: str) -> str:
    """What outputs in the current folder are named after: the clip's own name without its extension."""
    return Path(clip).resolve().stem or "clip"

"""Prompts from flags and files: frame index -> object id -> ``Prompt``.

A flag reads ``[ID:]PLACE[@FRAME]``; object 1 and the first frame are the defaults. A file holds the
same as a list, in TOML or JSON::

    [[prompts]]
    object = 1                      # default 1
    frame = 0                       # default the first frame
    points = [[510, 320], [470, 90]]
    labels = [1, 0]                 # 1 on the object, 0 not; default all 1
    box = [420, 180, 640, 520]
    mask = "first.png"              # relative to this file; stands alone

What several flags say of one object on one frame is one prompt.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import sam2track as st
from sam2track.data import Box, Mask, Point
from sam2track.errors import PromptError, SourceError, nearest
from sam2track.video.picture import read_picture

MAX_BYTES = 1_000_000
LOSSY = (".jpg", ".jpeg", ".webp")  # black is not quite black there

_FLAG = re.compile(r"(?:(\d{1,9}):)?(.+?)(?:@(\d{1,9}))?")

Prompts = dict[int, dict[int, st.Prompt]]


@dataclass(slots=True)
class _Parts:
    """What was said of one object on one frame so far."""

    points: list[Point] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: Box | None = None
    mask: Mask | None = None


def gather(
    points: list[str] | None,
    negatives: list[str] | None,
    boxes: list[str] | None,
    masks: list[str] | None,
    file: Path | None,
    first: int,
) -> Gathered:
    """What the prompt flags of a command say; ``first`` is the frame that is meant where none is given."""
    gathered = Gathered(first)
    gathered.add_flags(points, negatives, boxes, masks)
    if file is not None:
        gathered.add_file(file)
    return gathered


class Gathered:
    """Prompts as they are gathered from flags and files; ``prompts`` checks and returns them.

    Args:
        first: index of the frame that is meant where none is given.

    Attributes:
        files: that were read.
    """

    def __init__(self, first: int = 0) -> None:
        self.files: list[Path] = []
        self._first = first
        self._parts: dict[tuple[int, int], _Parts] = {}

    def add_flags(
        self,
        points: Iterable[str] | None = None,
        negatives: Iterable[str] | None = None,
        boxes: Iterable[str] | None = None,
        masks: Iterable[str] | None = None,
    ) -> None:
        """Add the values of ``--point``, ``--negative``, ``--box`` and ``--mask``."""
        for flag, texts, label in (("--point", points, 1), ("--negative", negatives, 0)):
            for text in texts or ():
                parts, place = self._read(flag, text, "[ID:]X,Y[@FRAME]")
                x, y = _numbers(flag, text, place, "X,Y")
                parts.points.append((x, y))
                parts.labels.append(label)
        for text in boxes or ():
            parts, place = self._read("--box", text, "[ID:]X0,Y0,X1,Y1[@FRAME]")
            if parts.box is not None:
                raise PromptError(f"--box {text!r} is the second box of its object on its frame; give one")
            x0, y0, x1, y1 = _numbers("--box", text, place, "X0,Y0,X1,Y1")
            parts.box = (x0, y0, x1, y1)
        for text in masks or ():
            parts, place = self._read("--mask", text, "[ID:]FILE.png[@FRAME]")
            if parts.mask is not None:
                raise PromptError(f"--mask {text!r} is the second mask of its object on its frame; give one")
            parts.mask = self._mask(Path(place).expanduser())

    def add_file(self, path: Path) -> None:
        """Add a file of prompts.

        Raises:
            PromptError: the file cannot be read, or holds what is not a prompt.
        """
        self.files.append(path)
        for entry in _read_file(path).prompts:
            frame = self._first if entry.frame is None else entry.frame
            parts = self._parts.setdefault((frame, entry.object), _Parts())
            where = f"prompts {path}: object {entry.object} on frame {frame}"
            if entry.box is not None and parts.box is not None:
                raise PromptError(f"{where} has two boxes; give one")
            if entry.mask is not None and parts.mask is not None:
                raise PromptError(f"{where} has two masks; give one")
            labels = [1] * len(entry.points) if entry.labels is None else entry.labels
            if len(labels) != len(entry.points):
                raise PromptError(
                    f"{where} has {len(entry.points)} points but {len(labels)} labels; give one label a point"
                )
            parts.points += [(x, y) for x, y in entry.points]
            parts.labels += labels
            if entry.box is not None:
                x0, y0, x1, y1 = entry.box
                parts.box = (x0, y0, x1, y1)
            if entry.mask is not None:
                parts.mask = self._mask(path.parent / Path(entry.mask).expanduser())

    def prompts(self) -> Prompts:
        """Frame index -> object id -> prompt, frames in ascending order."""
        schedule: Prompts = {}
        for (frame, object_id), parts in sorted(self._parts.items()):
            labels = parts.labels or None
            with _named(frame, object_id):
                schedule.setdefault(frame, {})[object_id] = st.Prompt(parts.points, labels, parts.box, parts.mask)
        return schedule

    def _mask(self, path: Path) -> Mask:
        self.files.append(path)
        return read_mask(path)

    def _read(self, flag: str, text: str, form: str) -> tuple[_Parts, str]:
        match = _FLAG.fullmatch(text)
        if match is None:
            raise PromptError(f"{flag} {text!r} cannot be read; expected {form}")
        object_id, place, frame = match.groups()
        key = (self._first if frame is None else int(frame), int(object_id or 1))
        return self._parts.setdefault(key, _Parts()), place


@contextmanager
def _named(frame: int, object_id: int) -> Iterator[None]:
    """Adds the object and the frame to a ``PromptError``."""
    try:
        yield
    except PromptError as error:
        raise PromptError(f"object {object_id} on frame {frame}: {error}") from error


def read_removals(texts: Iterable[str] | None) -> dict[int, list[int]]:
    """``--remove ID@FRAME``: frame index -> ids of the objects to forget before it."""
    removals: dict[int, list[int]] = {}
    for text in texts or ():
        match = re.fullmatch(r"(\d{1,9})@(\d{1,9})", text)
        if match is None:
            raise PromptError(f"--remove {text!r} is not ID@FRAME; write it as --remove 2@120")
        object_id, frame = map(int, match.groups())
        removals.setdefault(frame, []).append(object_id)
    return removals


def check_fit(
    prompts: Mapping[int, Mapping[int, st.Prompt]],
    source: st.Source,
    first: int,
    last: int | None,
    removals: Iterable[int] = (),
) -> None:
    """Raise ``PromptError`` for a prompt outside the picture or the frames ``first`` to ``last``, or such a removal.

    ``last`` is None when only the source's end limits it. How long a source is may be an estimate: only a
    prompt well past that is refused here, the engine knows better in the end.
    """
    for what, frame in (*(("prompt", frame) for frame in prompts), *(("removal", frame) for frame in removals)):
        if frame < first or (last is not None and frame > last):
            until = " on" if last is None else f" to {last}"
            raise PromptError(f"a {what} is for frame {frame}, but tracking covers frames {first}{until}; move one")
        if source.frame_count is not None and frame > source.frame_count + max(2, source.frame_count // 50):
            raise PromptError(f"a {what} is for frame {frame}, but {source.name} has {source.frame_count} frames")
    for frame, objects in prompts.items():
        for object_id, prompt in objects.items():
            with _named(frame, object_id):
                prompt.check_inside(source.height, source.width)


def read_mask(path: Path) -> Mask:
    """The mask in an image file: True where it is not black (in JPEG and WebP: brighter than mid-grey).

    Raises:
        PromptError: the file is no image.
    """
    if path.is_dir():
        raise PromptError(f"mask {path} is a folder; give an image file")
    try:
        picture = read_picture(path)
    except SourceError as error:
        raise PromptError(f"mask {path} cannot be read as an image: {error}") from error
    mask: Mask = picture.max(axis=2) > (127 if path.suffix.lower() in LOSSY else 0)
    if not mask.any():
        raise PromptError(f"mask {path} is all black; paint the object in any other colour")
    return mask


_Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
_Label = Annotated[int, Field(ge=0, le=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    object: Annotated[int, Field(ge=0, lt=2**63)] = 1  # what a masklet file can hold
    frame: Annotated[int, Field(ge=0)] | None = None
    points: Annotated[list[_Pair], Field(max_length=1000)] = []
    labels: list[_Label] | None = None
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    mask: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    prompts: Annotated[list[_Entry], Field(min_length=1)]


def _read_file(path: Path) -> _File:
    parse = {".toml": tomllib.loads, ".json": json.loads}.get(path.suffix.lower())
    if parse is None:
        raise PromptError(f"prompts {path} is neither .toml nor .json; rename it or give another file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise PromptError(f"prompts {path} is larger than 1 MB; expected a short list")
        return _File.model_validate(parse(content.decode()))
    except OSError as error:
        raise PromptError(f"prompts {path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise PromptError(f"prompts {path}: {_explain(error)}") from error
    except (ValueError, RecursionError) as error:  # PromptError is a ValueError too, and says enough
        if isinstance(error, PromptError):
            raise
        raise PromptError(f"prompts {path} is not {path.suffix[1:].upper()}: {' '.join(str(error).split())}") from error


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "extra_forbidden":
        fields: Mapping[str, Any] = _Entry.model_fields if len(problem["loc"]) > 1 else _File.model_fields
        return f"unknown key {where}{nearest(str(problem['loc'][-1]), fields)}"
    if problem["type"] == "missing":
        return f"{where} is missing; begin each prompt with [[prompts]]"
    value = repr(problem["input"])
    short = value if len(value) <= 60 else f"{value[:57]}..."
    key = str(problem["loc"][2]) if len(problem["loc"]) > 2 else "prompts"
    return f"{where or 'content'} = {short}; expected {_EXPECTED[key]}"


def _numbers(flag: str, text: str, place: str, form: str) -> list[float]:
    """``place`` as the comma-separated numbers that ``form`` shows."""
    try:
        numbers = [float(part) for part in place.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(form.split(",")):
        raise PromptError(f"{flag} {text!r} cannot be read; expected [ID:]{form}[@FRAME], such as {_EXAMPLES[form]}")
    return numbers


_EXPECTED = {
    "prompts": "a list of prompts: [[prompts]]",
    "object": f"an integer from 0 to {2**63 - 1}",
    "frame": "an integer, 0 or more",
    "points": "a list of at most 1000 points [x, y]",
    "labels": "a list of 1 (on the object) and 0 (not)",
    "box": "[x0, y0, x1, y1]",
    "mask": "the path of an image, in quotes",
}
_EXAMPLES = {"X,Y": "510,320 or 2:510,320@30", "X0,Y0,X1,Y1": "420,180,640,520 or 2:420,180,640,520@30"}

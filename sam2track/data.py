"""Values that cross every seam: frames and prompts in, predictions out.

All are frozen and check themselves. Pixels are RGB uint8, masks are bool, both numpy and indexed
``[row, column]``; points and boxes are ``(x, y)`` in pixels of the source frame, x to the right and
y down. Time is exact: a ``Fraction`` of seconds (pts x time base), never ``index / fps``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam2track.errors import PromptError

if TYPE_CHECKING:
    import supervision

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame:
    """One decoded picture.

    Attributes:
        image: RGB uint8 ``[H, W, 3]``.
        index: position in the source, counted from 0; frames that were skipped are counted too.
        time: exact presentation time in seconds from the start of the source.
    """

    image: Image
    index: int
    time: Fraction

    def __post_init__(self) -> None:
        image = self.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(
                f"frame image is {image.dtype}{list(image.shape)}; expected uint8 [H, W, 3], RGB, not empty"
            )

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return int(self.image.shape[1])

    def __repr__(self) -> str:
        return f"Frame({self.width}x{self.height}, index={self.index}, time={float(self.time):.3f}s)"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prompt:
    """What the user says of one object on one frame, in pixels of the source frame.

    Points and a box combine; a mask stands alone.

    Attributes:
        points: ``(x, y)`` clicks.
        labels: one per point: 1 on the object, 0 on what is not the object. Default: all 1.
        box: ``(x0, y0, x1, y1)`` around the object, ``x0 < x1`` and ``y0 < y1``.
        mask: bool ``[H, W]`` of the source frame's size, True on the object.

    Raises:
        PromptError: the prompt is empty, mixes a mask with points, has labels of another length or
            value, a coordinate that is not finite, an inverted box, or a mask that is not a
            two-dimensional bool array with at least one True pixel.
    """

    points: Sequence[Point] = ()
    labels: Sequence[int] | None = None
    box: Box | None = None
    mask: Mask | None = None

    def __post_init__(self) -> None:
        points = tuple(_coordinates(point, 2, "point") for point in _rows(self.points))
        labels = (1,) * len(points) if self.labels is None else _labels(self.labels)
        if len(labels) != len(points):
            raise PromptError(f"prompt has {len(points)} points but {len(labels)} labels; give one label a point")
        for label in labels:
            if label not in (0, 1):
                raise PromptError(f"prompt label {label!r} is neither 1 (object) nor 0 (not the object)")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", tuple(int(label) for label in labels))
        if self.box is not None:
            x0, y0, x1, y1 = box = _coordinates(self.box, 4, "box")
            if not (x0 < x1 and y0 < y1):
                raise PromptError(f"prompt box {box} is empty; expected (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
            object.__setattr__(self, "box", box)
        if self.mask is not None:
            object.__setattr__(self, "mask", _checked_mask(self.mask))
            if points or self.box is not None:
                raise PromptError("prompt has a mask and points or a box; a mask stands alone")
        elif not points and self.box is None:
            raise PromptError("prompt is empty; give points, a box or a mask")

    def check_inside(self, height: int, width: int) -> None:
        """Raise ``PromptError`` unless every point, the box and the mask fit a ``height x width`` frame."""
        inside = f"the {width}x{height} frame; x goes from 0 to {width}, y from 0 to {height}"
        for x, y in self.points:
            if not (0 <= x <= width and 0 <= y <= height):
                raise PromptError(f"prompt point ({x:g}, {y:g}) lies outside {inside}")
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                raise PromptError(f"prompt box {self.box} lies outside {inside}")
        if self.mask is not None and self.mask.shape != (height, width):
            rows, columns = self.mask.shape
            raise PromptError(f"prompt mask is {columns}x{rows} but the frame is {width}x{height}; resize the mask")

    def __repr__(self) -> str:
        parts = []
        if self.points:
            parts.append(f"points={list(self.points)}, labels={list(self.labels or ())}")
        if self.box is not None:
            parts.append(f"box={self.box}")
        if self.mask is not None:
            parts.append(f"mask={int(self.mask.sum())} px of {self.mask.shape[1]}x{self.mask.shape[0]}")
        return f"Prompt({', '.join(parts)})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prediction:
    """Where one object is on one frame.

    Attributes:
        mask: bool ``[H, W]`` of the source frame's size; all False when the object is not visible.
        score: the model's own estimate of the mask's IoU with the truth, in [0, 1]; 0 when not visible.
        visible: False when the object is occluded or out of view on this frame.
        box: tight ``(x0, y0, x1, y1)`` around the mask, right and bottom edges exclusive; None when
            the mask is empty.
    """

    mask: Mask
    score: float
    visible: bool
    box: Box | None

    def __repr__(self) -> str:
        return f"Prediction({int(self.mask.sum())} px, score={self.score:.2f}, visible={self.visible}, box={self.box})"


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """All objects on one frame.

    Attributes:
        index: the frame's index.
        time: the frame's exact time in seconds.
        size: ``(height, width)`` of the frame and of every mask.
        objects: object id -> prediction, in the order the objects were added.
    """

    index: int
    time: Fraction
    size: tuple[int, int]
    objects: Mapping[int, Prediction] = field(default_factory=dict)

    def detections(self) -> supervision.Detections:
        """The visible objects as ``supervision.Detections``; ``tracker_id`` is the object id.

        ``confidence`` is the score and ``class_id`` is 0, since SAM 2 knows no classes.
        """
        import supervision  # a heavy import that only those who ask for detections pay for

        visible = {i: p for i, p in self.objects.items() if p.visible and p.box is not None}
        if not visible:
            return supervision.Detections.empty()
        return supervision.Detections(
            xyxy=np.array([p.box for p in visible.values()], dtype=np.float32),
            mask=np.stack([p.mask for p in visible.values()]),
            confidence=np.array([p.score for p in visible.values()], dtype=np.float32),
            class_id=np.zeros(len(visible), dtype=int),
            tracker_id=np.array(list(visible), dtype=int),
        )


def checked_id(value: object) -> int:
    """``value`` as an object id: an integer from 0 on. Raises ``PromptError`` for anything else."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise PromptError(f"object id {value!r} is not an integer") from None
    if number < 0:
        raise PromptError(f"object id {number} is negative; ids count from 0")
    return number


def _rows(points: object) -> list[object]:
    """``points`` as a list, with a clear error for a single point that was not wrapped in a list."""
    try:
        rows: list[object] = list(points)  # type: ignore[call-overload]
    except TypeError:
        raise PromptError(f"prompt points {points!r} are not a list of (x, y)") from None
    if rows and np.isscalar(rows[0]):
        raise PromptError(f"prompt points {points!r} are not a list of (x, y); wrap a single point: [(x, y)]")
    return rows


def _labels(labels: object) -> tuple[int, ...]:
    try:
        return tuple(labels)  # type: ignore[arg-type]
    except TypeError:
        raise PromptError(f"prompt labels {labels!r} are not a list; give one label a point, such as [1, 0]") from None


def _coordinates(values: object, count: int, what: str) -> tuple[float, ...]:
    """``values`` as ``count`` finite floats."""
    try:
        numbers = tuple(float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        raise PromptError(f"prompt {what} {values!r} is not {count} numbers") from None
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise PromptError(f"prompt {what} {numbers} is not {count} finite numbers")
    return numbers


def _checked_mask(mask: object) -> Mask:
    """``mask`` as a bool array with at least one True pixel."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise PromptError(f"prompt mask has shape {list(array.shape)}; expected [H, W]")
    if array.dtype != np.bool_:
        raise PromptError(f"prompt mask is {array.dtype}; expected bool (write mask > 0)")
    if not array.any():
        raise PromptError("prompt mask is empty; mark at least one pixel of the object")
    return array

"""Draws what the tracker saw on the frame it saw it on.

``overlay`` never touches the frame it is given. An object keeps its colour for ever: the colour is a
function of the id alone. One compiled pass paints the fill and contour of all masks; it holds no lock
and no state, so several threads may draw at once. Everything else that a supervision annotator can
draw, it can draw from ``result.detections()``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import cast

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from sam2track.data import Frame, FrameResult, Image, Mask, Prediction
from sam2track.errors import MaskletError

Color = tuple[int, int, int]
Pixel = tuple[int, int]

# Twelve hues far apart, neighbours in the list furthest; all bright enough to stand out on a photo.
PALETTE: tuple[Color, ...] = (
    (0, 174, 255),  # azure
    (255, 138, 0),  # orange
    (46, 213, 98),  # green
    (255, 64, 129),  # rose
    (255, 221, 51),  # yellow
    (149, 97, 255),  # violet
    (0, 214, 203),  # turquoise
    (240, 60, 50),  # red
    (176, 224, 40),  # lime
    (255, 128, 222),  # pink
    (72, 104, 255),  # blue
    (196, 142, 92),  # sand
)
FONT = cv2.FONT_HERSHEY_SIMPLEX
DARK, LIGHT = (24, 24, 24), (255, 255, 255)


def color_of(object_id: int) -> Color:
    """The RGB colour of an object id; ids twelve apart share one."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


class Trace:
    """Where the objects have been: the centroids of the last ``length`` frames of each.

    Give one to every ``overlay`` call of a clip. A frame on which an object is not visible leaves a
    gap in its line; an object that is no longer in the results is forgotten.
    """

    def __init__(self, length: int = 30) -> None:
        if length < 2:
            raise ValueError(f"trace length is {length}; expected at least 2 frames")
        self.length = length
        self._index = -1
        self._paths: dict[int, deque[Pixel | None]] = {}

    def add(self, result: FrameResult) -> None:
        """Extend the lines by one frame; the same frame again replaces it, an earlier one starts anew."""
        if result.index < self._index:
            self._paths.clear()
        again = result.index == self._index
        paths = {i: self._paths.get(i) or deque(maxlen=self.length) for i in result.objects}
        for object_id, prediction in result.objects.items():
            if again and paths[object_id]:
                paths[object_id].pop()
            paths[object_id].append(_centroid(prediction))
        self._index, self._paths = result.index, paths

    def path(self, object_id: int) -> list[Pixel | None]:
        """Centroids ``(x, y)`` of an object, oldest first; None where it was not visible."""
        return list(self._paths.get(object_id, ()))


def overlay(
    frame: Frame,
    result: FrameResult,
    *,
    opacity: float = 0.45,
    contour: int | None = None,
    labels: bool = True,
    trace: Trace | None = None,
) -> Frame:
    """A copy of ``frame`` with every visible object drawn on it, later objects over earlier ones.

    A pixel of a mask becomes ``(old * (256 - k) + color * k + 128) // 256`` with
    ``k = round(256 * opacity)``; a pixel of a mask that has a pixel outside it, or the edge of the
    frame, within ``contour`` pixels becomes ``color``. Objects that are not visible are not painted;
    their labels wait in the lower left corner.

    Args:
        frame: the picture.
        result: the objects on it.
        opacity: of the fill, 0 to 1.
        contour: width in pixels; 0 draws none; by default 1, and more on large frames.
        labels: write the id and score at each object.
        trace: also draw where the objects have been; this frame is added to it.

    Raises:
        MaskletError: the result is of frames of another size.
        ValueError: opacity or contour out of range.
    """
    size = (frame.height, frame.width)
    if result.size != size or any(p.mask.shape != size for p in result.objects.values()):
        height, width = next((p.mask.shape for p in result.objects.values() if p.mask.shape != size), result.size)
        raise MaskletError(
            f"frame {frame.index} is {frame.width}x{frame.height} but its masks are {width}x{height};"
            " draw masklets on the video they were made from"
        )
    contour = max(1, round(min(size) / 400)) if contour is None else contour
    if not 0 <= opacity <= 1 or not 0 <= contour <= 64:
        raise ValueError(f"opacity {opacity:g}, contour {contour}; expected opacity in 0..1 and contour in 0..64")
    image = frame.image.copy(order="C")
    shapes = _shapes(result)
    if shapes:
        _paint_shapes(image, shapes, round(256 * opacity), contour)
    if trace is not None:
        trace.add(result)
        for object_id in result.objects:
            _draw_path(image, trace.path(object_id), color_of(object_id))
    if labels:
        _draw_labels(image, result, shapes)
    return Frame(image, frame.index, frame.time)


def warm_up() -> None:
    """Compile the painter, which else happens on the first frame: a second or two, once per installation."""
    mask = np.ones((2, 2), dtype=np.bool_)
    result = FrameResult(0, Fraction(0), (2, 2), {1: Prediction(mask, 1.0, True, (0.0, 0.0, 2.0, 2.0))})
    overlay(Frame(np.zeros((2, 2, 3), dtype=np.uint8), 0, Fraction(0)), result, labels=False)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A visible object: its colour, tight box ``(x0, y0, x1, y1)`` and the mask within the box."""

    object_id: int
    box: tuple[int, int, int, int]
    mask: Mask


def _shapes(result: FrameResult) -> list[_Shape]:
    shapes = []
    for object_id, prediction in result.objects.items():
        if prediction.visible:
            x, y, width, height = _bounds(prediction.mask)
            if width:
                mask = prediction.mask[y : y + height, x : x + width]
                shapes.append(_Shape(object_id, (x, y, x + width, y + height), mask))
    return shapes


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return int(x), int(y), int(width), int(height)


def _centroid(prediction: Prediction) -> Pixel | None:
    if not prediction.visible:
        return None
    x, y, width, height = _bounds(prediction.mask)
    if not width:
        return None
    inside = np.ascontiguousarray(prediction.mask[y : y + height, x : x + width]).view(np.uint8)
    moments = cv2.moments(inside, binaryImage=True)
    return x + round(moments["m10"] / moments["m00"]), y + round(moments["m01"] / moments["m00"])


def _paint_shapes(image: Image, shapes: list[_Shape], weight: int, contour: int) -> None:
    """Paint fill and contour of all shapes into ``image``."""
    _paint(
        image,
        np.concatenate([_layers(shape.mask, contour).ravel() for shape in shapes]),
        np.array([shape.box for shape in shapes], dtype=np.int64),
        np.array([color_of(shape.object_id) for shape in shapes], dtype=np.int32),
        np.array([0, weight, 256], dtype=np.int32),
    )


def _layers(mask: Mask, contour: int) -> Image:
    """0 outside the mask, 1 on its fill, 2 on its contour."""
    inside = np.ascontiguousarray(mask).view(np.uint8)
    if not contour:
        return inside
    reach = np.arange(-contour, contour + 1)
    disk = (reach[:, None] ** 2 + reach**2 <= contour * contour).astype(np.uint8)
    fill = cv2.erode(inside, disk, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(2 * inside - fill)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` as machine code that holds no lock, kept on disk for the next process."""
    try:
        return cast(Callable[..., None], numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # a read-only installation and no home folder: nowhere to keep it
        return cast(Callable[..., None], numba.njit(nogil=True)(function))


@_compiled
def _paint(
    image: Image, layers: Image, boxes: NDArray[np.int64], colors: NDArray[np.int32], weights: NDArray[np.int32]
) -> None:
    """Paint N objects into ``image`` [H, W, 3], row by row and each row once.

    ``layers`` holds their boxes' pixels one after the other, each an index into ``weights``, the share of
    the colour in 256ths. There is no branch in the inner loop, so that it compiles to vector instructions.
    """
    for y in range(image.shape[0]):
        start = 0
        for n in range(boxes.shape[0]):
            x0, y0, x1, y1 = boxes[n]
            width = x1 - x0
            if y0 <= y < y1:
                first = start + (y - y0) * width
                line = layers[first : first + width]
                pixels = image[y, x0:x1]
                for x in range(width):
                    weight = weights[line[x]]
                    for c in range(3):
                        mixed = pixels[x, c] * (np.int32(256) - weight) + colors[n, c] * weight
                        pixels[x, c] = (mixed + np.int32(128)) >> 8
            start += width * (y1 - y0)


def _draw_path(image: Image, path: list[Pixel | None], color: Color) -> None:
    """A line through the centroids that grows thicker towards the newest."""
    thickest = max(2, round(min(image.shape[:2]) / 240))
    for age, (start, end) in enumerate(pairwise(path), start=1):
        if start is not None and end is not None:
            cv2.line(image, start, end, color, max(1, round(thickest * age / len(path))), cv2.LINE_AA)


def _draw_labels(image: Image, result: FrameResult, shapes: list[_Shape]) -> None:
    for shape in shapes:
        x0, y0, _, _ = shape.box
        text = f"{shape.object_id}  {result.objects[shape.object_id].score:.2f}"
        _draw_chip(image, text, (x0, y0), color_of(shape.object_id))
    painted = {shape.object_id for shape in shapes}
    left, bottom = 0, image.shape[0]
    for object_id in result.objects:
        if object_id not in painted:
            text = f"{object_id}  hidden"
            width, height = _chip_size(image, text)
            if left + width > image.shape[1]:
                left, bottom = 0, bottom - height
            _draw_chip(image, text, (left, bottom), DARK, color_of(object_id))
            left += width


def _text_scale(image: Image) -> float:
    return max(0.4, float(min(image.shape[:2])) / 1400)


def _chip_size(image: Image, text: str) -> tuple[int, int]:
    scale = _text_scale(image)
    (width, height), _ = cv2.getTextSize(text, FONT, scale, 1)
    pad = max(3, round(8 * scale))
    return int(width) + 2 * pad, int(height) + 2 * pad


def _draw_chip(image: Image, text: str, corner: Pixel, fill: Color, ink: Color | None = None) -> None:
    """Text on a filled box whose lower left corner is at ``corner``, moved inside the image."""
    width, height = _chip_size(image, text)
    x = max(0, min(corner[0], image.shape[1] - width))
    y = max(height, min(corner[1], image.shape[0]))
    scale = _text_scale(image)
    pad = max(3, round(8 * scale))
    if ink is None:
        bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 120
        ink = DARK if bright else LIGHT
    cv2.rectangle(image, (x, y - height), (x + width - 1, y - 1), fill, cv2.FILLED)
    cv2.putText(image, text, (x + pad, y - pad - 1), FONT, scale, ink, 1, cv2.LINE_AA)

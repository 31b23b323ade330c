"""A window that shows frames and turns clicks into prompts.

``Clicks`` holds the whole logic and knows no display; ``Window`` joins it to OpenCV's window. A
prompt is handed out once, by the call of ``show`` after it was made.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from sam2track.data import Box, Frame, Image, Point, Prompt
from sam2track.errors import SinkError
from sam2track.render import DARK, FONT, LIGHT, color_of

HELP = "left +   right -   drag box   n new   1-9 choose   space hold   z undo   q quit"
DRAG = 1 / 150  # of the frame's shorter side (at least 5 pixels): what the pointer moves before a click is a box
POLL_MS = 15
ROOM = (1600, 900)  # the window's first size at most; it can be resized
ESCAPE, BACKSPACE, SPACE = 27, 8, 32


class Clicks:
    """Pointer and key events in, prompts out; coordinates are pixels of the frame.

    A left click is a point on the current object, a right click a point that is not on it, a drag
    with the left button its box (a newer box replaces it). ``take`` hands the prompts out.

    Attributes:
        current: the object id that clicks belong to.
        held: the frame is being held for clicking.
        closed: the user asked to leave.
    """

    def __init__(self) -> None:
        self.current = 1
        self.held = False
        self.closed = False
        self._highest = 1
        self._made: list[tuple[int, Point | Box, int]] = []  # object id, point or box, label
        self._start: Point | None = None
        self._end: Point | None = None
        self._slack = 5.0

    @property
    def dragged(self) -> Box | None:
        """The box that is being drawn, or None."""
        if self._start is None or self._end is None:
            return None
        (ax, ay), (bx, by) = self._start, self._end
        far = max(abs(ax - bx), abs(ay - by)) > self._slack and ax != bx and ay != by
        return (min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)) if far else None

    @property
    def made(self) -> tuple[tuple[int, Point | Box, int], ...]:
        """What was made since ``take``: object id, point or box, label (1 on the object, 0 not)."""
        return tuple(self._made)

    def mouse(self, event: int, x: float, y: float, size: tuple[int, int]) -> None:
        """An OpenCV mouse event on a frame of ``size = (height, width)``; positions outside are moved inside."""
        height, width = size
        point = (float(min(max(x, 0), width - 1)), float(min(max(y, 0), height - 1)))
        if event == cv2.EVENT_LBUTTONDOWN:
            self._start = self._end = point
            self._slack = max(5.0, DRAG * min(size))
        elif event == cv2.EVENT_MOUSEMOVE and self._start is not None:
            self._end = point
        elif event == cv2.EVENT_LBUTTONUP and self._start is not None:
            self._end = point
            self._made.append((self.current, self.dragged or self._start, 1))
            self._start = self._end = None
        elif event == cv2.EVENT_RBUTTONDOWN:
            self._made.append((self.current, point, 0))

    def key(self, code: int) -> None:
        """A key, as ``cv2.waitKey`` reports it; -1 is no key."""
        if code < 0:
            return
        code &= 0xFF
        if code in (ESCAPE, ord("q")):
            self.closed = True
        elif code == ord("n"):
            self._choose(self._highest + 1)
        elif ord("1") <= code <= ord("9"):
            self._choose(code - ord("0"))
        elif code == SPACE:
            self.held = not self.held
        elif code in (ord("z"), BACKSPACE):
            self._undo()

    def take(self) -> dict[int, Prompt]:
        """The prompts made since the last call, by object id."""
        points: dict[int, list[Point]] = {}
        labels: dict[int, list[int]] = {}
        boxes: dict[int, Box] = {}
        for object_id, place, label in self._made:
            if len(place) == 4:
                boxes[object_id] = place
            else:
                points.setdefault(object_id, []).append(place)
                labels.setdefault(object_id, []).append(label)
        self._made.clear()
        return {
            object_id: Prompt(points.get(object_id, ()), labels.get(object_id), boxes.get(object_id))
            for object_id in dict.fromkeys([*points, *boxes])
        }

    def _choose(self, object_id: int) -> None:
        self.current = object_id
        self._highest = max(self._highest, object_id)
        self._start = self._end = None

    def _undo(self) -> None:
        if self._start is not None:
            self._start = self._end = None
        elif self._made:
            self._made.pop()


class Window:
    """A window for frames and clicks; use as a context manager, and from the main thread.

    Left click: a point on the object; right click: a point that is not; drag: a box; ``n``: a new
    object; ``1`` to ``9``: choose an object; space: hold the frame, and let go; ``z``: undo what was
    not handed out yet; ``q`` or Esc: set ``closed``, as closing the window does.

    Raises:
        SinkError: there is no display, or this OpenCV was built without windows.
    """

    def __init__(self, title: str = "sam2track") -> None:
        self.title = title
        self.clicks = Clicks()
        self._size = (1, 1)
        _quiet_qt()
        if problem := _display_problem():
            raise SinkError(f"no window can be opened: {problem}; run with --headless and write an overlay instead")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.setMouseCallback(title, self._on_mouse)
        except cv2.error as error:
            raise SinkError(
                "no window can be opened: this OpenCV has none (is opencv-python-headless installed?);"
                " install opencv-python, or run with --headless"
            ) from error
        self._open = True

    @property
    def closed(self) -> bool:
        """True once the user asked to leave; ``show`` then does nothing."""
        return self.clicks.closed

    def show(self, frame: Frame) -> dict[int, Prompt]:
        """Show a frame and return the prompts made since the last call; waits while the user holds the frame.

        The clicks were made on the frame that was on show: ``tracker.refine(prompts)`` applies them to it,
        ``tracker.step(next_frame, prompts)`` to the next, which differs little unless the frame was held.
        """
        if self.closed or not self._open:
            return {}
        if self._size != (frame.height, frame.width):
            self._size = (frame.height, frame.width)
            zoom = min(2.0, ROOM[0] / frame.width, ROOM[1] / frame.height)
            cv2.resizeWindow(self.title, round(zoom * frame.width), round(zoom * frame.height))
        while True:
            cv2.imshow(self.title, cv2.cvtColor(_with_clicks(frame, self.clicks), cv2.COLOR_RGB2BGR))
            self.clicks.key(cv2.waitKey(POLL_MS if self.clicks.held else 1))
            if cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
                self.clicks.closed = True
            if self.closed or not self.clicks.held:
                return self.clicks.take()

    def close(self) -> None:
        """Close the window; closing twice does nothing."""
        if self._open:
            self._open = False
            with suppress(cv2.error):  # the user may have closed it already
                cv2.destroyWindow(self.title)
                cv2.waitKey(1)  # some window systems only close while events are handled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _on_mouse(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        self.clicks.mouse(event, x, y, self._size)


def _with_clicks(frame: Frame, clicks: Clicks) -> Image:
    """A copy of the picture with the help line and the clicks that were not handed out yet."""
    image = frame.image.copy(order="C")
    reach = max(3, round(min(image.shape[:2]) / 120))
    for object_id, place, label in clicks.made:
        if len(place) == 4:
            _draw_box(image, place, object_id)
        else:
            center = (int(place[0]), int(place[1]))
            cv2.circle(image, center, reach + 1, LIGHT if label else DARK, cv2.FILLED, cv2.LINE_AA)
            cv2.circle(image, center, reach, color_of(object_id) if label else (220, 40, 40), cv2.FILLED, cv2.LINE_AA)
    if clicks.dragged is not None:
        _draw_box(image, clicks.dragged, clicks.current)
    _draw_help(image, clicks)
    return image


def _draw_box(image: Image, box: Box, object_id: int) -> None:
    x0, y0, x1, y1 = (int(edge) for edge in box)
    cv2.rectangle(image, (x0, y0), (x1, y1), color_of(object_id), 2)


def _draw_help(image: Image, clicks: Clicks) -> None:
    """The current object and the keys, on a darkened strip along the top, as small as the frame allows."""
    head = f"object {clicks.current}{'  (held)' if clicks.held else ''}"
    text = f"{head}   {HELP}"
    (natural, _), _ = cv2.getTextSize(text, FONT, 1.0, 1)
    scale = min(max(0.5, min(image.shape[:2]) / 1400), (image.shape[1] - 12) / natural)
    if scale < 0.3:  # too small to read: only the object
        text, scale = head, 0.35
    (_, height), _ = cv2.getTextSize(text, FONT, scale, 1)
    strip = image[: height + 10]
    np.right_shift(strip, 1, out=strip)
    cv2.rectangle(strip, (0, 0), (3, strip.shape[0]), color_of(clicks.current), cv2.FILLED)
    cv2.putText(image, text, (8, height + 4), FONT, scale, LIGHT, 1, cv2.LINE_AA)


def _display_problem() -> str | None:
    """Why no window can open, or None.

    Asked of another process: where Qt finds no display, one it may not use, or lacks the plugin for it,
    it ends the process that asked.
    """
    if sys.platform in ("win32", "darwin"):
        return None
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    modules = list(sys.modules)  # in the order of import
    if "av" in modules and modules.index("av") < modules.index("cv2"):
        return "PyAV was imported before OpenCV, whose windows then hang on Linux; import sam2track or cv2 first"
    probe = [sys.executable, "-P", "-c", "import cv2; cv2.namedWindow('sam2track')"]
    try:
        answer = subprocess.run(probe, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  fixed text
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    if answer.returncode >= 0:  # it lived; should OpenCV have no windows at all, it says so itself
        return None
    return next((line.strip() for line in answer.stderr.splitlines() if line.strip()), "the display refuses")


def _quiet_qt() -> None:
    """Qt warns of its missing font folder on every window, though the text here is drawn into the picture."""
    if not Path(os.environ.get("QT_QPA_FONTDIR", "")).is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(Path(cv2.__file__).parent)

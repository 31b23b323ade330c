from fractions import Fraction
from subprocess import CompletedProcess, TimeoutExpired

import cv2
import numpy as np
import pytest

from sam2track import window
from sam2track.data import Frame
from sam2track.errors import SinkError
from sam2track.window import Clicks, Window

SIZE = (90, 130)
DOWN, MOVE, UP, RIGHT = cv2.EVENT_LBUTTONDOWN, cv2.EVENT_MOUSEMOVE, cv2.EVENT_LBUTTONUP, cv2.EVENT_RBUTTONDOWN


def click(clicks, x, y):
    clicks.mouse(DOWN, x, y, SIZE)
    clicks.mouse(UP, x, y, SIZE)


def drag(clicks, start, end, size=SIZE):
    clicks.mouse(DOWN, *start, size)
    clicks.mouse(MOVE, *end, size)
    clicks.mouse(UP, *end, size)


def press(clicks, keys):
    for key in keys:
        clicks.key(ord(key))


def shown(prompts):
    return {i: (list(p.points), list(p.labels), p.box) for i, p in prompts.items()}


def test_left_is_on_the_object_and_right_is_not():
    clicks = Clicks()
    click(clicks, 10, 20)
    clicks.mouse(RIGHT, 30, 40, SIZE)
    click(clicks, 50, 60)
    assert shown(clicks.take()) == {1: ([(10, 20), (30, 40), (50, 60)], [1, 0, 1], None)}
    assert clicks.take() == {}


@pytest.mark.parametrize(("start", "end"), [((20, 30), (60, 80)), ((60, 80), (20, 30)), ((20, 80), (60, 30))])
def test_a_drag_in_any_direction_is_a_box(start, end):
    clicks = Clicks()
    drag(clicks, start, end)
    assert shown(clicks.take()) == {1: ([], [], (20, 30, 60, 80))}


def test_a_trembling_hand_still_clicks():
    clicks = Clicks()
    drag(clicks, (20, 30), (24, 33))
    drag(clicks, (20, 30), (60, 30))  # a line encloses nothing
    drag(clicks, (500, 500), (512, 510), size=(2160, 3840))  # a few pixels on the screen
    assert shown(clicks.take()) == {1: ([(20, 30), (20, 30), (500, 500)], [1, 1, 1], None)}


def test_points_and_a_box_of_one_object_combine_and_the_newest_box_counts():
    clicks = Clicks()
    drag(clicks, (1, 2), (50, 60))
    click(clicks, 9, 9)
    drag(clicks, (5, 6), (70, 80))
    assert shown(clicks.take()) == {1: ([(9, 9)], [1], (5, 6, 70, 80))}


def test_keys_choose_the_object():
    clicks = Clicks()
    click(clicks, 1, 1)
    press(clicks, "n")
    click(clicks, 2, 2)
    press(clicks, "7")
    click(clicks, 7, 7)
    press(clicks, "n")
    assert clicks.current == 8
    press(clicks, "1")
    click(clicks, 3, 3)
    assert shown(clicks.take()) == {
        1: ([(1, 1), (3, 3)], [1, 1], None),
        2: ([(2, 2)], [1], None),
        7: ([(7, 7)], [1], None),
    }
    assert clicks.current == 1


def test_positions_outside_are_moved_inside():
    clicks = Clicks()
    click(clicks, -5, 300)
    drag(clicks, (100, 50), (900, -20))
    prompt = clicks.take()[1]
    assert shown({1: prompt}) == {1: ([(0, 89)], [1], (100, 0, 129, 50))}
    prompt.check_inside(*SIZE)


def test_undo_takes_back_the_drag_then_the_last_click():
    clicks = Clicks()
    click(clicks, 1, 1)
    click(clicks, 2, 2)
    clicks.mouse(DOWN, 10, 10, SIZE)
    clicks.mouse(MOVE, 50, 50, SIZE)
    assert clicks.dragged == (10, 10, 50, 50)
    press(clicks, "z")
    assert clicks.dragged is None
    clicks.mouse(UP, 50, 50, SIZE)  # the button of the drag that was taken back
    clicks.key(window.BACKSPACE)
    assert shown(clicks.take()) == {1: ([(1, 1)], [1], None)}
    press(clicks, "z")
    assert clicks.take() == {}


def test_moving_without_a_button_does_nothing():
    clicks = Clicks()
    clicks.mouse(MOVE, 10, 10, SIZE)
    clicks.mouse(UP, 10, 10, SIZE)
    assert clicks.take() == {}
    assert clicks.dragged is None


@pytest.mark.parametrize("code", [ord("q"), 27])
def test_q_and_escape_close(code):
    clicks = Clicks()
    for other in (-1, ord("x"), 13, 81):
        clicks.key(other)
    assert not clicks.closed
    clicks.key(code)
    assert clicks.closed


class Screen:
    """Stands in for OpenCV's window: plays a script of keys and mouse events, one entry a poll."""

    def __init__(self, script=()):
        self.script = list(script)
        self.images = []
        self.open = False
        self.mouse = None

    def install(self, monkeypatch):
        monkeypatch.setattr(window, "_display_problem", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: setattr(self, "open", True))
        monkeypatch.setattr(cv2, "destroyWindow", lambda *_: setattr(self, "open", False))
        monkeypatch.setattr(cv2, "setMouseCallback", lambda _, callback: setattr(self, "mouse", callback))
        monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "imshow", lambda _, image: self.images.append(image))
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: float(self.open))
        monkeypatch.setattr(cv2, "waitKey", self.poll)
        return self

    def poll(self, _):
        event = self.script.pop(0) if self.script else -1
        if callable(event):
            event()
            return -1
        return event if isinstance(event, int) else ord(event)

    def click(self, x, y):
        return lambda: (self.mouse(DOWN, x, y, 0, None), self.mouse(UP, x, y, 0, None))


def frame():
    return Frame(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8), 0, Fraction(0))


def test_show_gives_the_clicks_since_the_last_call(monkeypatch):
    screen = Screen().install(monkeypatch)
    screen.script = [-1, screen.click(10, 20), "n", screen.click(30, 40)]
    picture = frame()
    before = picture.image.copy()
    with Window("test") as view:
        prompts = [shown(view.show(picture)) for _ in range(5)]
    assert prompts == [{}, {1: ([(10, 20)], [1], None)}, {}, {2: ([(30, 40)], [1], None)}, {}]
    np.testing.assert_array_equal(picture.image, before)
    assert not screen.open


def test_show_draws_the_frame_in_its_colors_under_the_help(monkeypatch):
    screen = Screen().install(monkeypatch)
    picture = frame()
    with Window("test") as view:
        view.show(picture)
    np.testing.assert_array_equal(screen.images[0][40:], picture.image[40:, :, ::-1])
    assert (screen.images[0][:10] != picture.image[:10, :, ::-1]).any()


def test_space_holds_the_frame_until_it_is_let_go(monkeypatch):
    screen = Screen().install(monkeypatch)
    screen.script = [" ", screen.click(10, 20), screen.click(30, 70), screen.click(99, 9), "z", " "]
    with Window("test") as view:
        prompts = view.show(frame())
    assert shown(prompts) == {1: ([(10, 20), (30, 70)], [1, 1], None)}
    assert len(screen.images) == 6
    drawn = (screen.images[3] != screen.images[0]).any(axis=2)
    assert drawn[20, 10]
    assert drawn[70, 30]


def test_leaving_ends_a_hold_and_later_calls_show_nothing(monkeypatch):
    screen = Screen([" ", "q"]).install(monkeypatch)
    with Window("test") as view:
        assert view.show(frame()) == {}
        assert view.closed
        assert view.show(frame()) == {}
    assert len(screen.images) == 2


def test_closing_the_window_by_hand_counts_as_leaving(monkeypatch):
    screen = Screen().install(monkeypatch)
    with Window("test") as view:
        view.show(frame())
        assert not view.closed
        screen.open = False
        view.show(frame())
        assert view.closed


def test_the_window_closes_when_the_block_fails(monkeypatch):
    screen = Screen().install(monkeypatch)
    with pytest.raises(ZeroDivisionError), Window("test"):
        raise ZeroDivisionError
    assert not screen.open


@pytest.mark.parametrize("size", [(64, 64), (90, 130), (360, 640), (2160, 3840)])
def test_the_help_fits_any_frame(size):
    picture = Frame(np.zeros((*size, 3), np.uint8), 0, Fraction(0))
    drawn = window._with_clicks(picture, Clicks())
    rows = np.flatnonzero(drawn.any(axis=(1, 2)))
    assert rows.max() < max(32, size[0] / 20)
    assert not drawn[:, -4:].any()  # no letter is cut off at the right edge


def test_without_a_display_the_error_names_the_remedy(monkeypatch):
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="neither DISPLAY nor WAYLAND_DISPLAY is set; run with --headless"):
        Window("test")


def _aborts(*_, **__):
    return CompletedProcess([], -6, "", "\nqt.qpa.xcb: could not connect to display :77\nmore\n")


def _hangs(*_, **__):
    raise TimeoutExpired("python", 30)


@pytest.mark.parametrize(("run", "message"), [(_aborts, "could not connect to display :77"), (_hangs, "not answer")])
def test_a_display_that_refuses_is_asked_by_another_process(monkeypatch, run, message):
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(window.subprocess, "run", run)
    with pytest.raises(SinkError, match=message + ".*--headless"):
        Window("test")


def test_an_opencv_without_windows_is_a_sink_error(monkeypatch):
    Screen().install(monkeypatch)

    def missing(*_):
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", missing)
    with pytest.raises(SinkError, match="opencv-python-headless") as caught:
        Window("test")
    assert isinstance(caught.value.__cause__, cv2.error)

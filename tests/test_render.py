from fractions import Fraction
from threading import Thread

import numba.core.caching
import numpy as np
import pytest
import supervision

from sam2track import render
from sam2track.data import Frame, FrameResult, Prediction
from sam2track.errors import MaskletError
from sam2track.render import Trace, color_of, overlay

HEIGHT, WIDTH = 90, 130


def picture(height=HEIGHT, width=WIDTH, index=0):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(image, index, Fraction(index * 1001, 30000))


def prediction(mask, visible=True, score=0.9):
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if rows.size else None
    return Prediction(mask, score, visible, box)


def disk(x, y, radius, height=HEIGHT, width=WIDTH):
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def result_of(masks, index=0, size=(HEIGHT, WIDTH)):
    return FrameResult(index, Fraction(index), size, {i: prediction(mask) for i, mask in masks.items()})


def expected(image, masks, opacity, contour):
    """The documented formula, pixel by pixel of the offsets, in numpy."""
    image = image.astype(np.int64)
    k = round(256 * opacity)
    for object_id, mask in masks.items():
        edge = np.zeros_like(mask)
        padded = np.pad(mask, contour)
        for dy in range(-contour, contour + 1):
            for dx in range(-contour, contour + 1):
                if dy * dy + dx * dx <= contour * contour:
                    shifted = padded[contour + dy :, contour + dx :][: mask.shape[0], : mask.shape[1]]
                    edge |= mask & ~shifted
        color = np.array(color_of(object_id))
        image = np.where(mask[..., None], (image * (256 - k) + color * k + 128) // 256, image)
        image = np.where(edge[..., None], color, image)
    return image.astype(np.uint8)


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.45, 1.0])
@pytest.mark.parametrize("contour", [0, 1, 3])
def test_every_pixel_follows_the_documented_formula(opacity, contour):
    noise = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.7
    masks = {1: disk(40, 40, 25), 2: disk(60, 45, 20), 900: disk(129, 89, 30), 7: noise, 8: ~noise}
    frame = picture()
    painted = overlay(frame, result_of(masks), opacity=opacity, contour=contour, labels=False)
    np.testing.assert_array_equal(painted.image, expected(frame.image, masks, opacity, contour))


def test_the_frame_is_left_alone_and_its_index_and_time_are_kept():
    frame = picture(index=7)
    before = frame.image.copy()
    painted = overlay(frame, result_of({1: disk(40, 40, 20)}), trace=Trace())
    np.testing.assert_array_equal(frame.image, before)
    assert not np.shares_memory(painted.image, frame.image)
    assert (painted.index, painted.time) == (7, Fraction(7 * 1001, 30000))
    assert (painted.image != before).any()


def test_read_only_and_strided_inputs_are_drawn_alike():
    frame = picture()
    mask = disk(50, 40, 20)
    plain = overlay(frame, result_of({1: mask}))
    image = np.asfortranarray(frame.image)
    image.flags.writeable = False
    strided = np.asfortranarray(mask)
    strided.flags.writeable = False
    other = overlay(Frame(image, 0, Fraction(0)), result_of({1: strided}))
    np.testing.assert_array_equal(plain.image, other.image)


def test_without_objects_the_picture_is_unchanged():
    frame = picture()
    np.testing.assert_array_equal(overlay(frame, result_of({})).image, frame.image)


def test_a_hidden_object_gets_no_paint_but_a_label_in_the_corner():
    frame = picture()
    result = FrameResult(0, Fraction(0), (HEIGHT, WIDTH), {3: prediction(np.zeros((HEIGHT, WIDTH), bool), False, 0)})
    np.testing.assert_array_equal(overlay(frame, result, labels=False).image, frame.image)
    changed = (overlay(frame, result).image != frame.image).any(axis=2)
    assert changed[-8:, :20].all()
    assert not changed[: HEIGHT // 2].any()


def test_hidden_labels_wrap_and_stay_inside():
    empty = np.zeros((HEIGHT, WIDTH), bool)
    result = FrameResult(0, Fraction(0), (HEIGHT, WIDTH), {i: prediction(empty, False, 0) for i in range(1, 7)})
    changed = (overlay(picture(), result).image != picture().image).any(axis=2)
    rows = np.flatnonzero(changed[:, 2])
    one = overlay(picture(), FrameResult(0, Fraction(0), (HEIGHT, WIDTH), {1: prediction(empty, False, 0)}))
    height = np.flatnonzero((one.image != picture().image).any(axis=2)[:, 2]).size
    assert rows.size >= 3 * height - 3  # at most two fit beside each other; equal pixels by chance


@pytest.mark.parametrize(("x", "y"), [(0, 0), (129, 0), (0, 89), (129, 89), (60, 40)])
def test_a_label_sits_inside_the_frame_at_its_object(x, y):
    frame, result = picture(), result_of({1: disk(x, y, 6)})
    bare = overlay(frame, result, labels=False).image
    ys, xs = np.nonzero((overlay(frame, result).image != bare).any(axis=2))
    assert ys.size > 100
    assert abs(xs.mean() - x) < 60
    assert abs(ys.mean() - y) < 30


def test_a_label_shows_the_score():
    frame, mask = picture(), disk(60, 60, 20)
    images = [
        overlay(frame, FrameResult(0, Fraction(0), (HEIGHT, WIDTH), {1: prediction(mask, score=score)})).image
        for score in (0.91, 0.92, 0.9149)
    ]
    assert (images[0] != images[1]).any()
    np.testing.assert_array_equal(images[0], images[2])


def test_colors_depend_on_the_id_alone_and_differ():
    assert [color_of(i) for i in range(1, 13)] == list(render.PALETTE)
    assert color_of(2**62) == color_of(2**62)
    assert all(isinstance(channel, int) for channel in color_of(-5))
    palette = np.array(render.PALETTE, dtype=float)
    distances = np.linalg.norm(palette[:, None] - palette, axis=2)[~np.eye(12, dtype=bool)]
    assert distances.min() > 60
    brightness = palette @ (0.299, 0.587, 0.114)
    assert brightness.min() > 90


def test_the_color_of_an_object_does_not_depend_on_the_others():
    mask = disk(30, 60, 15)
    alone = overlay(picture(), result_of({5: mask}), labels=False).image
    together = overlay(picture(), result_of({1: disk(100, 60, 15), 5: mask}), labels=False).image
    np.testing.assert_array_equal(alone[:, :60], together[:, :60])


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH - 1), (WIDTH, HEIGHT)])
def test_masks_of_another_size_are_refused(size):
    result = result_of({1: np.ones(size, bool)}, size=size)
    with pytest.raises(MaskletError, match=rf"frame 0 is 130x90 but its masks are {size[1]}x{size[0]}"):
        overlay(picture(), result)


def test_one_mask_of_another_size_is_refused():
    with pytest.raises(MaskletError, match="its masks are 5x4"):
        overlay(picture(), result_of({1: disk(9, 9, 3), 2: np.ones((4, 5), bool)}))


@pytest.mark.parametrize("options", [{"opacity": 1.1}, {"opacity": -0.1}, {"contour": -1}, {"contour": 65}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected opacity"):
        overlay(picture(), result_of({}), **options)


def test_trace_keeps_the_last_centroids_and_gaps():
    trace = Trace(length=4)
    for index in range(6):
        visible = index != 4
        mask = disk(20 + 10 * index, 40, 5) if visible else np.zeros((HEIGHT, WIDTH), bool)
        trace.add(FrameResult(index, Fraction(index), (HEIGHT, WIDTH), {1: prediction(mask, visible)}))
    assert trace.path(1) == [(40, 40), (50, 40), None, (70, 40)]
    assert trace.path(2) == []


def test_trace_replaces_a_frame_that_comes_again_and_forgets_what_is_gone():
    trace = Trace()
    trace.add(result_of({1: disk(20, 20, 5), 2: disk(60, 60, 5)}, index=3))
    trace.add(result_of({1: disk(30, 20, 5), 2: disk(60, 60, 5)}, index=3))  # refined
    assert trace.path(1) == [(30, 20)]
    trace.add(result_of({1: disk(40, 20, 5)}, index=4))
    assert trace.path(1) == [(30, 20), (40, 20)]
    assert trace.path(2) == []
    trace.add(result_of({1: disk(50, 20, 5)}, index=0))  # another clip
    assert trace.path(1) == [(50, 20)]


def test_trace_needs_two_frames():
    with pytest.raises(ValueError, match="at least 2"):
        Trace(1)


def test_overlay_draws_the_trace_where_the_object_was():
    trace = Trace()
    for index, x in enumerate((20, 60, 100)):
        frame, result = picture(index=index), result_of({1: disk(x, 45, 6)}, index)
        painted = overlay(frame, result, labels=False, trace=trace)
    line = painted.image[45, 25:90].astype(int)  # antialiased, so not quite the colour
    assert np.abs(line - color_of(1)).max() < 64
    assert np.abs(frame.image[45, 25:90].astype(int) - color_of(1)).max() > 200
    np.testing.assert_array_equal(painted.image[70:], frame.image[70:])


def test_several_threads_draw_the_same_picture():
    frame, result = picture(), result_of({1: disk(40, 40, 25), 2: disk(60, 45, 20)})
    wanted, drawn = overlay(frame, result).image, []
    threads = [Thread(target=lambda: drawn.extend(overlay(frame, result).image for _ in range(20))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 60
    assert all((image == wanted).all() for image in drawn)


def test_painter_compiles_where_nothing_can_be_cached(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError):
        numba.njit(cache=True)(render._paint.py_func)
    uncached = render._compiled(render._paint.py_func)
    frame, result = picture(), result_of({1: disk(40, 40, 25)})
    wanted = overlay(frame, result).image
    monkeypatch.setattr(render, "_paint", uncached)
    np.testing.assert_array_equal(overlay(frame, result).image, wanted)


def test_warm_up_leaves_nothing_to_compile():
    render.warm_up()
    before = len(render._paint.signatures)
    overlay(picture(), result_of({1: disk(40, 40, 25), 2: disk(60, 45, 20)}), trace=Trace())
    assert len(render._paint.signatures) == before == 1


@pytest.mark.parametrize(
    "annotator",
    [
        supervision.MaskAnnotator(),
        supervision.PolygonAnnotator(),
        supervision.BoxAnnotator(),
        supervision.HaloAnnotator(),
        supervision.TraceAnnotator(),
        supervision.LabelAnnotator(),
    ],
    ids=lambda annotator: type(annotator).__name__,
)
def test_supervision_annotators_draw_results(annotator):
    frame = picture()
    scene = frame.image.copy()
    for index in range(3):
        detections = result_of({1: disk(40 + 9 * index, 40, 15), 4: disk(100, 60, 15)}, index).detections()
        assert detections.tracker_id.tolist() == [1, 4]
        scene = annotator.annotate(scene, detections)
    assert (scene != frame.image).any()


def test_supervision_annotators_take_a_frame_without_visible_objects():
    frame = picture()
    scene = supervision.MaskAnnotator().annotate(frame.image.copy(), result_of({}).detections())
    np.testing.assert_array_equal(scene, frame.image)

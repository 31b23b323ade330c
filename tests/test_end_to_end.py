"""Real clips of every kind through the whole path: decode, track, draw, write, read back.

The fake components take what is bright for the object, so each clip's truth is known exactly.
"""

from fractions import Fraction

import numpy as np
import pytest

import sam2track as st
from sam2track.backends import fake
from sam2track.masks.metrics import iou
from sam2track.video import Reconnect
from tests.clips import damage_packets, write_clip, write_images
from tests.video.servers import Server

COUNT = 12


def truth(index, size=(64, 96)):
    """A square that moves right by 2 px a frame."""
    mask = np.zeros(size, bool)
    mask[20:44, 8 + 2 * index : 32 + 2 * index] = True
    return mask


def pictures(count=COUNT, first=0, size=(64, 96)):
    return [
        np.where(truth(index, size)[..., None], 255, 20).repeat(3, axis=2).astype(np.uint8)
        for index in range(first, first + count)
    ]


def turned(mask):
    return np.rot90(mask, k=1)


def ninety_fps(index):
    """Times of a variable rate: every third frame comes late."""
    return Fraction(index, 30) + Fraction(index // 3, 90)


CLIPS = {
    "rotated mp4": lambda folder: write_clip(folder / "r.mp4", pictures(), rotation=90),
    "variable rate mkv": lambda folder: write_clip(
        folder / "v.mkv", pictures(), times=[ninety_fps(i) for i in range(COUNT)]
    ),
    "10 bit mp4": lambda folder: write_clip(folder / "t.mp4", pictures(), Fraction(30000, 1001), pix_fmt="yuv420p10le"),
    "odd size mkv": lambda folder: write_clip(
        folder / "o.mkv", pictures(size=(63, 97)), codec="ffv1", pix_fmt="yuv420p"
    ),
    "images": lambda folder: write_images(folder / "images", pictures()),
}


@pytest.mark.parametrize("kind", CLIPS)
def test_a_clip_of_each_kind(tmp_path, kind):
    tracker = st.Tracker(fake.components())
    masklets, video = tmp_path / "m.jsonl", tmp_path / "o.mp4"
    with (
        st.open_source(CLIPS[kind](tmp_path)) as source,
        st.MaskletWriter(masklets, source=source, model="fake") as writer,
        st.VideoWriter(video, like=source) as out,
    ):
        shape = (source.height, source.width)
        height, width = shape
        prompts = {0: {3: st.Prompt(box=(0, 0, width, height))}}
        times = []
        for frame, result in st.track(source, tracker, prompts):
            writer.write(result)
            out.write(st.overlay(frame, result))
            times.append(frame.time)
    results = list(st.read_masklets(masklets))
    assert [result.index for result in results] == list(range(COUNT))
    for index, result in enumerate(results):
        expected = turned(truth(index)) if kind == "rotated mp4" else truth(index, shape)
        assert result.size == shape == expected.shape
        assert iou(result.objects[3].mask, expected) > 0.75
        assert result.objects[3].visible
    assert [result.time for result in results] == times
    with st.open_source(video) as overlay:
        drawn = list(overlay)
    assert len(drawn) == COUNT
    if kind == "variable rate mkv":
        assert times == pytest.approx([float(ninety_fps(i)) for i in range(COUNT)], abs=0.001)
        assert [float(frame.time) for frame in drawn] == pytest.approx([float(t) for t in times], abs=1e-4)
    if kind == "10 bit mp4":
        assert times == [Fraction(1001 * i, 30000) for i in range(COUNT)]
        assert [frame.time for frame in drawn] == times


def test_a_stream_that_is_cut_and_comes_back(tmp_path):
    parts = [write_clip(tmp_path / f"{n}.ts", pictures(COUNT, n * COUNT), 25).read_bytes() for n in range(2)]

    def serve(connection, number, _stop):
        connection.sendall(parts[min(number, 1)])

    tracker = st.Tracker(fake.components())
    tracked = []
    with (
        Server(serve) as server,
        st.open_source(f"tcp://127.0.0.1:{server.port}", reconnect=Reconnect(attempts=3, delay=0.05)) as source,
        st.track(source, tracker, {0: {1: st.Prompt(points=[(20, 30)])}}, policy="lossless") as run,
    ):
        for frame, result in run:
            tracked.append((frame, result))
            if len(tracked) == 2 * COUNT:
                break
        assert source.reconnects >= 1
    assert [frame.index for frame, _ in tracked] == list(range(2 * COUNT))
    for index, (_, result) in enumerate(tracked):
        assert iou(result.objects[1].mask, truth(index)) > 0.75


def test_a_damaged_clip_keeps_its_object(tmp_path):
    whole = write_clip(tmp_path / "w.mp4", pictures(30), options={"g": "1", "preset": "ultrafast", "crf": "12"})
    broken = damage_packets(whole, tmp_path / "b.mp4", [10, 11])
    tracker = st.Tracker(fake.components())
    with st.open_source(broken) as source:
        results = [result for _, result in st.track(source, tracker, {0: {1: st.Prompt(points=[(20, 30)])}})]
        assert source.damaged > 0
    assert len(results) + source.damaged == 30
    assert results[-1].index == 29
    assert iou(results[-1].objects[1].mask, truth(29)) > 0.75

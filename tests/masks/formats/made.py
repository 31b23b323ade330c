"""A small masklet file that has everything a format may lose."""

from collections import namedtuple
from fractions import Fraction

import numpy as np

import sam2track as st
from sam2track.masks.regions import bounding_box

Clip = namedtuple("Clip", "name width height rate")

SIZE = (30, 40)
RATE = Fraction(30000, 1001)
FRAMES = 10


def rectangle(x, y, width=10, height=8):
    mask = np.zeros(SIZE, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def seen(mask, score):
    shown = bool(mask.any())
    return st.Prediction(mask, score if shown else 0.0, shown, bounding_box(mask))


def frames(overlap=True):
    """Object 1 hides on frames 4 and 5; object 12 comes on frame 2 and overlaps it; frame 7 is missing."""
    for index in range(FRAMES):
        if index == 7:
            continue
        hidden = np.zeros(SIZE, bool)
        objects = {1: seen(hidden if index in (4, 5) else rectangle(index, 3), 0.9 - index / 100)}
        if index >= 2:
            objects[12] = seen(rectangle(index + (5 if overlap else 12), 9 if overlap else 15), 0.5)
        yield st.FrameResult(index, index / RATE, SIZE, objects)


def masklets(path, *, overlap=True):
    """The masklet file."""
    with st.MaskletWriter(path, Clip("dog.mp4", SIZE[1], SIZE[0], RATE), "nano") as file:
        for result in frames(overlap):
            file.write(result)
    return path

"""Render the sample clips: ``python samples/make.py`` writes NAME.mp4, NAME.masklets.jsonl and NAME.toml here.

Each clip is a scene in which every mask is known exactly: ``ball`` (rolls, turns, is hidden by a post, leaves
and comes back, while the camera follows), ``koi`` (three fish that bend, and cross although they look alike),
``goldfish`` (one of them, an easy clip) and ``coffee`` (a camera move over a photograph, and a card that slides
across it). Pictures come from scikit-image; see README.md for their authors.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import skimage.data

import sam2track as st

HERE = Path(__file__).parent
WIDTH, HEIGHT, COUNT = 640, 360, 100
RATE = Fraction(30000, 1001)
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)

Picture = np.ndarray  # float32 [H, W, 3] in 0..1, or [H, W] for one channel
Scene = Iterator[tuple[Picture, dict[int, Picture]]]  # a picture and how much of each pixel each object covers


def main(folder: Path = HERE) -> None:
    """Render all scenes into ``folder``."""
    for name, scene in SCENES.items():
        render(name, scene(), folder)
        print(folder / f"{name}.mp4")


def render(name: str, scene: Scene, folder: Path, count: int = COUNT) -> None:
    """Write the first ``count`` frames of a scene, their masks, and a box around each object of the first frame."""
    rng = np.random.default_rng(0)
    clip = folder / f"{name}.mp4"
    with (
        st.VideoWriter(clip, rate=RATE, width=WIDTH, height=HEIGHT, crf=25, preset="veryslow") as video,
        st.MaskletWriter(folder / f"{name}.masklets.jsonl", source=clip.name) as masklets,
    ):
        for index, (picture, shares) in zip(range(count), scene, strict=False):
            noisy = picture * 255 + rng.normal(0, 1.5, picture.shape)
            frame = st.Frame(noisy.clip(0, 255).astype(np.uint8), index, index / RATE)
            masks = {i: share > 0.5 for i, share in shares.items()}
            video.write(frame)
            masklets.write(st.FrameResult(index, frame.time, (HEIGHT, WIDTH), {i: truth(m) for i, m in masks.items()}))
            if index == 0:
                (folder / f"{name}.toml").write_text("\n".join(prompt(i, mask) for i, mask in masks.items()))


def truth(mask: np.ndarray) -> st.Prediction:
    """A mask as a prediction that is certain."""
    if not mask.any():
        return st.Prediction(mask, 0.0, False, None)
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return st.Prediction(mask, 1.0, True, (float(x), float(y), float(x + width), float(y + height)))


def prompt(object_id: int, mask: np.ndarray) -> str:
    """A box around ``mask``, as a table of a prompts file."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return f"[[prompts]]\nobject = {object_id}\nbox = [{x}, {y}, {x + width}, {y + height}]\n"


def ball() -> Scene:
    """A striped ball rolls over a lawn before a brick wall; object 1."""
    grass = tint(skimage.data.grass(), (0.10, 0.26, 0.05), (0.62, 0.86, 0.38))
    wall = tint(skimage.data.brick().T, (0.30, 0.13, 0.10), (0.95, 0.72, 0.60))
    post = tint(skimage.data.gravel(), (0.20, 0.20, 0.22), (0.80, 0.78, 0.74))
    for t in range(COUNT):
        seconds = t / 30
        x = 110 + 310 * seconds if seconds < 2.1 else 761 - 330 * (seconds - 2.1)  # turns back out of view
        hop = 70 * abs(math.sin(2.4 * seconds)) * math.exp(-0.35 * seconds)
        camera = 40 * math.sin(0.9 * seconds) + 1.5 * math.sin(11 * seconds)
        ground = 268.0
        radius = 46 + 5 * math.sin(0.8 * seconds)
        cx, cy = x - camera, ground - radius - hop

        depth = np.maximum((Y - 170) / 190, 0.02)  # 0 at the wall's foot, 1 at the lower edge
        lawn = sample(grass, (X - 320) / (0.55 + depth) + 320 + camera, 110 * np.log(depth + 0.3) * 2.2)
        picture = np.where((Y < 172)[..., None], sample(wall, X * 1.1 + camera, Y * 1.1), lawn)
        picture = picture * (1 - 0.5 * soft(8 - np.abs(Y - 172), 8))[..., None]
        shadow = np.hypot((X - cx - 12) / (radius * (1.1 + hop / 90)), (Y - ground + 3) / 11)
        picture = picture * (1 - 0.55 * soft(1 - shadow, 0.5))[..., None]
        surface, alpha = sphere(cx, cy, radius, roll=x / radius, tilt=0.5 + 0.3 * seconds)
        picture = mix(picture, surface, alpha)
        left = 395 - camera * 1.25  # the post stands nearer than the ball
        pillar = soft(31 - np.abs(X - left - 31), 1) * soft(330 - Y, 1)
        shade = 0.55 + 0.45 * np.cos((X - left - 22) / 34)
        picture = mix(picture, sample(post, X - left, Y) * shade[..., None], pillar)
        yield picture, {1: alpha * (1 - pillar)}


def sphere(cx: float, cy: float, radius: float, roll: float, tilt: float) -> tuple[Picture, Picture]:
    """A beach ball with six stripes, turned by ``roll`` about an axis that leans by ``tilt``, and its coverage."""
    u, v = (X - cx) / radius, (Y - cy) / radius
    w = np.sqrt(np.maximum(1 - u * u - v * v, 0))
    a, b = math.cos(roll) * u + math.sin(roll) * v, math.cos(roll) * v - math.sin(roll) * u
    b, c = math.cos(tilt) * b - math.sin(tilt) * w, math.sin(tilt) * b + math.cos(tilt) * w
    stripe = np.floor((np.arctan2(b, a) / (2 * math.pi) % 1) * 6).astype(int) % 6
    colors = np.array([[0.86, 0.12, 0.10], [0.96, 0.94, 0.88], [0.10, 0.30, 0.72]] * 2, np.float32)[stripe]
    colors = np.where((np.abs(c) > 0.93)[..., None], np.float32([0.98, 0.80, 0.12]), colors)
    light = np.clip(0.42 + 0.62 * (-0.45 * u - 0.65 * v + 0.6 * w), 0.2, 1.15)
    gloss = np.exp(-((u + 0.35) ** 2 + (v + 0.45) ** 2) / 0.02)
    return colors * light[..., None] + 0.5 * gloss[..., None], soft(radius * (1 - np.hypot(u, v)), 1)


def goldfish() -> Scene:
    """The golden one of the koi, alone; object 1. An easy clip."""
    for picture, shares in koi((3,)):
        yield picture, {1: shares[3]}


def koi(swimming: tuple[int, ...] = (3, 1, 2)) -> Scene:
    """Three koi over gravel under moving light; objects 1 and 2 look alike, object 3 is golden."""
    bed = tint(skimage.data.gravel(), (0.05, 0.16, 0.16), (0.42, 0.60, 0.52))
    marks = cv2.GaussianBlur(np.random.default_rng(4).normal(size=(256, 256)).astype(np.float32), (0, 0), 13)
    red_white = marks > 0.2 * marks.std()
    skins = {1: (red_white, (0.90, 0.30, 0.10)), 2: (red_white, (0.90, 0.30, 0.10)), 3: (None, (0.95, 0.70, 0.18))}
    for t in range(COUNT):
        seconds = t / 30
        light = sum(
            np.sin(X * a + Y * b + c * seconds)
            for a, b, c in ((0.05, 0.03, 2.1), (-0.03, 0.06, 1.7), (0.02, -0.07, 2.6))
        )
        drift = 6 * math.sin(0.7 * seconds)
        picture = sample(
            bed, X * 0.9 + 2 * np.sin(Y / 23 + 3 * seconds) + drift, Y * 0.9 + 2 * np.sin(X / 29 + 2 * seconds)
        )
        picture = picture * (0.9 + 0.07 * light)[..., None]
        poses = {
            3: (330 + 60 * math.cos(0.8 * seconds), 270 - 35 * seconds, -1.9 + 0.15 * math.sin(2 * seconds), 78),
            1: (110 + 118 * seconds, 120 + 32 * seconds + 12 * math.sin(1.7 * seconds), 0.28, 86),
            2: (520 - 112 * seconds, 250 - 45 * seconds, math.pi + 0.35, 86),
        }
        shares: dict[int, Picture] = {}
        for i in swimming:
            x, y, heading, length = poses[i]
            color, alpha = fish(x, y, heading, length, 7.5 * seconds + 2 * i, *skins[i])
            shadow = fish(x + 9, y + 14, heading, length, 7.5 * seconds + 2 * i, *skins[i])[1]
            picture = picture * (1 - 0.35 * cv2.GaussianBlur(shadow, (0, 0), 5))[..., None]
            picture = mix(picture, color * (0.95 + 0.04 * light)[..., None], alpha)
            shares = {j: share * (1 - alpha) for j, share in shares.items()} | {i: alpha}
        yield picture, dict(sorted(shares.items()))


def fish(
    x: float, y: float, heading: float, length: float, phase: float, marks: np.ndarray | None, color: tuple[float, ...]
) -> tuple[Picture, Picture]:
    """A koi seen from above, its middle at (x, y), bending as it swims; colours and coverage."""
    dx, dy = X - x, Y - y
    along = 0.5 - (dx * math.cos(heading) + dy * math.sin(heading)) / (2 * length)  # 0 nose, 1 end of the tail
    across = (dy * math.cos(heading) - dx * math.sin(heading)) / (2 * length)
    across = across - 0.07 * np.clip(along, 0, 1.2) ** 1.5 * np.sin(5 * along - phase)
    s = np.clip(along, 0, 1)
    body = 0.115 * np.sqrt(np.clip(s / 0.25, 0, 1)) * np.clip((0.9 - s) / 0.6, 0.1, 1) ** 0.8
    tail = np.where(s > 0.76, 0.42 * (s - 0.76) + 0.015, 0)
    edge = np.maximum(body, tail) - np.abs(across)
    fins = 1 - np.hypot((along - 0.36 - 0.5 * (np.abs(across) - 0.1)) / 0.07, (np.abs(across) - 0.13) / 0.07)
    inside = np.minimum(edge, np.minimum(along, 1 - along)) * 2 * length
    alpha = np.maximum(soft(inside, 1), soft(fins * 8, 1))
    skin = np.broadcast_to(np.float32(color), (*X.shape, 3))
    if marks is not None:
        row, column = (along * 250).astype(int) % 256, (across * 250 + 128).astype(int) % 256
        skin = np.where(marks[row, column][..., None], skin, np.float32([0.95, 0.93, 0.88]))
    scales = 1 + 0.06 * np.sin(along * 120) * np.sin(across * 160)
    round_back = 0.65 + 0.4 * np.clip(edge / 0.1, 0, 1)
    skin = skin * (scales * round_back)[..., None]
    eyes = np.hypot(along - 0.09, np.abs(across) - 0.055) < 0.014
    return np.where(eyes[..., None], np.float32([0.05, 0.05, 0.06]), skin), alpha


def coffee() -> Scene:
    """The camera moves over a photograph of a cup (object 1) while a picture card (object 2) slides across it."""
    photo = skimage.data.coffee().astype(np.float32) / 255
    card_photo = cv2.resize(skimage.data.chelsea()[:, 60:435], (150, 120), interpolation=cv2.INTER_AREA) / np.float32(
        255
    )
    card = cv2.copyMakeBorder(card_photo, 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=(0.96, 0.95, 0.92))
    cup = np.zeros(photo.shape[:2], np.uint8)
    cv2.ellipse(cup, (277, 221), (203, 167), 7, 0, 360, 255, -1, cv2.LINE_AA)  # saucer
    cv2.ellipse(cup, (290, 114), (118, 96), 3, 0, 360, 255, -1, cv2.LINE_AA)  # cup
    cv2.fillConvexPoly(
        cup, np.array([[398, 70], [408, 66], [422, 70], [424, 80], [412, 118], [398, 120]]), 255, cv2.LINE_AA
    )
    cup = cup.astype(np.float32) / 255
    for t in range(COUNT):
        seconds = t / 30
        zoom = 1.08 + 0.07 * math.sin(0.9 * seconds)
        turn = 6 * math.sin(0.8 * seconds) + 0.4 * math.sin(9 * seconds)
        camera = cv2.getRotationMatrix2D((290, 200), turn, zoom)
        camera[:, 2] += (
            24 * math.sin(1.1 * seconds) + 1.5 * math.sin(13 * seconds) + 18,
            -24 + 26 * math.sin(1.4 * seconds),
        )
        slide = cv2.getRotationMatrix2D((83, 68), 14 - 26 * seconds, 1.0)
        slide[:, 2] += (455 - 205 * seconds, 190 - 40 * math.sin(0.9 * seconds))
        picture, share = warp(photo, camera, cv2.BORDER_REFLECT), warp(cup, camera)
        alpha = warp(np.ones(card.shape[:2], np.float32), slide)
        shadow = cv2.GaussianBlur(np.roll(alpha, (7, 6), (0, 1)), (0, 0), 6)
        picture = mix(picture * (1 - 0.4 * shadow)[..., None], warp(card, slide), alpha)
        yield picture * (1 + 0.06 * math.sin(1.6 * seconds)), {1: share * (1 - alpha), 2: alpha}


def warp(picture: Picture, matrix: np.ndarray, border: int = cv2.BORDER_CONSTANT) -> Picture:
    """``picture`` as seen through a 2 x 3 matrix."""
    return cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=border)


def sample(texture: Picture, x: Picture, y: Picture) -> Picture:
    """``texture``, repeated in mirror image, at the pixels (x, y)."""
    x, y = np.broadcast_arrays(np.float32(x), np.float32(y))
    return cv2.remap(texture, x.copy(), y.copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def tint(grey: np.ndarray, dark: tuple[float, ...], bright: tuple[float, ...]) -> Picture:
    """A grey picture in colours from ``dark`` to ``bright``."""
    share = (np.ascontiguousarray(grey).astype(np.float32) / 255)[..., None]
    return np.float32(dark) * (1 - share) + np.float32(bright) * share


def mix(below: Picture, above: Picture, alpha: Picture) -> Picture:
    """``above`` over ``below``."""
    return below * (1 - alpha[..., None]) + above * alpha[..., None]


def soft(inside: Picture, width: float) -> Picture:
    """Coverage from a signed distance: 0 outside, 1 inside, a ramp of ``width`` between."""
    return np.clip(inside / width + 0.5, 0, 1).astype(np.float32)


SCENES: dict[str, Callable[[], Scene]] = {"goldfish": goldfish, "ball": ball, "koi": koi, "coffee": coffee}

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)

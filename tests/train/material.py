"""What the tests of training learn from: a few plain shapes, and a small dataset of annotated clips."""

from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image

from sam2track.train.assets import CELL, PHOTO, Assets
from sam2track.train.recipe import RECIPES
from sam2track.train.style import Style

STYLE = Style(size=64, frames=3, layers=2, textured=0.0)
SMOKE = RECIPES["smoke"]


def plain_assets():
    """Two discs, a turning square of two cells, and two plain photos: red and green on blue."""
    y, x = np.mgrid[0:CELL, 0:CELL] - CELL / 2 + 0.5
    disc = np.zeros((4, CELL, CELL), np.uint8)
    disc[0] = disc[3] = (np.hypot(x, y) < 0.42 * CELL) * 255
    square = np.zeros((4, CELL, CELL), np.uint8)
    square[1] = square[3] = ((abs(x) < 0.38 * CELL) & (abs(y) < 0.38 * CELL)) * 255
    photo = np.zeros((2, 3, *PHOTO), np.uint8)
    photo[:, 2] = 200
    sprites = torch.from_numpy(np.stack([disc, disc, square, square]))
    return Assets(sprites, stills=2, cells=2, photos=torch.from_numpy(photo), scenes=2)


def davis_folder(root, clips=2, frames=6, size=(96, 64)):
    """A red square (object 1) and a green one (3) that walk over grey, as a DAVIS folder; the green one leaves."""
    width, height = size
    for clip in range(clips):
        pictures, truth = (root / part / "480p" / f"clip{clip}" for part in ("JPEGImages", "Annotations"))
        for folder in (pictures, truth):
            folder.mkdir(parents=True)
        for t in range(frames):
            picture = np.full((height, width, 3), 90, np.uint8)
            labels = np.zeros((height, width), np.uint8)
            for label, (left, top) in {1: (8 + 4 * t, 20 + clip), 3: (60 + 12 * t, 10)}.items():
                picture[top : top + 30, left : left + 26] = (220, 30, 30) if label == 1 else (30, 220, 30)
                labels[top : top + 30, left : left + 26] = label
            Image.fromarray(picture).save(pictures / f"{t:05d}.jpg", quality=95)
            image = Image.fromarray(labels).convert("P")
            image.putdata(labels.flatten().tolist())
            image.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 128, 0])
            image.save(truth / f"{t:05d}.png")
    return root


def one_stage(number, **changes):
    """The smoke recipe's stage ``number`` by itself."""
    return replace(SMOKE, stages=(replace(SMOKE.stages[number], **changes),))


def cpu():
    """One process on the CPU."""
    return Fabric(accelerator="cpu", devices=1)

"""Small datasets in every layout, of bright squares on dark ground: what the fake backend tracks."""

import json

import numpy as np

from sam2track.masks import rle
from sam2track.masks.labels import write_labels
from tests.clips import write_clip, write_images

SIZE = (64, 96)
FRAMES = 9
GONE = (5,)  # frames on which the square is hidden


def square(index, left=10):
    """The true mask on a frame."""
    mask = np.zeros(SIZE, bool)
    if index not in GONE:
        mask[20:44, left + 3 * index : left + 3 * index + 24] = True
    return mask


def pictures(count=FRAMES):
    images = []
    for index in range(count):
        image = np.full((*SIZE, 3), 20, np.uint8)
        image[square(index)] = 250
        images.append(image)
    return images


def late(index):
    """A second object, which the fake backend cannot tell from the first: there from frame 4 on."""
    mask = np.zeros(SIZE, bool)
    mask[2:12, 60:90] = index >= 4
    return mask


def davis(root, names=("one", "two"), resolution="480p"):
    """Pictures and annotations on every frame; a list of the split."""
    for name in names:
        write_images(root / "JPEGImages" / resolution / name, pictures(), "{:05d}.jpg")
        _labels(root / "Annotations" / resolution / name, range(FRAMES), lambda i: square(i).astype(np.uint8))
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("two\n")
    (root / "ImageSets" / "2017" / "train.txt").write_text("\n".join(n for n in names if n != "two"))
    return root


def ytvos(root):
    """A split as a folder; every other frame annotated; an object that appears later."""
    home = root / "valid"
    write_images(home / "JPEGImages" / "clip", pictures(), "{:05d}.jpg")
    both = {i: square(i) * np.uint8(3) + late(i) * np.uint8(7) for i in range(FRAMES)}
    _labels(home / "Annotations" / "clip", range(0, FRAMES, 2), lambda i: both[i])
    return root


def sav_folders(root):
    """The layout of SA-V val: a folder of masks for each object, which overlap; every fourth frame."""
    write_images(root / "JPEGImages_24fps" / "sav_000001", pictures(13), "{:05d}.jpg")
    for number, mask in {0: square, 1: overlapping}.items():
        folder = root / "Annotations_6fps" / "sav_000001" / f"{number:03d}"
        _labels(folder, range(0, 13, 4), lambda i, mask=mask: mask(i) * np.uint8(255))
    (root / "sav_val.txt").write_text("sav_000001\n")
    return root


def sav_json(root):
    """The layout of SA-V train: a video beside its JSON."""
    root.mkdir(exist_ok=True)
    write_clip(root / "sav_000002.mp4", pictures(13), 24)
    masklet = [[rle.encode(square(i)), rle.encode(overlapping(i))] for i in range(0, 13, 4)]
    content = {"video_id": "sav_000002", "video_duration": 13 / 24, "video_frame_count": 13.0, "video_height": 64.0,
               "video_width": 96.0, "masklet": masklet, "masklet_id": [4, 9], "masklet_num": 2}  # fmt: skip
    (root / "sav_000002_manual.json").write_text(json.dumps(content))
    return root


def overlapping(index):
    """The left half of the square."""
    mask = square(index)
    mask[:, 22 + 3 * index :] = False
    return mask


def _labels(folder, indices, labels):
    folder.mkdir(parents=True)
    for index in indices:
        write_labels(folder / f"{index:05d}.png", labels(index))

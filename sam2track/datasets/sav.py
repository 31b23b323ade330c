"""SA-V: ``sav_000001.mp4`` beside ``sav_000001_manual.json`` (train), or folders of pictures and of masks (val, test).

    sav_val.txt
    JPEGImages_24fps/<video>/00000.jpg
    Annotations_6fps/<video>/<object>/00000.png     every fourth frame; objects may overlap

Ids of objects are those of the JSON, and the numbers of the folders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sam2track.data import Mask
from sam2track.datasets.folders import listing, matched, read_names
from sam2track.datasets.predictions import read_objects
from sam2track.errors import ConfigError, SourceError
from sam2track.masks.formats.sav import SavFile, read_file
from sam2track.video.images import numbered_images

PICTURES, TRUTH = "JPEGImages_24fps", "Annotations_6fps"
MANUAL = "_manual.json"


@dataclass(frozen=True)
class ManualClip:
    """A video file and its SA-V JSON; an ``AnnotatedClip``.

    Args:
        video: the video file.
        truth: the JSON.
    """

    video: Path
    truth: Path
    overlapping: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """The name of the video without its extension."""
        return self.video.stem

    @cached_property
    def _content(self) -> SavFile:
        return read_file(self.truth)

    @property
    def frame_count(self) -> int:
        """As the JSON states it."""
        return int(self._content.video_frame_count)

    @property
    def annotated(self) -> tuple[int, ...]:
        """Every fourth frame."""
        return self._content.annotated

    def frame_name(self, index: int) -> str:
        """The index, as the folders of val and test have it."""
        return f"{index:05d}"

    def masks(self, index: int) -> dict[int, Mask]:
        """Object id -> mask, empty where the object is not seen."""
        return self._content.masks(index)


@dataclass(frozen=True)
class ObjectFoldersClip:
    """A folder of pictures, and one that holds a folder of masks for each object; an ``AnnotatedClip``.

    Args:
        name: of the video.
        video: folder of the pictures.
        truth: folder of the objects.
    """

    name: str
    video: Path
    truth: Path
    overlapping: bool = field(default=True, init=False)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(path.stem for path in numbered_images(self.video))

    @cached_property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the frames on which an object has a mask file.

        Raises:
            SourceError: there is no object, or a mask has no picture.
        """
        objects = [path for path in listing(self.truth) if path.is_dir() and path.name.isdecimal()]
        if not objects:
            raise SourceError(f"{self.truth} holds no numbered folder; expected one for each object: 000, 001, ...")
        return tuple(sorted({index for folder in objects for index in matched(folder, self._names, self.video)}))

    @property
    def frame_count(self) -> int:
        """How many pictures there are."""
        return len(self._names)

    def frame_name(self, index: int) -> str:
        """The name of a picture without its extension."""
        return self._names[index]

    def masks(self, index: int) -> dict[int, Mask]:
        """Object id -> mask, of the objects that have a file on that frame."""
        return read_objects(self.truth, f"{self._names[index]}.png")


def is_sav(root: Path) -> bool:
    """Whether ``root`` looks like SA-V."""
    return (root / PICTURES).is_dir() or any(root.glob(f"*{MANUAL}"))


def sav_clips(root: Path, split: str | None = None) -> list[ManualClip | ObjectFoldersClip]:
    """The videos of an SA-V folder, by name; ``split`` is the list ``sav_<split>.txt``, which val and test have.

    Raises:
        ConfigError: there is no such list.
        SourceError: the folder is of another layout, or a video is missing.
    """
    if (root / PICTURES).is_dir():
        return list(_folder_clips(root, split))
    if split is not None:
        raise ConfigError(f"split {split!r} is not in {root}: SA-V JSON have none; leave --split out")
    jsons = sorted(root.glob(f"*{MANUAL}"))
    clips = [ManualClip(path.with_name(path.name.removesuffix(MANUAL) + ".mp4"), path) for path in jsons]
    missing = [clip for clip in clips if not clip.video.is_file()]
    if missing or not clips:
        what = missing[0].video.name if missing else f"*{MANUAL}"
        raise SourceError(f"{root} has no {what}; expected sav_000001.mp4 beside sav_000001{MANUAL}")
    return list(clips)


def _folder_clips(root: Path, split: str | None) -> list[ObjectFoldersClip]:
    lists = {path.stem.removeprefix("sav_"): path for path in sorted(root.glob("sav_*.txt"))}
    if split is not None and split not in lists:
        raise ConfigError(f"split {split!r} is not in {root}; it has: {', '.join(lists) or 'no splits'}")
    chosen = split or (next(iter(lists)) if len(lists) == 1 else None)
    names = [path.name for path in listing(root / TRUTH)] if chosen is None else read_names(lists[chosen])
    clips = [ObjectFoldersClip(name, root / PICTURES / name, root / TRUTH / name) for name in sorted(names)]
    missing = [clip.name for clip in clips if not (clip.video.is_dir() and clip.truth.is_dir())]
    if missing:
        raise SourceError(f"{root} has no pictures or no masks of {missing[0]!r}; expected both folders")
    return clips

"""Label-map folders: DAVIS 2016 and 2017, and the YouTube-VOS layout, which MOSE and LVOS share.

JPEGImages[/480p]/<sequence>/00000.jpg      DAVIS names the resolution, YouTube-VOS does not
Annotations[/480p]/<sequence>/00000.png     object ids; YouTube-VOS: of some frames only
ImageSets[/2017]/val.txt                    DAVIS: the names of a split
valid/JPEGImages, valid/Annotations         YouTube-VOS: a split is a folder

Names that come from a list in the dataset are taken for folders only if they are plain ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sam2track.data import Mask
from sam2track.errors import ConfigError, SourceError
from sam2track.masks.labels import read_labels, split
from sam2track.video.images import numbered_images

MAX_LIST = 2**20  # bytes of a list of sequences
_RESOLUTION = re.compile(r"\d{3,4}p|Full-Resolution")


@dataclass(frozen=True)
class FolderClip:
    """A folder of pictures and one of label maps that bear the same names; an ``AnnotatedClip``.

    Args:
        name: of the sequence.
        video: folder of the pictures.
        truth: folder of the label maps.
    """

    name: str
    video: Path
    truth: Path
    overlapping: bool = field(default=False, init=False)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(path.stem for path in numbered_images(self.video))

    @cached_property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the frames that have a label map.

        Raises:
            SourceError: a folder cannot be read, there is no label map, or one has no picture.
        """
        return matched(self.truth, self._names, self.video)

    @property
    def frame_count(self) -> int:
        """How many pictures there are."""
        return len(self._names)

    def frame_name(self, index: int) -> str:
        """The name of a picture without its extension."""
        return self._names[index]

    def masks(self, index: int) -> dict[int, Mask]:
        """Object id -> mask, of the objects on that label map."""
        return split(read_labels(self.truth / f"{self._names[index]}.png"))


def matched(truth: Path, names: Iterable[str], video: Path) -> tuple[int, ...]:
    """The indices in ``names`` of the PNG in ``truth``, ascending."""
    place = {name: index for index, name in enumerate(names)}
    found = sorted(path.stem for path in listing(truth) if path.suffix.lower() == ".png" and path.name[0] != ".")
    strangers = [name for name in found if name not in place]
    if strangers:
        raise SourceError(f"{truth} has {strangers[0]}.png, but {video} no picture of that name; check the dataset")
    if not found:
        raise SourceError(f"{truth} holds no PNG; expected masks named after the pictures in {video}")
    return tuple(sorted(place[name] for name in found))


def folder_clips(root: Path, split_name: str | None = None, *, whole: bool = False) -> list[FolderClip]:
    """The sequences of a DAVIS or YouTube-VOS folder, by name.

    Args:
        root: the folder that holds ``JPEGImages`` and ``Annotations``, or one folder of those for each split.
        split_name: ``val``, ``2016/val`` or a folder such as ``valid``; None is the validation split if the
            dataset has one, else every sequence.
        whole: without a name, take every sequence even if a list names a validation split.

    Raises:
        ConfigError: there is no such split.
        SourceError: the folder is of another layout, or a sequence that its split names is missing.
    """
    home, names = (root, None) if whole and not split_name and is_home(root) else _find_split(root, split_name)
    pictures, truth = _resolution(home / "JPEGImages"), _resolution(home / "Annotations")
    if names is None:
        names = [path.name for path in listing(truth) if path.is_dir() and (pictures / path.name).is_dir()]
    missing = [name for name in names if not ((pictures / name).is_dir() and (truth / name).is_dir())]
    if missing:
        raise SourceError(f"{root} has no pictures or no masks of sequence {missing[0]!r}; expected both folders")
    if not names:
        raise SourceError(f"{truth} has no folder with one of its name in {pictures}; expected one a sequence")
    return [FolderClip(name, pictures / name, truth / name) for name in sorted(names)]


def is_home(folder: Path) -> bool:
    """Whether ``folder`` holds pictures and label maps."""
    return (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir()


def listing(folder: Path) -> list[Path]:
    """What ``folder`` holds, by name."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise SourceError(f"folder {folder} cannot be read ({error.strerror}); check the dataset") from error


def read_names(path: Path) -> list[str]:
    """The sequences that a list names, one a line: a name, or the path of one of its pictures as in DAVIS 2016."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_LIST + 1)
    except OSError as error:
        raise SourceError(f"list {path} cannot be read ({error.strerror}); check the dataset") from error
    if len(text) > MAX_LIST:
        raise SourceError(f"list {path} is larger than {MAX_LIST} bytes; expected one sequence a line")
    firsts = [line.split()[0] for line in text.decode(errors="replace").splitlines() if line.strip()]
    names = list(dict.fromkeys(first.split("/")[-2] if "/" in first else first for first in firsts))
    for name in names:
        if not re.fullmatch(r"[\w-][\w.\- ]{0,199}", name):
            raise SourceError(f"list {path} names the sequence {name[:60]!r}; expected names of folders")
    return names


def _find_split(root: Path, split_name: str | None) -> tuple[Path, list[str] | None]:
    """The folder that holds a split, and its sequences if a list says which."""
    lists = {path.relative_to(root / "ImageSets").with_suffix("").as_posix(): path
             for path in sorted((root / "ImageSets").rglob("*.txt"))}  # fmt: skip
    folders = [path.name for path in listing(root) if path.is_dir() and is_home(path)]
    if split_name is None:
        wanted = [name for name in ("val", "2017/val", "480p/val", "2016/val") if name in lists]
        split_name = next(iter([*wanted, *(name for name in ("valid", "val") if name in folders)]), None)
        if split_name is None and is_home(root):
            return root, None
    for name in (split_name, f"2017/{split_name}", f"480p/{split_name}", f"2016/{split_name}"):
        if name in lists and is_home(root):
            return root, read_names(lists[name])
    if split_name in folders:
        return root / split_name, None
    known = [*lists, *folders]
    if split_name is not None and (known or is_home(root)):
        raise ConfigError(f"split {split_name!r} is not in {root}; it has: {', '.join(known) or 'no splits'}")
    raise SourceError(f"{root} has no JPEGImages and Annotations; expected a DAVIS or YouTube-VOS folder")


def _resolution(folder: Path) -> Path:
    """The folder of sequences: below a resolution in DAVIS, preferring 480p, on which it is scored."""
    resolutions = [path.name for path in listing(folder) if path.is_dir() and _RESOLUTION.fullmatch(path.name)]
    return folder / ("480p" if "480p" in resolutions else resolutions[0]) if resolutions else folder

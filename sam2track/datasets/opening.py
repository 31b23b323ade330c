"""Opens a dataset by its layout: the one door to every kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam2track.datasets.annotated import AnnotatedClip
from sam2track.datasets.folders import folder_clips
from sam2track.datasets.sav import is_sav, sav_clips
from sam2track.errors import ConfigError, SourceError, nearest

LAYOUTS = ("auto", "davis", "ytvos", "sav")


def open_dataset(
    root: str | Path, *, layout: str = "auto", split: str | None = None, sequences: Sequence[str] | None = None
) -> list[AnnotatedClip]:
    """The annotated clips of a dataset, by name; their pictures and masks are read when asked for.

    Args:
        root: its folder.
        layout: ``davis``, ``ytvos`` (also MOSE and LVOS), ``sav`` or ``auto``.
        split: such as ``train`` or ``val``; None is the validation split if there is one, else everything.
        sequences: names of the clips to take, of any split unless one is given; None takes all.

    Raises:
        ConfigError: an unknown layout, split or sequence.
        SourceError: the folder cannot be read, or is of no known layout.
    """
    root = Path(root)
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is unknown{nearest(layout, LAYOUTS)}")
    if not root.is_dir():
        raise SourceError(f"{root} is not a folder; give the folder of a dataset")
    sav = layout == "sav" or (layout == "auto" and is_sav(root))
    whole = sequences is not None
    clips: list[AnnotatedClip] = list(sav_clips(root, split) if sav else folder_clips(root, split, whole=whole))
    if sequences is None:
        return clips
    by_name = {clip.name: clip for clip in clips}
    unknown = [name for name in sequences if name not in by_name]
    if unknown:
        raise ConfigError(f"sequence {unknown[0]!r} is not in {root}{nearest(unknown[0], by_name)}")
    return [by_name[name] for name in dict.fromkeys(sequences)]

"""Masklets from one format to another; which is meant follows from names and content unless it is said."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from sam2track.errors import ConfigError, MaskletError, SinkError, nearest
from sam2track.masks.formats.coco import read_coco, write_coco, write_cvat
from sam2track.masks.formats.davis import read_davis, write_davis
from sam2track.masks.formats.mot import read_mot, read_mots, write_mot, write_mots
from sam2track.masks.formats.sav import read_sav, write_sav
from sam2track.masks.formats.tracks import Masklets
from sam2track.masks.formats.ytvis import read_ytvis, write_ytvis
from sam2track.masks.masklets import MaskletReader, MaskletWriter


class _Clip(NamedTuple):
    """What a masklet file records of its source."""

    name: str
    width: int
    height: int
    rate: Fraction | None


def write_masklets(path: Path, masklets: Masklets) -> list[str]:
    """Write our own format, which holds everything."""
    header = masklets.header
    clip = _Clip(header.source or "", header.width, header.height, header.rate)
    file = MaskletWriter(path, clip, header.model)
    try:
        for result in masklets:
            file.write(result)
    except BaseException:  # by Ctrl-C too: half of a conversion is of no use
        file.discard()
        raise
    file.close()
    return []


class Format(NamedTuple):
    """How a format is read and written; ``write`` returns a line for each thing that it cannot hold."""

    read: Callable[[Path], Masklets]
    write: Callable[[Path, Masklets], list[str]]


FORMATS = {
    "masklets": Format(MaskletReader, write_masklets),
    "sav": Format(read_sav, write_sav),
    "coco": Format(read_coco, write_coco),
    "cvat": Format(read_coco, write_cvat),
    "ytvis": Format(read_ytvis, write_ytvis),
    "davis": Format(read_davis, write_davis),
    "mot": Format(read_mot, write_mot),
    "mots": Format(read_mots, write_mots),
}
_PEEK = 2**16  # bytes at either end of a file that tell its format
_SIGNS = {  # the list of videos or images may lie between the ends, but a first annotation begins early
    "sav": (b'"masklet"',),
    "ytvis": (b'"videos"', b'"segmentations"'),
    "coco": (b'"images"', b'"image_id"'),
}


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    source_format: str | None = None,
    size: tuple[int, int] | None = None,
) -> list[str]:
    """Write the masklets of ``source`` to ``target`` in another format.

    Args:
        source: a masklet file, SA-V, COCO or YouTube-VIS JSON, MOT or MOTS text, or a folder of palette PNG.
        target: the file or, for ``davis``, the folder to make; a file that is there is replaced.
        to: ``masklets``, ``sav``, ``coco``, ``cvat``, ``ytvis``, ``davis``, ``mot`` or ``mots``; None goes by the name
            of ``target``.
        source_format: the same of ``source``; None goes by its name and content.
        size: (height, width) of the picture, for MOT, which does not say.

    Returns:
        A line for each thing that the new format cannot hold.

    Raises:
        ConfigError: a format that is unknown, or that the name does not tell.
        MaskletError: ``source`` cannot be read.
        SinkError: ``target`` cannot be written, or an object id has no place in it.
    """
    source, target = Path(source), Path(target)
    came_as = _known(source_format) if source_format else format_of_content(source)
    becomes = _known(to) if to else format_of_name(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise SinkError(f"{target} is the source too; give the output another name")
    lost = []
    if came_as == "mot":
        masklets: Masklets = read_mot(source, size)
        lost.append("MOT has boxes only: the masks are filled boxes")
    else:
        masklets = FORMATS[came_as].read(source)
    try:
        return lost + FORMATS[becomes].write(target, masklets)
    except ValueError as error:
        raise SinkError(f"{target} cannot be written: {error}") from error


def format_of_name(path: Path) -> str:
    """The format that the name of a file to be written stands for.

    Raises:
        ConfigError: none, or several do.
    """
    name = path.name.lower()
    if name.endswith(".jsonl"):
        return "masklets"
    if name.endswith(".json"):
        return next((kind for kind in ("cvat", "ytvis", "sav") if kind in name), "sav" if _is_sav(name) else "coco")
    if name.endswith(".txt"):
        return "mots" if "mots" in name else "mot"
    if path.suffix == "":
        return "davis"
    raise ConfigError(f"{path} does not tell its format; say it: --to {', '.join(FORMATS)}")


def format_of_content(path: Path) -> str:
    """The format of a file that is there.

    Raises:
        MaskletError: it cannot be read.
        ConfigError: it is of none that is known.
    """
    if path.is_dir():
        return "davis"
    try:
        with path.open("rb") as file:
            start = file.read(_PEEK)
            file.seek(max(0, path.stat().st_size - _PEEK))
            text = start + file.read(_PEEK)
    except OSError as error:
        raise MaskletError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if b"sam2track-masklets" in start.split(b"\n")[0]:
        return "masklets"
    if start.lstrip().startswith(b"{"):
        found = [kind for kind, signs in _SIGNS.items() if any(sign in text for sign in signs)]
        if found:
            return found[0]
    elif path.suffix == ".txt":
        return "mot" if b"," in start.split(b"\n")[0] else "mots"
    raise ConfigError(f"{path} is of no known format; say which: --from {', '.join(FORMATS)}")


def _is_sav(name: str) -> bool:
    return name.endswith(("_manual.json", "_auto.json"))


def _known(name: str) -> str:
    if name not in FORMATS:
        raise ConfigError(f"format {name!r} is unknown{nearest(name, FORMATS)}")
    return name

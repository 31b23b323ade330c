"""``sam2track convert``: masklets from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2track.cli import options as o
from sam2track.cli import report


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Masklets in any of the formats.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File or, for davis, folder to make.")],
    *,
    to: Annotated[
        str | None, typer.Option(help="masklets, sav, coco, cvat, ytvis, davis, mot, mots. Default: by OUT's name.")
    ] = None,
    source_format: Annotated[
        str | None, typer.Option("--from", help="The same of IN. Default: by its name and content.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Of the picture, for MOT, which does not say.")
    ] = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Convert masklets to and from the formats of SA-V, COCO, CVAT, YouTube-VIS, DAVIS, MOT and MOTS.

    By their names: clip.jsonl is ours, clip_manual.json SA-V, clip.json COCO, clip_cvat.json and clip_ytvis.json
    what they say, clip.txt MOT, clip_mots.txt MOTS, and a name without a dot a DAVIS folder of palette PNG.
    What the new format cannot hold is said.
    """
    import sam2track as st
    from sam2track.cli.bench import read_size

    if target.is_dir():
        raise o.UsageError(f"{target} is a folder that exists; give another name")
    if target.exists() and not force:
        raise o.UsageError(f"{target} exists; give another name, or --force to replace it")
    shape = None if size is None else read_size(size)
    for line in st.convert(source, target, to=to, source_format=source_format, size=shape):
        if not quiet:
            report.note(line)

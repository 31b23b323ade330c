"""``sam2track export``: the five components of a model as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.options import UsageError


def export(  # noqa: PLR0913, PLR0917, a flag each
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to make.")],
    model: o.Model = None,
    config: o.ConfigFile = None,
    weights: o.Weights = None,
    image_size: o.ImageSize = None,
    sets: o.Sets = None,
    slots: Annotated[
        str | None,
        typer.Option(metavar="N,N,..", help="Memory slots, one graph each. Default: 1,3,7 and what the config needs."),
    ] = None,
    pointers: Annotated[
        int | None, typer.Option(metavar="K", help="Object pointers they take. Default: what the config needs.")
    ] = None,
    points: Annotated[int, typer.Option(metavar="P", help="Points a prompt may have; a box counts as 2.")] = 8,
    opset: Annotated[int, typer.Option(metavar="N", help="ONNX operator set, 18 to 22.")] = 18,
    force: o.Force = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Export the five components of a model to ONNX, and check each against torch.

    Give the folder as the setting `exported`, and pin components to onnx or qnn.
    """
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=None, pins=None, sets=sets)
    from sam2track.backends.export import export as export_model
    from sam2track.backends.manifest import Room

    room = Room.of(settings.memory, _numbers(slots), pointers, points)
    tell = (lambda line: None) if quiet else report.note
    exported = export_model(settings, output, room, opset=opset, force=force, tell=tell)
    manifest = exported.manifest
    if as_json:
        report.say_json({"folder": str(output), **manifest.model_dump(mode="json", exclude_none=True)})
    elif not quiet:
        size = sum(file.bytes for graph in manifest.graphs for file in graph.files)
        report.say(f"{output}: {manifest.model} at {manifest.sizes.image_size} px, {len(manifest.graphs)} graphs, "
                   f"{size / 1e6:.0f} MB; run it with --set exported={output} --pin default=onnx:cpu")  # fmt: skip


def _numbers(text: str | None) -> tuple[int, ...]:
    """``1,3,7`` as numbers."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--slots {text!r} is not a list of numbers; write it as --slots 1,3,7") from None

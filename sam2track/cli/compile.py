"""``sam2track compile``: exported graphs made ready for named Snapdragon chips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2track.cli import options as o
from sam2track.cli import report

if TYPE_CHECKING:
    from sam2track.backends.compiled import Compiled


def compile_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder made by `sam2track export`.")],
    soc: Annotated[str, typer.Option("--soc", metavar="CHIP[,CHIP..]", help="Chips, such as x-elite,8-gen-3.")],
    precision: Annotated[
        str, typer.Option(metavar="fp16|w8a16|w8a8", help="fp16, or that of graphs made by `sam2track quantize`.")
    ] = "fp16",
    dlc: Annotated[
        bool, typer.Option("--dlc", help="Also write each graph as a DLC for Qualcomm's own tools.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Compile again what is there.")] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Compile exported graphs for the NPU of Snapdragon chips, on an x86-64 machine without one.

    On the chip, a component pinned to qnn:npu then loads in a second what would take it minutes to compile; set
    qnn.soc to the chip there.
    """
    from sam2track import chips
    from sam2track.backends import compiled
    from sam2track.backends.manifest import Exported
    from sam2track.errors import nearest
    from sam2track.pins import PRECISIONS

    valid = [each for each in PRECISIONS["qnn"] if each != "auto"]
    if precision not in valid:
        raise o.UsageError(f"--precision {precision!r} is unknown{nearest(precision, valid)}")
    wanted = list(dict.fromkeys(chips.find(word) for word in soc.split(",")))
    quiet = quiet or as_json

    def tell(one: Compiled, done: int, total: int) -> None:
        if not quiet:
            took = f"{one.seconds:.1f} s" if one.seconds else "there already"
            report.note(f"{done}/{total} {one.path.name}: {_megabytes([one]):.1f} MB, {took}")

    exported = Exported.read(folder)
    made = compiled.compile_graphs(exported, wanted, precision, force=force, tell=tell)
    dumped = compiled.dump_dlc(exported, wanted[0], precision, tell=tell) if dlc else []
    if as_json:
        report.say_json({"folder": str(folder), "graphs": [_facts(one) for one in made + dumped]})
    elif not quiet:
        names, graphs = ", ".join(chip.name for chip in wanted), "1 graph" if len(made) == 1 else f"{len(made)} graphs"
        report.say(
            f"{folder}: {graphs} for {names}, {_megabytes(made):.0f} MB; on the device run them with "
            f"--set exported={folder} --set qnn.soc={wanted[0].name} --pin default=qnn:npu:{precision}"
        )


def _megabytes(made: list[Compiled]) -> float:
    return sum(one.path.stat().st_size for one in made) / 1e6


def _facts(one: Compiled) -> dict[str, Any]:
    return {
        "file": one.path.name,
        "component": one.graph.component,
        "bucket": one.graph.bucket,
        "soc": one.graph.soc,
        "bytes": one.path.stat().st_size,
        "seconds": round(one.seconds, 3),
    }

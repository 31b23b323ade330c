"""``sam2track quantize``: exported graphs in 8 bits, calibrated on the user's clip."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.progress import Progress
from sam2track.cli.track import NO_PROMPT, expected_frames, portion

if TYPE_CHECKING:
    from sam2track.backends.manifest import Exported, Graph
    from sam2track.backends.samples import Samples

W8A8 = (
    "w8a8: softmax stays in 16 bits, also in memory attention, which loses most at 8; "
    "look at sam2track drift before you use it"
)


def quantize(  # noqa: PLR0913, a command's flags are its arguments
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder made by sam2track export.")],
    *,
    scheme: Annotated[str, typer.Option(metavar="int8|w8a16|w8a8", help="int8: for CPUs. The others: for NPUs.")],
    calibrate: Annotated[
        str | None, typer.Option(metavar="CLIP", help="Clip to calibrate on; int8 can do without.")
    ] = None,
    points: o.Points = None,
    negatives: o.Negatives = None,
    boxes: o.Boxes = None,
    masks: o.Masks = None,
    prompts: o.PromptFile = None,
    frames: Annotated[int, typer.Option(min=8, metavar="COUNT", help="Frames of the clip to track.")] = 40,
    components: Annotated[
        str | None, typer.Option(metavar="NAME,..", help="Which components. Default: all but prompt_encoder.")
    ] = None,
    force: o.Force = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Add quantised graphs to an exported folder, and tell the error of each on frames it was not calibrated on.

    Choose a clip like those to come, with the object gone for a while in it.
    """
    from sam2track.backends import quantize as quantiser
    from sam2track.backends.manifest import Exported

    exported = Exported.read(folder)
    names = tuple(components.split(",")) if components else quantiser.COMPONENTS
    quantiser.check(exported, scheme, names, force=force)
    tell = (lambda line: None) if quiet or as_json else report.note
    if scheme == "w8a8":
        tell(W8A8)
    with TemporaryDirectory(prefix="sam2track-") as place:
        samples = None
        if calibrate is not None:
            schedule = _prompts(points, negatives, boxes, masks, prompts)
            samples = _recorded(exported, calibrate, schedule, frames, Path(place), quiet=quiet or as_json)
        elif scheme != "int8":
            raise o.UsageError(f"{scheme} needs a clip and prompts: --calibrate clip.mp4 --box X0,Y0,X1,Y1")
        changed = quantiser.quantize(exported, scheme, samples, components=names, force=force, tell=tell)
    made = [graph for graph in changed.manifest.graphs if graph.precision == scheme and graph.component in names]
    if as_json:
        report.say_json({"folder": str(folder), "scheme": scheme, "graphs": [_as_dict(graph) for graph in made]})
    elif not quiet:
        rows = [[g.files[0].name, f"{g.files[0].bytes / 1e6:.1f}", "" if g.error is None else f"{g.error:.1e}"]
                for g in made]  # fmt: skip
        report.say_table(f"{folder}", ["graph", "MB", "relative error, held-back frames" if samples else ""], rows)


def _prompts(
    points: list[str] | None,
    negatives: list[str] | None,
    boxes: list[str] | None,
    masks: list[str] | None,
    file: Path | None,
) -> dict[int, dict[int, st.Prompt]]:
    from sam2track.cli.prompts import gather

    schedule = gather(points, negatives, boxes, masks, file, first=0).prompts()
    if not schedule:
        raise o.UsageError(NO_PROMPT)
    return schedule


def _recorded(
    exported: Exported,
    clip: str,
    schedule: dict[int, dict[int, st.Prompt]],
    frames: int,
    place: Path,
    *,
    quiet: bool,
) -> Samples:
    from sam2track.calibration import record
    from sam2track.cli.prompts import check_fit

    with st.open_source(clip) as source:
        if source.live:
            raise o.UsageError(f"{clip} is live; calibrate on a file")
        check_fit(schedule, source, 0, frames - 1)
        with Progress(expected_frames(source, 0, frames), quiet=quiet) as progress:
            return record(exported, portion(source, 0, frames), schedule, place,
                          lambda result: progress.frame(result.objects))  # fmt: skip


def _as_dict(graph: Graph) -> dict[str, Any]:
    return {
        "file": graph.files[0].name,
        "component": graph.component,
        "bucket": graph.bucket,
        "bytes": graph.files[0].bytes,
        "relative_error": graph.error,
    }

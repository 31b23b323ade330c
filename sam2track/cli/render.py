"""``sam2track render``: a clip and its masklets in, an overlay out; no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.progress import Progress
from sam2track.errors import MaskletError


def render(  # noqa: PLR0913, a command's flags are its arguments
    clip: o.Clip,
    masklets: Annotated[Path, typer.Argument(metavar="MASKLETS", help="Masklets of that clip (.jsonl).")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.mp4", help="Default: CLIP_overlay.mp4, here.")
    ] = None,
    opacity: o.Opacity = 0.45,
    contour: o.Contour = None,
    labels: o.Labels = True,
    trace: o.TraceFrames = 0,
    force: o.Force = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Draw a masklet file on the clip it was made from; needs no model.

    Writes one frame for each frame of the masklet file.
    """
    from sam2track.cli.outputs import Outputs, Paths, clip_stem
    from sam2track.cli.style import Style
    from sam2track.render import warm_up

    style = Style(opacity, contour, labels, trace)
    paths = Paths(overlay=output or Path(f"{clip_stem(clip)}_overlay.mp4"))
    paths.check([Path(clip), masklets], force=force)
    results = st.read_masklets(masklets)
    timings = st.Timings()
    warm_up()
    with st.open_source(clip) as source, Outputs(paths, source, "", timings) as outputs:
        total = source.frame_count
        with Progress(total, quiet=quiet) as progress:
            for frame, result in matched(source, iter(results), f"{masklets}"):
                outputs.write(result, style.draw(frame, result, timings))
                progress.frame(result.objects)
        if not outputs.frames:
            raise MaskletError(f"{masklets} has no frames; nothing to draw")
    if as_json:
        report.say_json({
            "source": source.name,
            "frames": outputs.frames,
            "stages": report.stages(timings.summary()),
            "outputs": paths.as_text(),
        })  # fmt: skip
    elif not quiet:
        report.say(f"{outputs.frames} frames of {source.name}; overlay: {paths.overlay}")


def matched(
    source: st.Source, results: Iterator[st.FrameResult], name: str
) -> Iterator[tuple[st.Frame, st.FrameResult]]:
    """Frames of ``source`` with the result of the same index; frames without one are left out.

    Raises:
        MaskletError: there is a result for a frame that ``source`` does not have.
    """
    result = next(results, None)
    for frame in source:
        if result is None or frame.index > result.index:
            break
        if frame.index == result.index:
            yield frame, result
            result = next(results, None)
    if result is not None:
        raise MaskletError(f"{name} has frame {result.index}, which {source.name} has not; is it of another clip?")

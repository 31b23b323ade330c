"""``sam2track live``: a camera or stream, tracked as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.progress import Progress
from sam2track.cli.session import Tally, interruptible
from sam2track.cli.style import Style
from sam2track.errors import SinkError

KEYS = "click an object; drag a box; right click what is not it; n: next object; space: hold; q: quit"
LONGEST_WAIT = 2.0  # seconds between two frames of a file played as a camera


def live(  # noqa: PLR0913, a command's flags are its arguments
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Camera (0, /dev/video0), URL (rtsp, http, udp, tcp), or a file.")
    ] = "0",
    *,
    headless: Annotated[bool, typer.Option("--headless", help="No window; needs prompts and an output.")] = False,
    points: o.Points = None,
    negatives: o.Negatives = None,
    boxes: o.Boxes = None,
    masks: o.Masks = None,
    prompts: o.PromptFile = None,
    masklets: o.MaskletFile = None,
    overlay: o.OverlayFile = None,
    opacity: o.Opacity = 0.45,
    contour: o.Contour = None,
    labels: o.Labels = True,
    trace: o.TraceFrames = 0,
    force: o.Force = False,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop after so many seconds of the stream.")] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, metavar="COUNT", help="Stop after so many tracked frames.")
    ] = None,
    model: o.Model = None,
    config: o.ConfigFile = None,
    weights: o.Weights = None,
    image_size: o.ImageSize = None,
    device: o.Device = None,
    pins: o.Pins = None,
    sets: o.Sets = None,
    timings: Annotated[bool, typer.Option("--timings", help="End with a table of the time per stage.")] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Track a camera or stream, in a window or headless; a file is played at its own speed.

    Click objects in the window, or give prompts by flag.

    When tracking is slower than the stream, it skips to the newest frame, and counts what it skips.

    q (in the window) or Ctrl-C (exit code 130) ends it and finishes the outputs.
    """
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins, sets=sets)
    from sam2track.cli.outputs import Outputs, Paths
    from sam2track.cli.prompts import check_fit, gather
    from sam2track.render import warm_up

    gathered = gather(points, negatives, boxes, masks, prompts, first=0)
    schedule = gathered.prompts()
    paths = Paths(masklets, overlay)
    if headless and not (schedule and any(paths)):
        raise o.UsageError(
            "--headless needs a prompt (--point, --box, --mask or --prompts) and an output (--masklets or --overlay)"
        )
    style = Style(opacity, contour, labels, trace)
    paths.check([Path(source), *gathered.files, *o.model_files(config, settings)], force=force)

    with ExitStack() as stack:
        window = None if headless else open_window(stack, required=not (schedule and any(paths)))
        stream = stack.enter_context(st.open_source(source))
        check_fit(schedule, stream, 0, None)
        if window is not None and not quiet:
            report.note(KEYS)
        tracker = st.Tracker.load(settings)
        if window is not None or paths.overlay is not None:
            warm_up()  # while frames wait, they grow old
        run = st.track(stream if stream.live else paced(stream), tracker, schedule, policy="newest")
        tally = Tally(stream, run, tracker, paths)
        stack.enter_context(interruptible(tally))
        stack.enter_context(run)
        outputs = stack.enter_context(Outputs(paths, stream, tracker.name, run.timings))
        progress = stack.enter_context(Progress(frames, quiet=quiet))
        for frame, result in limited(run, seconds, frames):
            drawn = style.draw(frame, result, run.timings) if window is not None or outputs.draws else None
            outputs.write(result, drawn)
            tally.add(result)
            progress.frame(result.objects, f"{run.skipped} skipped" if run.skipped else "")
            if window is not None and drawn is not None:
                clicks = window.show(drawn)
                if window.closed:
                    break
                if clicks:
                    run.send(clicks)
    tally.tell(as_json=as_json, quiet=quiet, timings=timings)


def open_window(stack: ExitStack, *, required: bool) -> st.Window | None:
    """A window, or None with a note when there is no display and the run can do without."""
    try:
        return stack.enter_context(st.Window("sam2track"))
    except SinkError as error:
        if required:
            raise
        report.note(f"{str(error).partition(';')[0]}; running headless")
        return None


def paced(source: st.Source) -> Iterator[st.Frame]:
    """The frames of a file at the speed of their own times, as a camera would give them."""
    start = monotonic()
    for frame in source:
        sleep(min(max(0.0, start + float(frame.time) - monotonic()), LONGEST_WAIT))
        yield frame


def limited(
    run: Iterable[tuple[st.Frame, st.FrameResult]], seconds: float | None, frames: int | None
) -> Iterator[tuple[st.Frame, st.FrameResult]]:
    """The pairs of ``run``, at most ``frames`` of them and up to ``seconds`` after the first."""
    first = None
    for count, (frame, result) in enumerate(run, start=1):
        first = frame.time if first is None else first
        if seconds is not None and frame.time - first >= seconds:
            return
        yield frame, result
        if count == frames:
            return

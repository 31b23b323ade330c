"""``sam2track track``: a clip in, masklets and an overlay out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.discover import discovery_rules
from sam2track.cli.process import share_cores
from sam2track.cli.progress import Progress
from sam2track.cli.session import Tally, interruptible
from sam2track.cli.style import Style

NANO = "model: nano, the small bundled one; better: --model sam2.1-tiny, -small, -base-plus or -large (downloaded once)"
FULL = "discovery: no room for more than {0} objects; --set tracking.max_objects=COUNT makes more"
NO_PROMPT = (
    "no prompt: say what to track with --point X,Y, --box X0,Y0,X1,Y1, --mask FILE.png or --prompts FILE,"
    " or have it found with --discover"
)


def track(  # noqa: PLR0913, a command's flags are its arguments
    clip: o.Clip,
    *,
    points: o.Points = None,
    negatives: o.Negatives = None,
    boxes: o.Boxes = None,
    masks: o.Masks = None,
    prompts: o.PromptFile = None,
    removals: o.Removals = None,
    discover: Annotated[
        bool, typer.Option("--discover", help="Find objects without a prompt.", rich_help_panel=o.DISCOVERY)
    ] = False,
    every: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="FRAMES",
            rich_help_panel=o.DISCOVERY,
            help="Look for new objects again every so many frames; 0: on the first only (default 30).",
        ),
    ] = None,
    points_per_side: o.Grid = None,
    min_iou: o.MinIou = None,
    min_stability: o.MinStability = None,
    masklets: o.MaskletFile = None,
    overlay: o.OverlayFile = None,
    opacity: o.Opacity = 0.45,
    contour: o.Contour = None,
    labels: o.Labels = True,
    trace: o.TraceFrames = 0,
    force: o.Force = False,
    start: Annotated[int, typer.Option(min=0, metavar="FRAME", help="First frame to track.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, metavar="COUNT", help="Track at most so many frames.")] = None,
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
    """Track objects through a clip; writes masklets (JSON Lines) and an overlay video.

    --point 510,320 --point 2:90,40@30 starts object 1 on the first frame, object 2 on frame 30.

    --discover starts what no object covers, on the first frame and every 30 after, up to tracking.max_objects.

    Without --masklets and --overlay both are written here, named after the clip.

    Ctrl-C keeps what was written so far and exits with 130.
    """
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins, sets=sets)
    from sam2track.cli.outputs import Outputs, Paths, clip_stem
    from sam2track.cli.prompts import check_fit, gather, read_removals
    from sam2track.discovery.video import POINTS_PER_SIDE
    from sam2track.render import warm_up

    gathered = gather(points, negatives, boxes, masks, prompts, first=start)
    schedule = gathered.prompts()
    forgotten = read_removals(removals)
    if not (schedule or discover):
        raise o.UsageError(NO_PROMPT)
    if not discover and any(flag is not None for flag in (every, points_per_side, min_iou, min_stability)):
        raise o.UsageError("--every, --points-per-side, --min-iou and --min-stability are of --discover; add it")
    paths = Paths(masklets, overlay)
    if not any(paths):
        paths = Paths(Path(f"{clip_stem(clip)}.jsonl"), Path(f"{clip_stem(clip)}_overlay.mp4"))
    style = Style(opacity, contour, labels, trace)
    paths.check([Path(clip), *gathered.files, *o.model_files(config, settings)], force=force)

    with st.open_source(clip) as source:
        if source.live:
            raise o.UsageError(f"{clip} is live; use sam2track live {clip}")
        total = expected_frames(source, start, frames)
        check_fit(schedule, source, start, None if frames is None else start + frames - 1, forgotten)
        if not (model or config or weights or quiet or as_json):
            report.note(NANO)
        share_cores(settings.model)
        tracker = st.Tracker.load(settings)
        if paths.overlay is not None:
            warm_up()
        rules = discovery_rules(
            settings.model,
            points_per_side=points_per_side or POINTS_PER_SIDE,
            pred_iou_thresh=min_iou,
            stability_score_thresh=min_stability,
        )
        prompter = st.Discoverer(tracker, every=30 if every is None else every, rules=rules) if discover else None
        run = st.track(portion(source, start, frames), tracker, schedule, removals=forgotten, prompter=prompter)
        tally = Tally(source, run, tracker, paths)
        with (
            interruptible(tally),
            run,
            Outputs(paths, source, tracker.name, run.timings) as outputs,
            Progress(total, quiet=quiet) as progress,
        ):
            for frame, result in run:
                outputs.write(result, style.draw(frame, result, run.timings) if outputs.draws else None)
                tally.add(result)
                progress.frame(result.objects)
    if prompter is not None and prompter.full and not quiet:
        report.note(FULL.format(settings.tracking.max_objects))
    tally.tell(as_json=as_json, quiet=quiet, timings=timings)


def expected_frames(source: st.Source, start: int, frames: int | None) -> int | None:
    """How many frames there are to track, an estimate; raises ``UsageError`` when ``start`` is past the end."""
    if source.frame_count is None:
        return frames
    left = source.frame_count - start
    if left <= 0:
        raise o.UsageError(f"--start {start} is past the end: {source.name} has {source.frame_count} frames")
    return left if frames is None else min(left, frames)


def portion(source: st.Source, start: int, frames: int | None) -> Iterator[st.Frame]:
    """The frames from index ``start`` on, at most ``frames`` of them."""
    for frame in source:
        if frame.index >= start:
            yield frame
        if frames is not None and frame.index >= start + frames - 1:
            return

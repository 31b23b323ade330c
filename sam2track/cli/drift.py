"""``sam2track drift``: what one configuration costs in accuracy against another."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.progress import Progress
from sam2track.cli.track import NO_PROMPT, expected_frames, portion

if TYPE_CHECKING:
    from sam2track.drift import Drift, MaskDrift, OutputDrift


def drift(  # noqa: PLR0913, a command's flags are its arguments
    clip: o.Clip,
    *,
    against: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="The reference: a TOML file, preset or model. "
                     "Default: the same in torch fp32.", rich_help_panel="Model"),
    ] = None,
    points: o.Points = None,
    negatives: o.Negatives = None,
    boxes: o.Boxes = None,
    masks: o.Masks = None,
    prompts: o.PromptFile = None,
    frames: Annotated[int | None, typer.Option(min=1, metavar="COUNT", help="Compare at most so many frames.")] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Tell the first frame whose mask IoU is under this.")
    ] = 0.95,
    model: o.Model = None,
    config: o.ConfigFile = None,
    weights: o.Weights = None,
    image_size: o.ImageSize = None,
    device: o.Device = None,
    pins: o.Pins = None,
    sets: o.Sets = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:  # fmt: skip
    """Track a clip twice and compare: masks frame by frame, and each component fed the reference's inputs.

    sam2track drift clip.mp4 --box 420,180,640,520 --pin default=torch:cpu:bf16

    IoU and errors tell how far the two are apart, not which is right.
    """
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins, sets=sets)
    reference = plain(settings) if against is None else st.Config.load(against)
    from sam2track.cli.prompts import check_fit, gather
    from sam2track.drift import compare

    schedule = gather(points, negatives, boxes, masks, prompts, first=0).prompts()
    if not schedule:
        raise o.UsageError(NO_PROMPT)
    with st.open_source(clip) as source:
        if source.live:
            raise o.UsageError(f"{clip} is live; drift compares on a file")
        check_fit(schedule, source, 0, None if frames is None else frames - 1)
        with Progress(expected_frames(source, 0, frames), quiet=quiet or as_json) as progress:
            found = compare(portion(source, 0, frames), schedule, settings, reference,
                            lambda result: progress.frame(result.objects))  # fmt: skip
    if as_json:
        report.say_json(as_dict(found, threshold))
    elif not quiet:
        say(found, threshold)


def plain(settings: st.Config) -> st.Config:
    """``settings`` with every component in torch fp32."""
    from sam2track.config import ComponentsTable
    from sam2track.pins import Pin

    return settings.model_copy(update={"components": ComponentsTable(default=Pin("torch", "auto", "fp32"))})


def as_dict(found: Drift, threshold: float) -> dict[str, Any]:
    """The findings for a program."""
    return {
        "placement": found.placement,
        "against": found.against,
        "threshold": threshold,
        "objects": {str(i): _masks(drift, threshold) for i, drift in found.masks.items()},
        "components": {
            name: {output: _errors(drift) for output, drift in outputs.items()}
            for name, outputs in found.components.items()
        },
    }


def _masks(drift: MaskDrift, threshold: float) -> dict[str, Any]:
    frame, value = drift.worst
    return {
        "mean_iou": round(drift.mean, 6),
        "worst_iou": round(value, 6),
        "worst_frame": frame,
        "first_frame_below": drift.first_below(threshold),
        "visibility_differs": drift.visibility,
        "iou": {str(index): round(one, 6) for index, one in zip(drift.frames, drift.ious, strict=True)},
    }


def _errors(drift: OutputDrift) -> dict[str, Any]:
    finite = {"relative_error": drift.relative_error, "worst_call": drift.worst}
    return {key: value if isfinite(value) else None for key, value in finite.items()} | {"calls": drift.calls}


def say(found: Drift, threshold: float) -> None:
    """The findings as text."""
    rows = []
    for number, drift in found.masks.items():
        frame, value = drift.worst
        first = drift.first_below(threshold)
        rows.append([str(number), str(len(drift.frames)), f"{drift.mean:.4f}", f"{value:.4f} on frame {frame}",
                     "none" if first is None else f"frame {first}", str(len(drift.visibility))])  # fmt: skip
    columns = ["object", "frames", "mean IoU", "worst", f"first under {threshold:g}", "frames visible in one only"]
    report.say_table("masks", columns, rows)
    if not found.components:
        report.say("\ncomponents: not compared, the two models differ in size")
        return
    lines = [
        [name, output, found.placement[name], found.against[name],
         f"{drift.relative_error:.1e}", f"{drift.worst:.1e}", str(drift.calls)]
        for name, outputs in found.components.items()
        for output, drift in outputs.items()
    ]  # fmt: skip
    columns = ["component", "output", "runs on", "against", "relative error", "worst call", "calls"]
    report.say_table("\ncomponents, fed the reference's inputs", columns, lines)

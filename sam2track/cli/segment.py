"""``sam2track segment``: a photo and prompts in, masks out."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2track.cli import options as o
from sam2track.cli import report

if TYPE_CHECKING:
    import sam2track as st

NO_PROMPT = "no prompt: say what to segment with --point X,Y, --box X0,Y0,X1,Y1 or --mask FILE.png"


def segment(  # noqa: PLR0913, a command's flags are its arguments
    photo: o.Photo,
    *,
    points: o.Points = None,
    negatives: o.Negatives = None,
    boxes: o.Boxes = None,
    masks: o.Masks = None,
    multimask: Annotated[
        bool, typer.Option("--multimask", help="Three masks an object, for an ambiguous click.")
    ] = False,
    max_hole_area: Annotated[float, typer.Option(min=0, metavar="PIXELS", help="Fill holes of a mask up to it.")] = 0,
    max_sprinkle_area: Annotated[float, typer.Option(min=0, metavar="PIXELS", help="Drop specks up to it.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Masks to write: .png white on black, .json COCO RLE."),
    ] = None,
    overlay: o.Drawing = None,
    force: o.Force = False,
    model: o.Model = None,
    config: o.ConfigFile = None,
    weights: o.Weights = None,
    image_size: o.ImageSize = None,
    device: o.Device = None,
    pins: o.Pins = None,
    sets: o.Sets = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Segment objects in a photo: --point 510,320 --negative 40,60, or --point 1:510,320 --box 2:10,20,200,180.

    Without --output and --overlay an overlay is written here, named after the photo. Where there are several masks,
    -o mask.png writes mask_1.png, mask_2.png and so on, by object; with --multimask mask_1_1.png and so on.

    A --mask is a draft, which the model redraws. Hole and speck areas are in pixels of the model's mask.
    """
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins, sets=sets)
    import sam2track as st
    from sam2track.cli.outputs import check_path, check_picture_name, write_json
    from sam2track.video.picture import write_picture

    prompts, read = _prompts(points, negatives, boxes, masks)
    if output is None and overlay is None and not as_json:
        overlay = Path(f"{photo.stem}_overlay.png")
    files = _mask_files(output, list(prompts), 3 if multimask else 1)
    written = [*files, *([overlay] if overlay is not None else [])]
    if len(set(written)) < len(written):
        raise o.UsageError(f"{overlay} is to hold the masks and the overlay; give two names")
    for path in written:
        if path.suffix.lower() != ".json" or path == overlay:
            check_picture_name(path)
        check_path(path, [photo, *read, *o.model_files(config, settings)], force=force)

    rules = st.MaskRules(max_hole_area=max_hole_area, max_sprinkle_area=max_sprinkle_area)
    segmenter = st.ImageSegmenter.load(settings, rules=rules)
    encoded = segmenter.encode(photo)
    found = segmenter.segment_batch(encoded, list(prompts.values()), multimask=multimask)
    results = dict(zip(prompts, found, strict=True))
    account = _account(photo, encoded.frame, settings.model, results)
    if files and files[0].suffix.lower() == ".json":
        write_json(files[0], account)
    else:
        for path, mask in zip(files, (mask for result in found for mask in result.masks), strict=False):
            write_picture(path, mask)
    if overlay is not None:
        best = {i: _best(result) for i, result in results.items()}
        draw(encoded.frame, best, overlay)
    if as_json:
        report.say_json(account | {"outputs": [str(path) for path in written]})
    elif not quiet:
        _tell(results, written)


def draw(frame: st.Frame, objects: Mapping[int, st.Prediction], path: Path, *, labels: bool = True) -> None:
    """Write an overlay of ``objects`` on the photo."""
    import sam2track as st
    from sam2track.video.picture import write_picture

    result = st.FrameResult(0, Fraction(0), (frame.height, frame.width), objects)
    write_picture(path, st.overlay(frame, result, labels=labels).image)


def _prompts(
    points: list[str] | None, negatives: list[str] | None, boxes: list[str] | None, masks: list[str] | None
) -> tuple[dict[int, st.Prompt], list[Path]]:
    """Object id -> prompt from the flags, and the files of masks."""
    from sam2track.cli.prompts import Gathered

    gathered = Gathered()
    gathered.add_flags(points, negatives, boxes, masks)
    prompts = gathered.prompts()
    if any(prompts):
        raise o.UsageError(f"a prompt is for frame {max(prompts)}, but a photo has no frames; leave @ out")
    if not prompts:
        raise o.UsageError(NO_PROMPT)
    return prompts[0], gathered.files


def _tell(results: Mapping[int, st.StillResult], written: list[Path]) -> None:
    for i, result in results.items():
        masks = zip(result.masks.sum(axis=(1, 2)).tolist(), result.scores.tolist(), strict=True)
        report.say(f"object {i}: {', '.join(f'{area} px (score {score:.2f})' for area, score in masks)}")
    for path in written:
        report.say(f"wrote {path}")


def _mask_files(output: Path | None, objects: list[int], masks: int) -> list[Path]:
    """Where the masks go: one .json for all, or a picture each."""
    if output is None:
        return []
    if output.suffix.lower() == ".json" or len(objects) * masks == 1:
        return [output]
    names = [f"{i}" if masks == 1 else f"{i}_{n + 1}" for i in objects for n in range(masks)]
    return [output.with_name(f"{output.stem}_{name}{output.suffix}") for name in names]


def _account(photo: Path, frame: st.Frame, model: str, results: Mapping[int, st.StillResult]) -> dict[str, Any]:
    objects = {str(i): result.records() for i, result in results.items()}
    return {"photo": str(photo), "width": frame.width, "height": frame.height, "model": model, "objects": objects}


def _best(result: st.StillResult) -> st.Prediction:
    import sam2track as st
    from sam2track.masks.regions import bounding_box

    mask = result.masks[result.best]
    return st.Prediction(mask, float(result.scores[result.best]), bool(mask.any()), bounding_box(mask))

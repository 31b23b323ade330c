"""``sam2track discover``: a photo in, all its masks out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sam2track.cli import options as o
from sam2track.cli import report

NOTHING = "no mask passed; lower --min-iou or --min-stability, or take a larger --model"


def discover(  # noqa: PLR0913, a command's flags are its arguments
    photo: o.Photo,
    *,
    points_per_side: o.Grid = None,
    points_per_batch: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Clicks decoded at once.")] = 64,
    min_iou: o.MinIou = None,
    min_stability: o.MinStability = None,
    crops: Annotated[int, typer.Option(min=0, max=6, metavar="LAYERS", help="Look at crops too, 4 then 16 ..")] = 0,
    min_region: Annotated[float, typer.Option(min=0, metavar="PIXELS", help="Remove smaller holes and specks.")] = 0,
    m2m: Annotated[bool, typer.Option("--m2m", help="Decode each mask once more, with itself as a draft.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Records (COCO RLE) to write.")
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
    """Find the masks of a photo without a prompt, from a grid of clicks.

    Without --output and --overlay both are written here, named after the photo.
    """
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins, sets=sets)
    import sam2track as st
    from sam2track.cli.outputs import check_path, check_picture_name, write_json
    from sam2track.cli.segment import draw

    if output is None and overlay is None and not as_json:
        output, overlay = Path(f"{photo.stem}_masks.json"), Path(f"{photo.stem}_overlay.png")
    if output is not None and output.suffix.lower() != ".json":
        raise o.UsageError(f"{output} does not end in .json; --overlay FILE.png writes a picture")
    if overlay is not None:
        check_picture_name(overlay)
    written = [path for path in (output, overlay) if path is not None]
    for path in written:
        check_path(path, [photo, *o.model_files(config, settings)], force=force)

    rules = discovery_rules(
        settings.model,
        points_per_side=points_per_side,
        points_per_batch=points_per_batch,
        pred_iou_thresh=min_iou,
        stability_score_thresh=min_stability,
        crop_n_layers=crops,
        min_mask_region_area=min_region,
        use_m2m=m2m,
    )
    segmenter = st.ImageSegmenter.load(settings)
    encoded = segmenter.encode(photo)
    found = st.discover(encoded, segmenter, rules)
    height, width = found.size
    account: dict[str, Any] = {"photo": str(photo), "width": width, "height": height, "model": settings.model}
    account["masks"] = found.records()
    if output is not None:
        write_json(output, account)
    if overlay is not None:  # small masks over large ones
        ordered = sorted(found, key=lambda mask: -mask.area)
        shown = {n: st.Prediction(m.mask, m.score, True, m.box) for n, m in enumerate(ordered, 1)}
        draw(encoded.frame, shown, overlay, labels=False)
    if as_json:
        report.say_json(account | {"outputs": [str(path) for path in written]})
    elif not quiet:
        report.say(f"{len(found)} masks in {photo}" if len(found) else f"{photo}: {NOTHING}")
        for path in written:
            report.say(f"wrote {path}")


def discovery_rules(model: str, **given: Any) -> Any:
    """``DiscoveryRules`` of a model from flags; a flag of None was not given."""
    import sam2track as st

    return st.DiscoveryRules.of(model, **{name: value for name, value in given.items() if value is not None})

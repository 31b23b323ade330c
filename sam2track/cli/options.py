"""Flags that several commands share, and what they build."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2track.errors import ConfigError, Sam2TrackError

if TYPE_CHECKING:
    from sam2track.config import Config

_MODEL = "Model"
_PROMPT = "Prompts"
DISCOVERY = "Discovery"
_OUT = "Output"
_STYLE = "Overlay"


class UsageError(Sam2TrackError):
    """Flags that make no sense together, or an output that may not be written; exit code 2."""


Clip = Annotated[str, typer.Argument(metavar="CLIP", help="Video file or folder of numbered images.")]
Photo = Annotated[Path, typer.Argument(metavar="PHOTO", help="Picture: .jpg, .png, .webp, .tif, .bmp.")]
Model = Annotated[
    str | None,
    typer.Option(help="Model to run; `sam2track models` lists them. Default: nano.", rich_help_panel=_MODEL),
]
ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE|NAME", rich_help_panel=_MODEL,
                 help="TOML file, or a preset: cpu, cpu-int8, cuda, edge-mixed, edge-npu, quality."),
]  # fmt: skip
Weights = Annotated[
    Path | None, typer.Option(help="Own checkpoint of that model (.pt, .safetensors).", rich_help_panel=_MODEL)
]
ImageSize = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="Side of the model's input, a multiple of 32.", rich_help_panel=_MODEL),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps, where no --pin says else.", rich_help_panel=_MODEL)
]
Pins = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="COMPONENT=ENGINE[:DEVICE[:PRECISION]]", help="Where one component runs.",
                 rich_help_panel=_MODEL),
]  # fmt: skip
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of a config, such as memory.recent=4.",
                 rich_help_panel=_MODEL),
]  # fmt: skip

Points = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="[ID:]X,Y[@FRAME]", help="Click on an object (default: object 1, first frame).",
                 rich_help_panel=_PROMPT),
]  # fmt: skip
Negatives = Annotated[
    list[str] | None,
    typer.Option("--negative", metavar="[ID:]X,Y[@FRAME]", help="Click on what is not the object.",
                 rich_help_panel=_PROMPT),
]  # fmt: skip
Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="[ID:]X0,Y0,X1,Y1[@FRAME]", help="Box around an object.", rich_help_panel=_PROMPT),
]
Masks = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="[ID:]FILE.png[@FRAME]", help="Mask of an object: what is not black.",
                 rich_help_panel=_PROMPT),
]  # fmt: skip
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", rich_help_panel=_PROMPT,
                 help=r"TOML or JSON file: \[\[prompts]] with object, frame, points, labels, box, mask."),
]  # fmt: skip

Grid = Annotated[
    int | None,
    typer.Option("--points-per-side", min=1, max=1024, metavar="COUNT", rich_help_panel=DISCOVERY,
                 help="Clicks along each side of the picture (default 32; 16 for video)."),
]  # fmt: skip
MinIou = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="0..1", rich_help_panel=DISCOVERY,
                 help="Drop masks of a lower predicted IoU (default 0.8; nano 0.5)."),
]  # fmt: skip
MinStability = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="0..1", rich_help_panel=DISCOVERY,
                 help="Drop masks of a lower stability (default 0.95; nano 0.6)."),
]  # fmt: skip

Removals = Annotated[
    list[str] | None,
    typer.Option("--remove", metavar="ID@FRAME", help="Forget an object before a frame.", rich_help_panel=_PROMPT),
]
MaskletFile = Annotated[
    Path | None, typer.Option("--masklets", metavar="FILE.jsonl", help="Masklets to write.", rich_help_panel=_OUT)
]
OverlayFile = Annotated[
    Path | None, typer.Option("--overlay", metavar="FILE.mp4", help="Overlay video to write.", rich_help_panel=_OUT)
]
Drawing = Annotated[
    Path | None, typer.Option("--overlay", metavar="FILE.png", help="Overlay picture to write.", rich_help_panel=_OUT)
]
Opacity = Annotated[float, typer.Option(min=0, max=1, help="Opacity of the masks.", rich_help_panel=_STYLE)]
Contour = Annotated[
    int | None,
    typer.Option(min=0, max=64, metavar="PIXELS", help="Width of the contour; 0 draws none.", rich_help_panel=_STYLE),
]
Labels = Annotated[bool, typer.Option("--labels/--no-labels", help="Write ids and scores.", rich_help_panel=_STYLE)]
TraceFrames = Annotated[
    int,
    typer.Option("--trace", min=0, max=10_000, metavar="FRAMES", help="Draw the path of so many frames.",
                 rich_help_panel=_STYLE),
]  # fmt: skip
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.", rich_help_panel=_OUT)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; errors only.")]


def load_config(
    model: str | None,
    config: str | None,
    *,
    weights: Path | None,
    image_size: int | None,
    device: str | None,
    pins: list[str] | None,
    sets: list[str] | None,
) -> Config:
    """The config that the flags describe.

    Raises:
        ConfigError: a flag that is not ``KEY=VALUE``, or what ``Config.load`` refuses.
    """
    from sam2track.config import Config

    overrides = {key: _value(text) for key, text in _pairs(sets, "--set", "memory.recent=4").items()}
    if model is not None and config is not None:
        overrides["model"] = model
    return Config.load(
        config or model or "nano",
        weights=weights,
        image_size=image_size,
        device=device,
        set=overrides,
        pin=_pairs(pins, "--pin", "image_encoder=torch:cpu"),
    )


def model_files(config: str | None, settings: Config) -> list[Path]:
    """The files that ``settings`` come from, which no output may replace."""
    own = [] if config is None else [Path(config).expanduser()]
    return own if settings.weights is None else [*own, Path(settings.weights)]


def _pairs(texts: list[str] | None, flag: str, example: str) -> dict[str, str]:
    """``["key=value"]`` as a dict."""
    pairs = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not (key.strip() and separator and value.strip()):
            raise ConfigError(f"{flag} {text!r} is not KEY=VALUE; write it as {flag} {example}")
        pairs[key.strip()] = value.strip()
    return pairs


def _value(text: str) -> Any:
    """``text`` as the TOML value it reads as, else as it is."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text

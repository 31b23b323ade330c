"""``sam2track train``: a model from synthetic clips, from annotated ones, or from both."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.session import INTERRUPTED

_DATA, _START, _HOW = "Data", "Model", "How"


def train(  # noqa: PLR0913, a command's flags are its arguments
    assets: Annotated[
        Path | None,
        typer.Argument(
            metavar="ASSETS", help="Folder with cutouts/, photos/ and perhaps turns/, textures/, or a packed one."
        ),
    ] = None,
    *,
    clips: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="Annotated clips to learn from, laid out as DAVIS or YouTube-VOS.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of --clips, such as train.", rich_help_panel=_DATA)] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of real clips where ASSETS are given too.", rich_help_panel=_DATA)
    ] = 0.5,
    validate: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Annotated clips to score on, never learned from.", rich_help_panel=_DATA),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(metavar="FILE.zip", help="Only pack ASSETS into one file, to travel.", rich_help_panel=_DATA),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Architecture; `sam2track models` lists them.", rich_help_panel=_START)
    ] = "nano",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint to go out from. Default: none; with finetune, the model's own.", rich_help_panel=_START
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMPONENT", help="Component that stays as it is, such as image_encoder.", rich_help_panel=_START
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="cpu, gpu or finetune; cpu-more to cpu-clicks go on from weights, as nano's model card tells. "
            "Default: finetune with --clips or --weights, else cpu.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    length: Annotated[
        float, typer.Option(min=0.001, max=1000, help="Times as many steps as the recipe has.", rich_help_panel=_HOW)
    ] = 1.0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Clips a step, in every stage.", rich_help_panel=_HOW)
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=64,
            metavar="PIXELS",
            help="Of every stage. Default: the recipe's; with finetune, the model's.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=2, max=16, help="Frames a clip, in every stage.", rich_help_panel=_HOW)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="Peak learning rate of every stage.", rich_help_panel=_HOW)
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=10**9, help="Of weights, data and prompts.", rich_help_panel=_HOW)
    ] = 0,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long; the same command goes on.", rich_help_panel=_HOW)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=_HOW)] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many processors.", rich_help_panel=_HOW)] = 1,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.", rich_help_panel=_HOW)] = "fp32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch.compile fuse the image encoder.", rich_help_panel=_HOW)
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Checkpoints in 16 bits, in pieces of 15 MB.", rich_help_panel=_HOW)
    ] = False,
    every: Annotated[
        int, typer.Option(min=1, help="Steps between scores and checkpoints.", rich_help_panel=_HOW)
    ] = 200,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Checkpoint, weights and log.")] = Path("runs/nano"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --pack if it exists.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a model, or fine-tune one; needs the extra `train`.

    sam2track train ASSETS --out runs/nano trains nano from nothing on synthetic clips.

    sam2track train --clips DATASET --model sam2.1-tiny --freeze image_encoder fine-tunes on annotated ones.

    Ctrl-C ends a run after the step at work (of several processes: after the next report), with a checkpoint, and
    exits with 130; a second one ends it at once.
    The same command goes on from the last checkpoint.
    """
    try:
        from sam2track.train import launch as launching
        from sam2track.train.assets import pack_assets
        from sam2track.train.loop import Run
        from sam2track.train.recipe import adapted, recipe_for
    except ModuleNotFoundError as error:
        raise o.UsageError(f"training needs {error.name}; install it with: pip install 'sam2track[train]'") from error
    if pack is not None:
        from sam2track.cli.outputs import check_path

        if assets is None:
            raise o.UsageError("--pack needs ASSETS; give the folder to pack")
        check_path(pack, [assets], force=force)
        pack_assets(assets, pack)
        if not quiet:
            report.say(f"wrote {pack}")
        return
    material = launching.Material(assets, clips, split, share, validate)
    chosen = recipe_for(recipe or ("finetune" if clips is not None or weights is not None else "cpu"), model)
    chosen = adapted(chosen, length=length, clips=batch, size=image_size, frames=frames, rate=rate)
    run = Run(model, chosen, out, weights, tuple(freeze or ()), seed, precision, compiled, compact, 20, every, minutes)
    say = (lambda line: None) if quiet else report.say
    with first_ctrl_c() as stop:
        launching.launch(run, material, device=device, devices=devices, say=say, stop=stop.is_set)
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)


@contextmanager
def first_ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C, or SIGTERM, sets; the second one interrupts as usual."""
    came = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def take_note(*_: object) -> None:
        came.set()
        restore()

    main_thread = threading.current_thread() is threading.main_thread()
    for number in before if main_thread else ():
        signal.signal(number, take_note)
    try:
        yield came
    finally:
        if main_thread:
            restore()

"""``python -m sam2track.train ASSETS --out runs/nano``: train a model from synthetic clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2track.train.assets import load_assets
from sam2track.train.loop import Run, Trainer
from sam2track.train.recipe import RECIPES, scaled


def main(
    assets: Annotated[Path, typer.Argument(help="folder with cutouts/, photos/ and perhaps turns/")],
    out: Annotated[Path, typer.Option(help="folder of the checkpoint, the weights and the log")] = Path("runs/nano"),
    model: Annotated[str, typer.Option(help="a model's name")] = "nano",
    recipe: Annotated[str, typer.Option(help=" or ".join(RECIPES))] = "cpu",
    length: Annotated[float, typer.Option(help="times as many steps as the recipe has")] = 1.0,
    seed: Annotated[int, typer.Option(help="of weights, data and prompts")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
) -> None:
    """Train; a run that was stopped goes on where it was."""
    cache = out.parent / "assets.pt"
    seen, unseen = (load_assets(assets, cache, held_out).to(device) for held_out in (False, True))
    run = Run(model, scaled(RECIPES[recipe], length), out, seed, device, precision)
    trainer = Trainer(run, seen, unseen)
    if trainer.resume():
        typer.echo(f"resumed at step {trainer.step}")
    trainer.train(typer.echo)


if __name__ == "__main__":
    typer.run(main)

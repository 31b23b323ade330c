"""``sam2track models``: what there is, and what is on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sam2track.cli import options as o
from sam2track.cli import report

if TYPE_CHECKING:
    from sam2track.hub import Model

models = typer.Typer(help="List the models, or download one.", invoke_without_command=True)


@models.callback()
def _default(context: typer.Context, as_json: o.Json = False) -> None:
    """List the models, or download one."""
    if context.invoked_subcommand is None:
        list_models(context, as_json=as_json)
    elif as_json and context.invoked_subcommand != "list":
        raise o.UsageError(f"--json is of models list; leave it out of models {context.invoked_subcommand}")
    context.obj = as_json


@models.command("list")
def list_models(context: typer.Context, as_json: o.Json = False) -> None:
    """List the models: parameters, input size, and where the weights are."""
    from sam2track import hub

    if as_json or context.obj:  # said after models or after list
        report.say_json({
            "models": [
                {
                    "name": model.name,
                    "parameters": model.parameters,
                    "image_size": model.image_size,
                    "bundled": model.repo is None,
                    "cached": model.path is not None,
                    "path": None if model.path is None else str(model.path),
                }
                for model in hub.known()
            ]
        })  # fmt: skip
        return
    rows = [
        [
            model.name,
            f"{model.parameters / 1e6:.2f} M",
            f"{model.image_size} px",
            where(model),
        ]
        for model in hub.known()
    ]
    report.say_table("", ["model", "parameters", "input", "weights"], rows)


def where(model: Model) -> str:
    """The path of the weights, or that they are not here."""
    if model.path is not None:
        return str(model.path)
    return "missing: reinstall sam2track" if model.repo is None else "not here; downloaded on first use"


@models.command()
def download(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a model.")]) -> None:
    """Download the weights of a model, unless they are here already, and print their path."""
    from sam2track import hub

    report.say(str(hub.find(name)))

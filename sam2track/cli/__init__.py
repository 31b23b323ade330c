"""The command line. Each command is a few lines over the public API.

Exit codes: 0 done, 1 failed, 2 wrong use (flags, config, prompts), 130 ended by Ctrl-C after finishing
the files written so far. An error is one line on standard error; ``--debug``, anywhere on the line,
shows its traceback.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from sam2track.cli.bench import bench
from sam2track.cli.compile import compile_
from sam2track.cli.convert import convert
from sam2track.cli.discover import discover
from sam2track.cli.doctor import doctor
from sam2track.cli.drift import drift
from sam2track.cli.eval import evaluate
from sam2track.cli.export import export
from sam2track.cli.live import live
from sam2track.cli.models import models
from sam2track.cli.options import UsageError
from sam2track.cli.process import keep_memory, print_any_name
from sam2track.cli.quantize import quantize
from sam2track.cli.render import render
from sam2track.cli.segment import segment
from sam2track.cli.session import INTERRUPTED
from sam2track.cli.track import track
from sam2track.cli.train import train
from sam2track.errors import ConfigError, PromptError, Sam2TrackError

FAILED, WRONG_USE = 1, 2

# Typer shows none of its own: newer ones carry a copy of click.
_TyperError, _TyperUsageError = typer.BadParameter.__mro__[2], typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="sam2track",
    help="Prompt an object once, and its mask follows it through a file, a camera or a stream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(track)
app.command()(live)
app.command()(render)
app.command()(segment)
app.command()(discover)
app.command("eval")(evaluate)
app.command()(convert)
app.add_typer(models, name="models")
app.command()(export)
app.command()(quantize)
app.command("compile")(compile_)
app.command()(doctor)
app.command()(bench)
app.command()(train)
app.command()(drift)


def _version(wanted: bool) -> None:
    if wanted:
        import sam2track

        typer.echo(f"sam2track {sam2track.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command; ``main`` has taken ``--debug`` off the line already."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and leave with its exit code, by ``SystemExit``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if arguments is None:  # this process is ours
        keep_memory()
        print_any_name()
    main_thread = threading.current_thread() is threading.main_thread()
    # A service that is stopped finishes its files too.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if main_thread else None
    try:
        code = app([argument for argument in given if argument != "--debug"], "sam2track", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001, the outermost border: every error becomes a line and a code
        if debug:
            traceback.print_exception(error)
        code, message = _account(error)
        print(f"sam2track: {message}", file=sys.stderr)  # noqa: T201
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    sys.exit(code if isinstance(code, int) else 0)


def _account(error: Exception) -> tuple[int, str]:
    """The exit code of an error, and its line."""
    if isinstance(error, _TyperError):
        from pydantic import ValidationError

        message = error.format_message() or "no command given"  # type: ignore[attr-defined]
        if isinstance(error.__cause__, ValidationError):  # newer ones say what was expected, and not what was given
            message = f"{message.rstrip('.')}, not {error.__cause__.errors()[0]['input']}"
        context = getattr(error, "ctx", None)
        help_hint = f"; see {context.command_path} --help" if context is not None else ""
        return WRONG_USE if isinstance(error, _TyperUsageError) else FAILED, f"{_line(message).rstrip('.')}{help_hint}"
    if isinstance(error, UsageError | ConfigError | PromptError):
        return WRONG_USE, _line(error)
    if isinstance(error, Sam2TrackError):
        return FAILED, _line(error)
    return FAILED, f"unexpected {type(error).__name__}: {_line(error)}; --debug shows where"


def _line(message: object) -> str:
    return " ".join(str(message).split())

"""``sam2track eval``: how well a model, or masks that exist, agree with the truth of a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.progress import Progress
from sam2track.cli.session import INTERRUPTED
from sam2track.errors import SinkError

if TYPE_CHECKING:
    from sam2track.config import Config
    from sam2track.evaluation import ClipScore

SETTINGS = "settings.json"  # in the folder of saved masks: what made them
MEASURES = {"jf": "J&F", "j": "J", "f": "F", "j_recall": "J recall", "f_recall": "F recall",
            "j_decay": "J decay", "f_decay": "F decay", "presence": "presence"}  # fmt: skip

SaveMasks = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Keep the predicted PNG there; sequences in it are not run again.")
]


def evaluate(  # noqa: PLR0913, a command's flags are its arguments
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    *,
    layout: Annotated[str, typer.Option(help="davis, ytvos (also MOSE and LVOS), sav or auto.")] = "auto",
    split: Annotated[str | None, typer.Option(help="Such as train or 2016/val. Default: val, if there is one.")] = None,
    sequences: Annotated[str | None, typer.Option(metavar="NAME[,NAME...]", help="Only these, of any split.")] = None,
    prompt: Annotated[str, typer.Option(help="What is given of an object's first mask: mask, click or box.")] = "mask",
    keep_ends: Annotated[bool, typer.Option("--keep-ends", help="Score first and last annotated frames too.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Score the PNG in it instead of running a model.")
    ] = None,
    save_masks: SaveMasks = None,
    report_file: Annotated[Path | None, typer.Option("--report", metavar="FILE.json", help="Scores to write.")] = None,
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
    """Score a model on a dataset: J, F and their mean, recall and decay, and whether objects are seen when there.

    Each object is prompted once, on its first annotated frame. First and last annotated frames are not scored,
    as in DAVIS. Ctrl-C reports the sequences that are finished and exits with 130.
    """
    from sam2track.cli.outputs import check_path, write_json

    if predictions is not None and any((save_masks, model, config, weights, image_size, device, pins, sets)):
        raise o.UsageError("--predictions scores masks that exist; leave out --save-masks and flags of the model")
    # A dataset decides how many objects there are.
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins,
                             sets=["tracking.max_objects=1024", *(sets or [])])  # fmt: skip
    if report_file is not None:
        check_path(report_file, o.model_files(config, settings), force=force)
    names = None if sequences is None else [name.strip() for name in sequences.split(",")]
    clips = st.open_dataset(dataset, layout=layout, split=split, sequences=names)
    facts: dict[str, Any] = {"dataset": str(dataset), "keep_ends": keep_ends}
    if predictions is not None:
        facts["predictions"] = str(predictions)
        done, interrupted = gather(st.score_masks(clips, predictions, keep_ends=keep_ends))
    else:
        made_by = {"prompt": prompt, **settings.model_dump(mode="json")}
        kept = claim(save_masks, made_by | made_from(dataset, settings)) if save_masks is not None else set()
        tracker = st.Tracker.load(settings)
        facts |= {**made_by, "image_size": tracker.sizes.image_size, "placement": tracker.placement}
        with Progress(sum(clip.frame_count for clip in clips if clip.name not in kept), quiet=quiet) as progress:
            scores = st.evaluate(clips, tracker, prompt=prompt, save_masks=save_masks, keep_ends=keep_ends,
                                 on_frame=lambda result: progress.frame(result.objects))  # fmt: skip
            done, interrupted = gather(scores)
    findings = {**facts, "interrupted": interrupted, **as_dict(done)}
    if report_file is not None:
        write_json(report_file, findings, indent=2)
    if as_json:
        report.say_json(findings)
    elif not quiet:
        say(done)
    if interrupted:
        if not quiet:
            report.note(f"interrupted after {len(done)} of {len(clips)} sequences")
        raise typer.Exit(INTERRUPTED)


def gather(scores: Iterator[ClipScore]) -> tuple[list[ClipScore], bool]:
    """The clips that get finished, and whether Ctrl-C came before the last."""
    done = []
    try:
        for clip in scores:
            done.append(clip)  # noqa: PERF402, what was gathered before Ctrl-C is kept
    except KeyboardInterrupt:
        return done, True
    return done, False


def as_dict(clips: list[ClipScore]) -> dict[str, Any]:
    """The scores for a program: the mean over all objects, then each sequence with its mean and objects."""
    return {
        "mean": _mean(clips),
        "sequences": {
            clip.name: {
                "frames": clip.frames,
                "mean": _mean([clip]),
                "objects": {str(i): score.as_dict() for i, score in clip.objects.items()},
            }
            for clip in clips
        },
    }


def say(clips: list[ClipScore]) -> None:
    """The scores as a table, one line an object."""
    rows = [[clip.name, str(i), *_values(score.as_dict())] for clip in clips for i, score in clip.objects.items()]
    mean = _mean(clips)
    if mean is not None:
        rows.append(["mean", str(len(rows)), *_values(mean)])
        report.say_table("", ["sequence", "object", *MEASURES.values()], rows)
    unscored = [clip.name for clip in clips if not clip.objects]
    if unscored:
        report.say(f"not scored, for want of annotated frames between the first and the last: {', '.join(unscored)}")


def made_from(dataset: Path, settings: Config) -> dict[str, str]:
    """What masks depend on beside the settings: where the dataset is, and hashes of the network's files.

    Raises:
        WeightsError: there is no such checkpoint.
        BackendError: the exported folder has no manifest, or a damaged one.
    """
    from sam2track.backends.manifest import Exported, hash_of
    from sam2track.backends.sources import Sources
    from sam2track.contracts import CONTRACTS

    made = {"dataset": str(dataset.resolve())}
    engines = {settings.components.pin(name).engine for name in CONTRACTS}  # type: ignore[arg-type]
    if settings.exported is not None and engines != {"torch"}:
        pins = {name: settings.components.pin(name).precision for name in CONTRACTS}  # type: ignore[arg-type]
        graphs = Exported.read(Path(settings.exported)).manifest.graphs
        # Those of another precision may come and go: they do not run.
        used = sorted(graph.model_dump_json() for graph in graphs if graph.precision in ("fp32", pins[graph.component]))
        made["graphs_sha256"] = hashlib.sha256("\n".join(used).encode()).hexdigest()
    if settings.exported is None or "torch" in engines:
        made["weights_sha256"] = hash_of(Sources(settings).checkpoint)
    return made


def claim(folder: Path, made_by: dict[str, Any]) -> set[str]:
    """Make ``folder`` the place of masks made by this; returns the sequences that it holds already.

    Raises:
        UsageError: it holds masks that something else made.
        SinkError: it cannot be made.
    """
    from sam2track.cli.outputs import write_json

    path = folder / SETTINGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = {item.name for item in folder.iterdir() if item.is_dir() and item.suffix != ".partial"}
        if held and (not path.is_file() or _content(path) != made_by):
            raise o.UsageError(
                f"{folder} holds masks made with other settings or weights, or of another dataset;"
                " give another folder, or empty it"
            )
        write_json(path, made_by, indent=2)
    except OSError as error:
        raise SinkError(f"folder {folder} cannot be used ({error.strerror}); choose one you can write") from error
    return held


def _content(path: Path) -> Any:
    """What a JSON file holds; None when it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _mean(clips: list[ClipScore]) -> dict[str, float] | None:
    scores = [score for clip in clips for score in clip.objects.values()]
    return st.mean_score(scores).as_dict() if scores else None


def _values(measures: dict[str, float]) -> list[str]:
    return [f"{measures[name]:.3f}" for name in MEASURES]

"""Starts a run: processors, data, starting weights and yardsticks put together."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from sam2track.contracts import CONTRACTS
from sam2track.errors import BackendError, ConfigError, SinkError, nearest
from sam2track.hub import find
from sam2track.network.variants import VARIANTS, Network
from sam2track.train.assets import load_assets
from sam2track.train.clips import make_clips
from sam2track.train.evaluate import held_out_scores
from sam2track.train.loop import WEIGHTS, Judge, Run, Trainer
from sam2track.train.supply import Supply, mixed

LOCK = ".lock"  # in a run's folder
CACHE = ".assets.pt"  # beside it, for all runs there
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


@dataclass(frozen=True, slots=True)
class Material:
    """What a run learns from and is measured by.

    Attributes:
        assets: folder or packed file of cut-outs and photos, for synthetic clips; some are held out as a yardstick.
        clips: dataset of annotated clips to learn from.
        split: of ``clips``; None: all of them.
        share: of real clips, where there are both.
        validate: dataset of annotated clips that is only tracked, for a score.
    """

    assets: Path | None = None
    clips: Path | None = None
    split: str | None = None
    share: float = 0.5
    validate: Path | None = None


def launch(
    run: Run,
    material: Material,
    *,
    device: str = "auto",
    devices: int = 1,
    say: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train ``run``, from its checkpoint if it has one.

    Args:
        run: what to do; a recipe for trained weights takes those of the model where the run names none.
        material: what to learn from.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        devices: how many of them; the batch of a step is that of the recipe times this.
        say: gets a line a report, in the first process.
        stop: asked now and then whether to end there, with a checkpoint.

    Raises:
        ConfigError: a setting that cannot be used, nothing to learn from, or a checkpoint of another recipe.
        SourceError: data that cannot be read.
        SinkError: the run's folder cannot be made or written, or another run is at work in it.
        WeightsError: starting weights or a checkpoint that cannot be used.
        BackendError: a device that is not there.
        Sam2TrackError: the loss is not finite any more.
    """
    _check(run)
    if material.assets is None and material.clips is None:
        raise ConfigError("nothing to learn from; give a folder of cut-outs and photos, or --clips DATASET")
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"folder {run.out} cannot be made ({error.strerror}); choose one you can write") from error
    fabric = processors(device, devices, run.precision)
    with _held(run.out, fabric):
        if run.weights is None and run.recipe.pretrained:
            with fabric.rank_zero_first():
                run = replace(run, weights=find(run.model))
        supply, judge = _data(run, material, fabric)
        trainer = Trainer(run, fabric, supply, judge, stop)
        if trainer.resume() and fabric.is_global_zero:
            say(f"resumed at step {trainer.step} of {run.recipe.steps}")
        trainer.train(say)


def processors(device: str, devices: int, precision: str) -> Fabric:
    """The processors of a run, launched: with several of them, every process returns from here."""
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(0|[1-9][0-9]?))?", device)
    if match is None or (match[2] is not None and (match[1] != "cuda" or devices > 1)):
        raise ConfigError(f"device {device!r} cannot train; use auto, cpu, cuda, or cuda:N with --devices 1")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is unknown to training{nearest(precision, PRECISIONS)}")
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # of 1 x 1 convolutions: nothing is slower
    strategy = "auto" if devices == 1 else DDPStrategy(find_unused_parameters=True)  # a stage may not use every part
    chosen = devices if match[2] is None else [int(match[2])]
    try:
        fabric = Fabric(accelerator=match[1], devices=chosen, strategy=strategy, precision=PRECISIONS[precision])  # type: ignore[arg-type]
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise BackendError(f"device {device!r} x {devices} is not here; use fewer, or --device cpu") from error
    fabric.launch()
    return fabric


@contextmanager
def _held(folder: Path, fabric: Fabric) -> Iterator[None]:
    """Keep other runs out of ``folder``: of two that write there, neither could be resumed."""
    lock, refusal = FileLock(folder / LOCK), ""
    if fabric.is_global_zero:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            refusal = f"another run is at work in {folder}; stop it or let it end, or give another --out"
        except OSError as error:
            refusal = f"folder {folder} cannot be written ({error.strerror}); choose one you can write"
    refusal = fabric.broadcast(refusal)
    if refusal:
        raise SinkError(refusal)
    try:
        yield
    finally:
        lock.release()


def _check(run: Run) -> None:
    if run.model not in VARIANTS:
        raise ConfigError(f"model {run.model!r} is unknown{nearest(run.model, VARIANTS)}")
    for name in run.frozen:
        if name not in CONTRACTS:
            raise ConfigError(f"component {name!r} cannot be frozen{nearest(name, CONTRACTS)}")
    if set(run.frozen) == set(CONTRACTS):
        raise ConfigError("all five components are frozen; leave one that learns")


def _data(run: Run, material: Material, fabric: Fabric) -> tuple[Supply, Judge]:
    """Where clips come from, and what the network is measured by."""
    supplies: list[Supply] = []
    judges: list[Judge] = []
    if material.assets is not None:
        with fabric.rank_zero_first():  # the first process fills the cache
            cache = run.out.parent / CACHE
            seen, held_out = (load_assets(material.assets, cache, held) for held in (False, True))
        supplies.append(partial(make_clips, seen.to(fabric.device)))
        judges.append(partial(held_out_scores, assets=held_out.to(fabric.device)))
    if material.clips is not None:
        from sam2track.datasets import open_dataset  # needs a video library, which a machine that only trains may lack
        from sam2track.train.footage import Footage

        supplies.append(Footage(open_dataset(material.clips, split=material.split), fabric.device))
    if material.validate is not None:
        judges.append(_on_footage(run, material.validate, str(fabric.device)))

    def judge(network: Network) -> dict[str, float]:
        return {name: value for each in judges for name, value in each(network).items()}

    return supplies[0] if len(supplies) == 1 else mixed(supplies[0], supplies[1], material.share), judge


def _on_footage(run: Run, folder: Path, device: str) -> Judge:
    from sam2track.datasets import open_dataset
    from sam2track.train.validate import footage_score

    clips = open_dataset(folder)

    def judge(network: Network) -> dict[str, float]:
        size = network.sizes.image_size
        return {"footage_jf": footage_score(clips, run.model, run.out / WEIGHTS, size, device)}

    return judge

"""``sam2track doctor``: what is installed, what runs where, and whether it works here."""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import typer

import sam2track as st
from sam2track.cli import options as o
from sam2track.cli import report
from sam2track.cli.bench import FULL_BANK, made_up, time_steps
from sam2track.errors import Sam2TrackError, SinkError

if TYPE_CHECKING:
    from sam2track.contracts import Components

PACKAGES = ("sam2track", "torch", "av", "numpy", "opencv-python", "supervision", "numba", "huggingface_hub",
            "onnxruntime", "onnxruntime-qnn")  # fmt: skip
CONTAINERS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif")
STEPS = 5


def doctor(
    model: o.Model = None,
    config: o.ConfigFile = None,
    weights: o.Weights = None,
    image_size: o.ImageSize = None,
    device: o.Device = None,
    pins: o.Pins = None,
    sets: o.Sets = None,
    as_json: o.Json = False,
) -> None:
    """Check this installation: versions, processors, video formats, and a timed step of the model.

    Exits with 1 when the model does not run or mp4 cannot be written and read.
    """
    settings = o.load_config(model, config, weights=weights, image_size=image_size, device=device, pins=pins, sets=sets)
    findings: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "video": {suffix: video_problem(suffix) or "ok" for suffix in CONTAINERS},
        "window": window_problem() or "ok",
        "model": timed_model(settings),
    }
    healthy = "problem" not in findings["model"] and findings["video"][".mp4"] == "ok"
    if as_json:
        report.say_json({"healthy": healthy, **findings})
    else:
        say(findings)
    if not healthy:
        raise typer.Exit(1)


def versions() -> dict[str, str]:
    """Package -> version, ``missing`` for what is optional and not installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def machine() -> dict[str, Any]:
    """What there is to compute with."""
    import torch

    cuda = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": cuda,
        "mps": torch.backends.mps.is_available(),
    }


def video_problem(suffix: str) -> str | None:
    """Why a video of this kind cannot be written and read back here; None when it can."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"probe{suffix}"
        frames = made_up((64, 64))
        try:
            with st.VideoWriter(path, rate=Fraction(25)) as out:
                for _ in range(3):
                    frame = next(frames)
                    out.write(st.Frame(frame.image, frame.index, Fraction(frame.index, 25)))
            with st.open_source(path) as source:
                count = sum(1 for _ in source)
        except Sam2TrackError as error:
            return str(error)
    return None if count == 3 else f"3 frames were written, {count} came back"


def window_problem() -> str | None:
    """Why no window can be opened; None when one can."""
    try:
        with st.Window("sam2track doctor"):
            return None
    except SinkError as error:
        return str(error).partition(";")[0]


def timed_model(settings: st.Config) -> dict[str, Any]:
    """Where each component of the model runs and what a frame costs, or the problem that keeps it from running."""
    import torch

    from sam2track import backends
    from sam2track.contracts import CONTRACTS

    try:
        components = backends.load(settings)
        watched = {name: Watched(getattr(components, name)) for name in CONTRACTS}
        tracker = st.Tracker(replace(components, **cast("dict[str, Any]", watched)), settings)
        stages = time_steps(tracker, made_up((360, 640)), objects=1, warmup=FULL_BANK, count=STEPS)
        for _ in range(STEPS):  # the only component that a step without prompts does not call
            watched["prompt_encoder"](torch.zeros(1, 1, 2), torch.ones(1, 1), None, None, None, None)
    except Sam2TrackError as error:
        return {"name": settings.model, "problem": str(error)}
    return {
        "name": tracker.name,
        "image_size": tracker.sizes.image_size,
        "placement": tracker.placement,
        "components": {name: account(name, components, each) for name, each in watched.items()},
        "stages": report.stages(stages),
    }


class Watched:
    """A component that keeps the durations of its last calls, and where its last output lies."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.device = ""
        self.seconds: deque[float] = deque(maxlen=STEPS)

    def __call__(self, *tensors: Any) -> Any:
        """Call the component."""
        start = perf_counter()
        output = self._call(*tensors)
        self.seconds.append(perf_counter() - start)
        self.device = str((output[0] if isinstance(output, tuple) else output).device)
        return output


def account(name: str, components: Components, watched: Watched) -> dict[str, Any]:
    """Where a component ran, how that is known, and what it cost.

    The tensors that torch gives lie where they were computed. An NPU gives its results to the host, so there the
    runtime's own account counts, on which the placement stands.
    """
    import numpy as np

    engine, device, precision = place_of(components.placement[name])
    evidence = components.evidence.get(name)
    median, p99 = np.quantile(np.array(watched.seconds) * 1000, (0.5, 0.99))
    return {
        "engine": engine,
        "device": watched.device if engine == "torch" else device,
        "precision": precision,
        "proof": f"gave tensors on {watched.device}" if engine == "torch" or evidence is None else evidence.proof,
        "load_s": None if evidence is None else round(evidence.load_seconds, 3),
        "median_ms": round(float(median), 3),
        "p99_ms": round(float(p99), 3),
    }


def say(findings: dict[str, Any]) -> None:
    """The findings as text."""
    facts = findings["machine"]
    report.say_table(
        "versions", ["package", "version"], [[name, found] for name, found in findings["versions"].items()]
    )
    cuda = ", ".join(facts["cuda"]) or "none"
    report.say(f"\n{facts['system']}, {facts['cpus']} CPUs, {facts['torch_threads']} torch threads; CUDA: {cuda}\n")
    report.say_table("video", ["written and read", ""], [[name, state] for name, state in findings["video"].items()])
    report.say(f"\nwindow: {findings['window']}\n")
    model = findings["model"]
    if "problem" in model:
        report.say(f"model {model['name']} does not run: {model['problem']}")
        return
    report.say_table(
        f"model {model['name']} at {model['image_size']} px",
        ["component", "engine", "device", "precision", "load s", "median ms", "p99 ms", "proof"],
        [
            [name, each["engine"], each["device"], each["precision"], "" if each["load_s"] is None
             else f"{each['load_s']:.2f}", f"{each['median_ms']:.2f}", f"{each['p99_ms']:.2f}", each["proof"]]
            for name, each in model["components"].items()
        ],
    )  # fmt: skip
    report.say_table(
        "\none object, one step",
        ["stage", "median ms", "p99 ms"],
        [[name, f"{t['median_ms']:.2f}", f"{t['p99_ms']:.2f}"] for name, t in model["stages"].items()],
    )


def place_of(placement: str) -> tuple[str, str, str]:
    """``engine:device:precision`` in its parts; the device may be ``cuda:1``."""
    engine, rest = placement.split(":", 1)
    device, precision = rest.rsplit(":", 1)
    return engine, device, precision

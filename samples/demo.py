"""What ``make demo`` runs: track the objects of a sample clip with the bundled model and compare with the truth.

python samples/demo.py [NAME]    NAME is goldfish, ball, koi or coffee
"""

from __future__ import annotations

import sys
import time
import tomllib
from pathlib import Path

import numpy as np

import sam2track as st
from sam2track.masks.metrics import iou

SAMPLES = Path(__file__).parent
DEFAULT = "goldfish"


def main(name: str = DEFAULT, out: Path = Path("out")) -> dict[int, float]:
    """Track, write overlay and masklets into ``out``, print the figures; returns each object's mean IoU."""
    clip, truth = SAMPLES / f"{name}.mp4", SAMPLES / f"{name}.masklets.jsonl"
    if not clip.is_file():
        clips = ", ".join(sorted(path.stem for path in SAMPLES.glob("*.mp4")))
        raise SystemExit(f"sample {name!r} does not exist; expected one of {clips}")
    out.mkdir(parents=True, exist_ok=True)
    masklets, overlay = out / f"{name}.masklets.jsonl", out / f"{name}_overlay.mp4"
    tracker = st.Tracker.load("nano")
    started = time.perf_counter()
    scores: dict[int, list[float]] = {}
    with (
        st.open_source(clip) as video,
        st.MaskletWriter(masklets, source=video, model=tracker.name) as lines,
        st.VideoWriter(overlay, like=video) as picture,
    ):
        run = st.track(video, tracker, {0: first_boxes(SAMPLES / f"{name}.toml")})
        for (frame, result), true in zip(run, st.read_masklets(truth), strict=True):
            lines.write(result)
            picture.write(st.overlay(frame, result))
            for i, prediction in result.objects.items():
                scores.setdefault(i, []).append(iou(prediction.mask, true.objects[i].mask))
    seconds = time.perf_counter() - started
    means = {i: float(np.mean(each)) for i, each in scores.items()}
    report(means, len(scores[next(iter(scores))]) / seconds)
    print(f"overlay   {overlay}\nmasklets  {masklets}")
    return means


def first_boxes(path: Path) -> dict[int, st.Prompt]:
    """The prompts of the first frame."""
    entries = tomllib.loads(path.read_text())["prompts"]
    return {entry["object"]: st.Prompt(box=entry["box"]) for entry in entries}


def report(means: dict[int, float], rate: float) -> None:
    """Print what was measured; an empty mask counts as right where the object is hidden."""
    for i, mean in means.items():
        print(f"object {i}  IoU with the truth {mean:.3f} (mean of all frames)")
    print(f"speed     {rate:.1f} frames a second, from file to file")


if __name__ == "__main__":
    main(*sys.argv[1:2])

"""Memory of a long stream: frames through the engine, several objects, regular corrections.

    python -m benchmarks.bounded --frames 3000 --objects 4 --correct-every 100

Prints resident memory along the way and how much it grew after the warm-up.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

import sam2track as st

HEIGHT, WIDTH = 360, 640
WARM_UP = 300


def resident() -> float:
    """Resident MB of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def stream(count: int, objects: int) -> Iterator[st.Frame]:
    """Bright squares that drift over noise."""
    noise = np.random.default_rng(0).integers(0, 80, (HEIGHT, WIDTH, 3), np.uint8)
    for index in range(count):
        image = np.roll(noise, index, axis=1)
        for i in range(objects):
            x, y = square(index, i)
            image[y : y + 60, x : x + 60] = (200, 60 * i, 255 - 60 * i)
        yield st.Frame(image, index, Fraction(index, 30))


def square(index: int, i: int) -> tuple[int, int]:
    """Corner of square ``i`` on frame ``index``."""
    return (index * (i + 1) + 140 * i) % (WIDTH - 60), 20 + 80 * i % (HEIGHT - 80)


def prompts(count: int, objects: int, every: int) -> dict[int, dict[int, st.Prompt]]:
    """A box for each object on the first frame, and on every ``every``-th a click."""
    schedule: dict[int, dict[int, st.Prompt]] = {0: {}}
    for i in range(objects):
        x, y = square(0, i)
        schedule[0][i] = st.Prompt(box=(x, y, x + 60, y + 60))
    for index in range(every, count, every):
        corners = {i: square(index, i) for i in range(objects)}
        schedule[index] = {i: st.Prompt(points=[(x + 30, y + 30)]) for i, (x, y) in corners.items()}
    return schedule


def main() -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--correct-every", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the samples here as JSON")
    args = parser.parse_args()
    tracker = st.Tracker.load(args.model)
    schedule = prompts(args.frames, args.objects, args.correct_every)
    samples: dict[int, float] = {}
    with st.track(stream(args.frames, args.objects), tracker, schedule) as run:
        for frame, result in run:
            st.overlay(frame, result)
            if frame.index % 100 == 0 or frame.index == args.frames - 1:
                samples[frame.index] = resident()
                print(f"frame {frame.index:5d}: {samples[frame.index]:7.1f} MB", flush=True)
        rate = run.throughput
    after = [mb for index, mb in samples.items() if index >= WARM_UP]
    end, peak = after[-1] - after[0], max(after) - after[0]
    print(
        f"{args.model}, {args.objects} objects, {rate:.1f} frames/s; since frame {WARM_UP}: "
        f"{end:+.1f} MB at the end, {peak:+.1f} MB at most"
    )
    if args.json:
        report = {"samples": samples, "end_mb": end, "peak_mb": peak, "frames_per_second": rate}
        args.json.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()

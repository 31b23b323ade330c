"""What the command line sets of its own process."""

import os
import subprocess
import sys

import pytest
import torch

from sam2track.backends import rows
from sam2track.cli.process import _CHOICES, share_cores

ROUNDS = """
import resource, sys
import numpy as np
from sam2track.cli.process import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
def round():  # as a frame: a few larger buffers, and none of them left
    buffers = [np.empty(8 << 20, np.uint8) for _ in range(5)]
    for buffer in buffers:
        buffer.fill(1)
round(), round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    round()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 10 * 5 * (8 << 20) // 4096  # of all rounds


def faults(what: str, **environment: str) -> int:
    """Pages that the system had to hand out and clear in ten rounds."""
    chosen = {name: value for name, value in os.environ.items() if not name.startswith(_CHOICES)} | environment
    command = [sys.executable, "-c", ROUNDS, what]
    return int(subprocess.run(command, env=chosen, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is of Linux")
def test_memory_is_kept_from_frame_to_frame():
    assert faults("leave") > PAGES // 8
    assert faults("keep") < PAGES // 100
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > PAGES // 8, "the environment decides"


@pytest.mark.parametrize(
    ("model", "environment", "expected"),
    [
        ("nano", {}, 2),
        ("sam2.1-tiny", {}, 4),
        ("nano", {"OMP_NUM_THREADS": "4"}, 4),
        ("nano", {"MKL_NUM_THREADS": "4"}, 4),
    ],
)
def test_a_small_model_gets_half_of_the_cores(model, environment, expected, monkeypatch):
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(4)
    try:
        share_cores(model)
        assert torch.get_num_threads() == expected
        assert rows._count == (1 if expected < 4 else 0)
    finally:
        torch.set_num_threads(before)
        rows.set_helpers(0)

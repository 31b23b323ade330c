"""What a command line may set of its own process, and a library may not: memory, threads and what it prints."""

from __future__ import annotations

import ctypes
import io
import os
import sys

SMALL = ("nano",)  # models whose operations are too short to be shared by all cores
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # of mallopt, malloc.h
_LARGEST_THRESHOLD = 32 << 20  # that glibc takes
_CHOICES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_memory() -> None:
    """Have glibc keep freed memory for the next frame, which needs as much, rather than fetch it anew each time.

    By default it returns every larger buffer to the system, which then has to clear it for the next one. Nothing
    happens under another C library, nor where the environment chose an allocator or set this one up.
    """
    if sys.platform != "linux" or any(name.startswith(_CHOICES) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_ARENA_MAX, 1)  # what one thread freed serves another


def print_any_name() -> None:
    """Have the name of a file that is no text, such as one not in UTF-8, printed byte by byte, as ``ls`` does.

    What the user chose with ``PYTHONIOENCODING`` stays.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")


def share_cores(model: str) -> None:
    """Give an operation of a small model half of the cores: encoding a frame and tracking in the one before overlap.

    A second thread helps to track where there are several objects. A larger model is faster with all cores on either.
    ``OMP_NUM_THREADS`` or ``MKL_NUM_THREADS`` decide if set.
    """
    if model not in SMALL or "OMP_NUM_THREADS" in os.environ or "MKL_NUM_THREADS" in os.environ:
        return
    import torch

    from sam2track.backends.rows import set_helpers

    cores = torch.get_num_threads()
    if cores > 1:
        torch.set_num_threads(cores // 2)
        set_helpers(1)

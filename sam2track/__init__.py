"""sam2track: prompt an object once, and its mask follows it through a file, a camera or a stream.

>>> import sam2track as st
>>> tracker = st.Tracker.load("nano")
>>> result = tracker.step(frame, {1: st.Prompt(points=[(510, 320)])})

Names load on first use, so that what needs no network (rendering a masklet file, ``--help``) does not
wait for one to import.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2track.config import Config
    from sam2track.data import Frame, FrameResult, Prediction, Prompt
    from sam2track.datasets import open_dataset
    from sam2track.discovery import Discoverer, DiscoveryRules, discover
    from sam2track.engine import Run, track
    from sam2track.errors import (
        BackendError,
        ConfigError,
        MaskletError,
        PromptError,
        Sam2TrackError,
        SinkError,
        SourceError,
        WeightsError,
    )
    from sam2track.evaluation import evaluate, score_masks
    from sam2track.masks.formats import convert
    from sam2track.masks.masklets import MaskletWriter, read_masklets
    from sam2track.masks.scores import mean_score
    from sam2track.render import overlay
    from sam2track.sessions import Budget, Session
    from sam2track.stills import ImageSegmenter, MaskRules, StillResult, segment
    from sam2track.timing import Timings
    from sam2track.tracker import Tracker
    from sam2track.video import Camera, Recording, Source, VideoWriter, open_recording, open_source
    from sam2track.window import Window

_HOMES = {
    "config": ("Config",),
    "data": ("Frame", "FrameResult", "Prediction", "Prompt"),
    "datasets": ("open_dataset",),
    "discovery": ("Discoverer", "DiscoveryRules", "discover"),
    "engine": ("Run", "track"),
    "errors": (
        "BackendError",
        "ConfigError",
        "MaskletError",
        "PromptError",
        "Sam2TrackError",
        "SinkError",
        "SourceError",
        "WeightsError",
    ),
    "evaluation": ("evaluate", "score_masks"),
    "masks.formats": ("convert",),
    "masks.masklets": ("MaskletWriter", "read_masklets"),
    "masks.scores": ("mean_score",),
    "render": ("overlay",),
    "stills": ("ImageSegmenter", "MaskRules", "StillResult", "segment"),
    "sessions": ("Budget", "Session"),
    "timing": ("Timings",),
    "tracker": ("Tracker",),
    "video": ("Camera", "Recording", "Source", "VideoWriter", "open_recording", "open_source"),
    "window": ("Window",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = version("sam2track")
__all__ = [
    "BackendError",
    "Budget",
    "Camera",
    "Config",
    "ConfigError",
    "Discoverer",
    "DiscoveryRules",
    "Frame",
    "FrameResult",
    "ImageSegmenter",
    "MaskRules",
    "MaskletError",
    "MaskletWriter",
    "Prediction",
    "Prompt",
    "PromptError",
    "Recording",
    "Run",
    "Sam2TrackError",
    "Session",
    "SinkError",
    "Source",
    "SourceError",
    "StillResult",
    "Timings",
    "Tracker",
    "VideoWriter",
    "WeightsError",
    "Window",
    "convert",
    "discover",
    "evaluate",
    "mean_score",
    "open_dataset",
    "open_recording",
    "open_source",
    "overlay",
    "read_masklets",
    "score_masks",
    "segment",
    "track",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sam2track' has no attribute {name!r}")
    value = getattr(import_module(f"sam2track.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

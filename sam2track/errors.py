"""The error tree.

    Sam2TrackError
    ├── PromptError (ValueError)    a prompt, object id or frame that cannot be used
    ├── ConfigError (ValueError)    a config file, flag or setting that cannot be used
    ├── WeightsError                a checkpoint that is missing, damaged or of another model
    ├── BackendError                a component that cannot run where it was pinned
    ├── SourceError                 a video, camera or stream that cannot be read
    ├── SinkError                   an output that cannot be written
    └── MaskletError                a masklet file that cannot be read

Every message is one line: the value found, what was expected, and the remedy. Errors of other
libraries are translated once, where they enter, and kept as ``__cause__``.
"""

import difflib
from collections.abc import Iterable


class Sam2TrackError(Exception):
    """Base of every error this package raises on purpose."""


class PromptError(Sam2TrackError, ValueError):
    """A prompt, an object id or a frame that cannot be used."""


class ConfigError(Sam2TrackError, ValueError):
    """A config file, a flag or a setting that cannot be used."""


class WeightsError(Sam2TrackError):
    """A checkpoint that is missing, damaged, or belongs to another model."""


class BackendError(Sam2TrackError):
    """A component that cannot run on the processor it was pinned to."""


class SourceError(Sam2TrackError):
    """A video file, image folder, camera or stream that cannot be read."""


class SinkError(Sam2TrackError):
    """A video or a file that cannot be written."""


class MaskletError(Sam2TrackError):
    """A masklet file that cannot be read."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """``"; did you mean 'x'? Valid: ..."``: the end of a message about an unknown word."""
    choices = tuple(valid)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{guess} {'Valid' if close else 'valid'}: {', '.join(choices)}"

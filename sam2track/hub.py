"""Where weights come from: the package itself, a file, the Hugging Face cache, or a download into it.

``find`` answers without the network whenever the file is on this machine. What goes wrong becomes a
one-line ``WeightsError`` that says how to do without the download.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from sam2track.errors import WeightsError, nearest

# The base of connection errors, which are no OSError since huggingface_hub 1.
_NetworkError: type[Exception] = getattr(huggingface_hub.errors, "HTTPError", OSError)


@dataclass(frozen=True, slots=True)
class Model:
    """A published model.

    Attributes:
        name: what ``Tracker.load`` and ``--model`` call it.
        parameters: number of learned parameters.
        image_size: side of the square input it was trained for, in pixels.
        repo: Hugging Face repository; None for the bundled model.
        file: the checkpoint's name, in the repository or in ``sam2track/weights``.
    """

    name: str
    parameters: int
    image_size: int
    repo: str | None
    file: str

    @property
    def path(self) -> Path | None:
        """Where the weights are on this machine; None when they are not."""
        if self.repo is None:
            bundled = Path(str(files("sam2track"))) / "weights" / self.file
            return bundled if bundled.is_file() else None
        cached = huggingface_hub.try_to_load_from_cache(self.repo, self.file)
        return Path(cached) if isinstance(cached, str) else None


def _official(family: str, size: str, parameters: int) -> Model:
    stem = f"{family.replace('-', '_')}_hiera_{size.replace('-', '_')}"
    return Model(f"{family}-{size}", parameters, 1024, f"facebook/{family}-hiera-{size}", f"{stem}.pt")


_MODELS = {
    model.name: model
    for model in (
        Model("nano", 4_581_282, 320, None, "nano.safetensors"),
        _official("sam2.1", "tiny", 38_962_498),
        _official("sam2.1", "small", 46_060_354),
        _official("sam2.1", "base-plus", 80_850_178),
        _official("sam2.1", "large", 224_446_642),
        _official("sam2", "tiny", 38_945_986),
        _official("sam2", "small", 46_043_842),
        _official("sam2", "base-plus", 80_833_666),
        _official("sam2", "large", 224_430_130),
    )
}


def known() -> list[Model]:
    """The published models, the bundled one first."""
    return list(_MODELS.values())


def is_cached(name: str) -> bool:
    """Whether the weights of a published model are on this machine. Raises ``WeightsError`` for another name."""
    return _model(name).path is not None


def find(name_or_path: str | Path) -> Path:
    """The checkpoint of a model name, or a file as it is; an official model that is not here is downloaded.

    The download shows its progress when standard error is a terminal, and is kept in the Hugging Face cache.

    Raises:
        WeightsError: an unknown name, a missing file, or a download that failed.
    """
    if str(name_or_path) not in _MODELS and Path(name_or_path).is_file():
        return Path(name_or_path)
    model = _model(str(name_or_path))
    return model.path or _download(model)


def _model(name: str) -> Model:
    model = _MODELS.get(name)
    if model is None:
        raise WeightsError(f"weights {name!r} are neither a file nor a model{nearest(name, _MODELS)}")
    return model


def _download(model: Model) -> Path:
    if model.repo is None:
        raise WeightsError(f"bundled weights {model.file} are missing from this installation; reinstall sam2track")
    url = huggingface_hub.hf_hub_url(model.repo, model.file)
    try:
        huggingface_hub.get_hf_file_metadata(url)  # fails at once where the download would retry for half a minute
        return Path(huggingface_hub.hf_hub_download(model.repo, model.file))
    except (OSError, RuntimeError, EntryNotFoundError, _NetworkError) as error:  # RuntimeError: of the hf_xet library
        raise WeightsError(
            f"weights of {model.name} could not be downloaded: {_reason(error)}; get {url} elsewhere and give the"
            f' file: --weights {model.file} (in a config: weights = "{model.file}")'
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, HfHubHTTPError) and getattr(error, "response", None) is not None:
        status = error.response.status_code
        words = {401: "access refused, or no such repository", 403: "access refused", 404: "not found", 429: "too busy"}
        return f"the server answered {status} ({words.get(status, 'server error')})"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, LocalEntryNotFoundError | _NetworkError) and not isinstance(error, HfHubHTTPError):
        return f"no connection ({_first_line(error.__cause__ or error)})"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

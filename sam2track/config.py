"""What a user may set: the model, where its components run, the memory and the tracking rules.

A ``Config`` is frozen and checked when it is built; unknown keys are refused. It comes from a model
name, a preset name (``cpu``, ``cuda``, ``quality``), a TOML file or keywords, and every problem is a
one-line ``ConfigError`` that names the place, the key, the value and what was expected.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError
from pydantic.fields import FieldInfo

from sam2track import chips
from sam2track.errors import ConfigError, nearest
from sam2track.pins import Pin

OFFICIAL_MODELS = tuple(
    f"{family}-{size}" for family in ("sam2.1", "sam2") for size in ("tiny", "small", "base-plus", "large")
)
MODELS = ("nano", *OFFICIAL_MODELS)
PERFORMANCE = (  # modes of the NPU runtime
    "burst", "sustained_high_performance", "high_performance", "balanced", "low_balanced", "default",
    "high_power_saver", "power_saver", "low_power_saver", "extreme_power_saver",
)  # fmt: skip
MAX_BYTES = 1_000_000
MAX_SHOWN = 100  # characters of a value in a message

ComponentName = Literal["image_encoder", "prompt_encoder", "memory_attention", "mask_decoder", "memory_encoder"]


def _pin(value: object) -> object:
    return Pin.parse(value) if isinstance(value, str) else value


def _known_model(name: str) -> str:
    if name not in MODELS:
        raise ConfigError(f"model {name!r} is unknown{nearest(name, MODELS)}")
    return name


def _a_path(text: str) -> str:
    if not text or "\0" in text:  # empty is a variable nobody set
        raise ValueError("expected a path")
    return text


_A_PIN = "a pin in quotes, such as 'torch:cuda:fp16'"
PathText = Annotated[str, AfterValidator(_a_path)]
PinText = Annotated[InstanceOf[Pin], BeforeValidator(_pin)]


class _Table(BaseModel):
    """A TOML table: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class ComponentsTable(_Table):
    """Where each network component runs; a component that is not named runs where ``default`` says."""

    default: PinText = Field(default=Pin(), description=_A_PIN)
    image_encoder: PinText | None = Field(default=None, description=_A_PIN)
    prompt_encoder: PinText | None = Field(default=None, description=_A_PIN)
    memory_attention: PinText | None = Field(default=None, description=_A_PIN)
    mask_decoder: PinText | None = Field(default=None, description=_A_PIN)
    memory_encoder: PinText | None = Field(default=None, description=_A_PIN)

    def pin(self, component: ComponentName) -> Pin:
        """The pin of ``component``: its own, or the default."""
        own: Pin | None = getattr(self, component)
        return self.default if own is None else own


class MemoryTable(_Table):
    """How much of the past an object keeps.

    Attributes:
        prompted: prompted frames kept, the first and the newest (1 to 64).
        recent: latest frames kept (0 to 6; the models know temporal codes for 6).
        pointers: frames an object pointer is looked back for, this one included (1 to 64).
        keep_corrections: a corrected frame becomes a prompted frame; False, as the official default,
            leaves it an ordinary recent frame.
    """

    prompted: int = Field(default=4, ge=1, le=64, description="an integer from 1 to 64")
    recent: int = Field(default=6, ge=0, le=6, description="an integer from 0 to 6")
    pointers: int = Field(default=16, ge=1, le=64, description="an integer from 1 to 64")
    keep_corrections: bool = Field(default=True, description="true or false")


class TrackingTable(_Table):
    """Rules of the tracker.

    Attributes:
        max_objects: objects tracked at once (1 to 1024).
        visible_above: object score (a logit) above which an object counts as visible.
        fill_holes: holes and specks of at most this many low-resolution pixels are removed; 0 leaves them.
    """

    max_objects: int = Field(default=16, ge=1, le=1024, description="an integer from 1 to 1024")
    visible_above: float = Field(default=0.0, allow_inf_nan=False, description="a finite number")
    fill_holes: int = Field(default=8, ge=0, description="an integer of pixels, 0 or more")


def _chip(value: object) -> object:
    return chips.find(value).name if isinstance(value, str | int) and not isinstance(value, bool) else value


def _mode(value: str) -> str:
    if value not in PERFORMANCE:
        raise ConfigError(f"performance mode {value!r} is unknown{nearest(value, PERFORMANCE)}")
    return value


class QnnTable(_Table):
    """The engine qnn, which runs graphs on a Qualcomm NPU.

    Attributes:
        soc: the chip, by name, part or ``soc_model`` number (``chips.CHIPS``). Graphs compiled for it are loaded in
            place of the plain ones, and it is what the emulator emulates; None leaves an NPU to find out itself.
        performance: the runtime's performance mode, one of ``PERFORMANCE``.
    """

    soc: Annotated[str | None, BeforeValidator(_chip)] = Field(
        default=None, description="a chip such as 'x-elite', or its soc_model number"
    )
    performance: Annotated[str, AfterValidator(_mode)] = Field(
        default="burst", description="a performance mode, in quotes"
    )


class Config(_Table):
    """Everything that decides how a tracker is built.

    Attributes:
        model: a name of ``MODELS``.
        weights: path of an own checkpoint of that model; None takes the published one.
        image_size: side of the model's input in pixels, a multiple of 32 in [64, 2048]; None is the model's own.
        exported: folder made by ``sam2track export``, read by the engines onnx and qnn; None makes one in the user's
            cache when it is needed.
        components: where each component runs.
        memory: how much of the past an object keeps.
        tracking: rules of the tracker.
        qnn: the engine qnn.

    Raises:
        ConfigError: an unknown key or a value that cannot be used.
    """

    model: Annotated[str, AfterValidator(_known_model)] = Field(
        default="nano", description="the name of a model, in quotes"
    )
    weights: PathText | None = Field(default=None, description="the path of a checkpoint, in quotes")
    image_size: int | None = Field(
        default=None, ge=64, le=2048, multiple_of=32, description="a multiple of 32 from 64 to 2048"
    )
    exported: PathText | None = Field(default=None, description="the path of an exported folder, in quotes")
    components: ComponentsTable = ComponentsTable()
    memory: MemoryTable = MemoryTable()
    tracking: TrackingTable = TrackingTable()
    qnn: QnnTable = QnnTable()

    if not TYPE_CHECKING:  # type checkers keep the signature that pydantic makes

        def __init__(self, **values: object) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(_explain(error, "config", frozenset())) from error

    @classmethod
    def load(
        cls,
        source: str | Path | Config = "nano",
        *,
        weights: str | Path | None = None,
        image_size: int | None = None,
        device: str | None = None,
        set: Mapping[str, object] | None = None,  # noqa: A002, the word of the command line
        pin: Mapping[str, str] | None = None,
    ) -> Config:
        """A config from a model name, a preset name, a TOML file or a ``Config``, then the overrides.

        Args:
            source: ``"sam2.1-tiny"``, ``"cuda"``, ``"mine.toml"`` or a ``Config``. A relative ``weights``
                or ``exported`` inside a file is relative to that file.
            weights: path of a checkpoint.
            image_size: side of the model's input in pixels.
            device: device of the default pin; components that have a pin of their own keep it.
            set: dotted key -> value, such as ``{"memory.recent": 4}``.
            pin: component (or ``default``) -> ``engine[:device[:precision]]``.

        Raises:
            ConfigError: the source does not exist, is not TOML, or holds a key or value that cannot be used.
        """
        values, place = _read(source)
        overrides: dict[str, object] = dict(set or {})
        overrides |= {f"components.{component}": text for component, text in (pin or {}).items()}
        if weights is not None:
            overrides["weights"] = str(weights)
        if image_size is not None:
            overrides["image_size"] = image_size
        for key, value in overrides.items():
            _put(values, key, value)
        config = _checked(values, place, frozenset(overrides))
        return config if device is None else config._on(device)

    def _on(self, device: str) -> Config:
        default = self.components.default
        moved = Pin(default.engine, device, default.precision)
        components = self.components.model_copy(update={"default": moved})
        return self.model_copy(update={"components": components})


def presets() -> dict[str, Path]:
    """The configs that ship with the package, by name."""
    package = Path(__file__).parent
    folders = (package / "configs", package.parent / "configs")  # the wheel; a checkout or editable install
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return {} if folder is None else {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _read(source: str | Path | Config) -> tuple[dict[str, Any], str]:
    """The raw values of ``source``, and the name errors call it by."""
    if isinstance(source, Config):
        return _plain(source), "config"
    if source in MODELS:
        return {"model": source}, "config"
    known = presets()
    path = _home(Path(source))
    if path.suffix in {".pt", ".pth", ".safetensors"}:
        raise ConfigError(f"{path} is a checkpoint, not a config; give its model's name, and the file as weights")
    if path.suffix != ".toml" and not os.path.isfile(path):  # unlike Path's, false for any odd name
        if str(source) not in known:
            raise ConfigError(
                f"{str(source)!r} is no model, preset or config file{nearest(str(source), (*MODELS, *known))}"
            )
        path = known[str(source)]
    values = _read_toml(path)
    for key in ("weights", "exported"):
        if isinstance(values.get(key), str):
            values[key] = str(path.parent / _home(Path(values[key])))  # an absolute path stays as it is
    return values, str(path)


def _home(path: Path) -> Path:
    """``path`` with its ``~`` resolved."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} is in the home of a user who is not here; give the whole path") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise ConfigError(f"config {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"config {path} is larger than 1 MB; expected a short TOML file")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested too deep
        raise ConfigError(f"config {path} is not TOML: {' '.join(str(error).split())}") from error


def _plain(config: Config) -> dict[str, Any]:
    """``config`` as the nested dict it could have been read from."""
    tables = {key: dict(value) if isinstance(value, _Table) else value for key, value in config}
    return cast("dict[str, Any]", tables)


def _put(values: dict[str, Any], key: str, value: object) -> None:
    """Set the dotted ``key`` in the nested ``values``."""
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {key}: {table!r} is not a table{nearest(table, Config.model_fields)}")
    values[last] = value


def _checked(values: dict[str, Any], place: str, overridden: frozenset[str]) -> Config:
    try:
        return Config(**values)
    except ConfigError as error:
        if isinstance(error.__cause__, ValidationError):
            raise ConfigError(_explain(error.__cause__, place, overridden)) from error.__cause__
        raise


def _explain(error: ValidationError, place: str, overridden: frozenset[str]) -> str:
    """The first problem of ``error`` in one line: place, key, value, what was expected."""
    problem = error.errors(include_url=False)[0]
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    where = "override" if key in overridden else f"{place}:"
    siblings = _fields(path[:-1])
    if problem["type"] == "extra_forbidden":
        return f"{where} unknown key {key!r}{nearest(path[-1], siblings)}"
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return f"{where} {key}: {cause}"
    expected = siblings[path[-1]].description or "a table"
    return f"{where} {key} = {_shown(problem['input'])}; expected {expected}"


def _shown(value: object) -> str:
    """``value`` for a message, cut where it is absurdly long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "an integer of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _fields(path: list[str]) -> Mapping[str, FieldInfo]:
    """The keys of the table at ``path``."""
    table: type[BaseModel] = Config
    for key in path:
        annotation = table.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        table = annotation
    return table.model_fields

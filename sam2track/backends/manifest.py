"""A folder of exported graphs and its ``manifest.json``: what it holds, of which model, with every file's hash.

The folder may come from anywhere, so it is read as untrusted: the manifest is short and strictly
checked, its files lie in the folder itself, and a graph is handed out only after its hash was compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sam2track.config import Config, MemoryTable
from sam2track.contracts import ComponentName, Sizes
from sam2track.errors import BackendError, ConfigError
from sam2track.files import written_whole

NAME = "manifest.json"
LOCK = f".{NAME}.lock"
MAX_BYTES = 1_000_000


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)) or values[0] < 1:
        raise ValueError(f"{list(values)} do not ascend from at least 1")
    return values


Buckets = Annotated[tuple[int, ...], Field(min_length=1, max_length=16), AfterValidator(_ascending)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Room(_Table):
    """How much the graphs take; what is used less is padded.

    Attributes:
        slots: memory slots (N) of the graphs of memory attention, one graph each, ascending.
        pointers: object pointers (K) of each of them.
        points: prompt points (P) of the graphs of prompt encoder (the last) and mask decoder (each), ascending.
    """

    slots: Buckets = Field(default=(1, 3, 7, 10), description="numbers from 1 on that ascend, at most 16")
    pointers: int = Field(default=19, ge=1, le=1024, description="a number from 1 to 1024")
    points: Buckets = Field(default=(1, 8), description="a number from 1 on")

    @classmethod
    def of(cls, memory: MemoryTable, slots: tuple[int, ...] = (), pointers: int | None = None, points: int = 8) -> Room:
        """The room that ``memory`` can need, in the usual buckets, but for what is given.

        Raises:
            ConfigError: slots that do not ascend, or a count below 1.
        """
        most = memory.prompted + memory.recent
        try:
            return cls(
                slots=slots or (*(n for n in (1, 3, 7) if n < most), most),
                pointers=memory.prompted + memory.pointers - 1 if pointers is None else pointers,
                points=(1, points) if points != 1 else (1,),
            )
        except ValidationError as error:
            key = str(error.errors(include_url=False, include_context=False)[0]["loc"][0])
            given = {"slots": slots, "pointers": pointers, "points": points}[key]
            raise ConfigError(f"{key} is {given}; expected {cls.model_fields[key].description}") from error


class File(_Table):
    """One file of the folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")  # no folder: it lies beside the manifest
    sha256: Sha256
    bytes: int = Field(ge=1)


class Graph(_Table):
    """One graph of static shape.

    Attributes:
        component: whose graph it is.
        precision: ``fp32`` as exported, or of a quantised or compiled variant.
        bucket: memory slots or prompt points it takes; 0 where the component has no buckets.
        soc: the chip it was compiled for; None for a portable graph.
        source: of a compiled graph, the hash of the graph it was made from; ``runtime`` the versions that made it.
        files: the graph, then the files it refers to.
        weight_bits: of an int8 graph, 7 if it was made on a CPU that adds products in 16 bits, 8 for the others.
        error: the largest relative error, as checked when the graph was made: against torch, or of a quantised graph
            against its fp32 one.
    """

    component: ComponentName
    precision: str = Field(default="fp32", pattern=r"^[a-z0-9]{1,16}$")
    bucket: int = Field(default=0, ge=0)
    soc: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,40}$")
    source: Sha256 | None = None
    runtime: str | None = Field(default=None, pattern=r"^[0-9A-Za-z./_-]{1,60}$")
    files: tuple[File, ...] = Field(min_length=1, max_length=16)
    weight_bits: Literal[7, 8] | None = None
    error: float | None = None


class Weights(_Table):
    """The checkpoint the graphs were made from; ``published`` if it is the one of that model's authors."""

    file: str
    sha256: Sha256
    published: bool


class ModelSizes(_Table):
    """``contracts.Sizes``."""

    image_size: int = Field(ge=64, le=2048, multiple_of=32)
    width: int = Field(ge=1, le=4096)
    memory_width: int = Field(ge=1, le=4096)
    recent: int = Field(ge=0, le=6)


class Manifest(_Table):
    """What an exported folder holds."""

    format: Literal["sam2track-export"] = "sam2track-export"
    version: Literal[1] = 1
    model: str
    weights: Weights
    sizes: ModelSizes
    room: Room
    opset: int
    software: dict[str, str]
    graphs: tuple[Graph, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder of graphs and what its manifest says."""

    folder: Path
    manifest: Manifest

    @classmethod
    def read(cls, folder: Path) -> Exported:
        """Open a folder made by ``sam2track export``.

        Raises:
            BackendError: there is no manifest, or one that is damaged or of another version.
        """
        path = folder / NAME
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            reason = error.strerror or error
            raise BackendError(
                f"exported folder {folder} has no readable {NAME} ({reason}); make one with sam2track export"
            ) from error
        if len(content) > MAX_BYTES:
            raise BackendError(f"{path} is larger than 1 MB, which no manifest is; export again")
        try:
            return cls(folder, Manifest.model_validate_json(content))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            key = ".".join(map(str, problem["loc"])) or "the file"
            raise BackendError(
                f"{path} is damaged or of another version: {key}: {problem['msg']}; export again"
            ) from error

    def write(self) -> None:
        """Write the manifest, whole or not at all."""
        with written_whole(self.folder / NAME) as partial:
            partial.write_text(self.manifest.model_dump_json(indent=1, exclude_none=True) + "\n")

    def changed(self, made: Sequence[Graph], dropped: Callable[[Graph], bool]) -> Exported:
        """Write the manifest with the graphs ``made``, and without those that are ``dropped``.

        It is read again first, under a lock: another process may have added graphs of its own in the meantime.

        Raises:
            BackendError: as ``read``.
            OSError: the folder cannot be written.
        """
        with FileLock(self.folder / LOCK):
            now = Exported.read(self.folder)
            kept = (graph for graph in now.manifest.graphs if not dropped(graph))
            fresh = Exported(self.folder, now.manifest.model_copy(update={"graphs": (*kept, *made)}))
            fresh.write()
        return fresh

    @property
    def sizes(self) -> Sizes:
        """The sizes the graphs were made for."""
        return Sizes(**dict(self.manifest.sizes))

    def graphs(self, component: str, precision: str, soc: str | None = None) -> dict[int, Graph]:
        """Bucket -> graph of a component, ascending.

        Raises:
            BackendError: the folder has none of that precision and chip.
        """
        own = [graph for graph in self.manifest.graphs if graph.component == component]
        fitting = {graph.bucket: graph for graph in own if (graph.precision, graph.soc) == (precision, soc)}
        if not fitting:
            there = sorted({f"{graph.precision}{f' for {graph.soc}' if graph.soc else ''}" for graph in own})
            wanted = f"{precision}{f' for {soc}' if soc else ''}"
            raise BackendError(
                f"exported folder {self.folder} has no {component} in {wanted}; it has {', '.join(there) or 'none'}"
                f"{_remedy(self.folder, component, precision) if soc is None else ''}"
            )
        return dict(sorted(fitting.items()))

    def path(self, graph: Graph) -> Path:
        """The file of ``graph``, after its hash and those of the files it refers to were compared.

        Raises:
            BackendError: a file is missing, lies elsewhere, or is not the one that was exported.
        """
        for file in graph.files:
            path = self.folder / file.name
            if path.is_symlink() or not path.is_file():
                raise BackendError(f"{path} is missing from the exported folder; delete that and export again")
            if path.stat().st_size != file.bytes or hash_of(path) != file.sha256:
                raise BackendError(
                    f"{path} is not the file its manifest lists: damaged or changed; delete the folder and export again"
                )
        return self.folder / graph.files[0].name

    def check_model(self, config: Config, sizes: Sizes) -> None:
        """Raise ``BackendError`` unless the graphs are those of the model and image size of ``config``."""
        found, wanted = self.manifest.model, config.model
        if found != wanted:
            raise BackendError(f"exported folder {self.folder} is of model {found}, not {wanted}; export {wanted}")
        if self.sizes != sizes:
            raise BackendError(
                f"exported folder {self.folder} is for image_size {self.sizes.image_size}, "
                f"not {sizes.image_size}; export again or set image_size"
            )

    def check_weights(self, checkpoint: Path | None) -> None:
        """Raise ``BackendError`` unless the graphs were made from ``checkpoint``.

        None stands for the published weights of the model, when they are not on this machine.
        """
        weights = self.manifest.weights
        if weights.published if checkpoint is None else hash_of(checkpoint) == weights.sha256:
            return
        asked = "the published weights" if checkpoint is None else checkpoint
        raise BackendError(
            f"exported folder {self.folder} was made from {weights.file}, which is not {asked}; "
            "export again, or set weights to that file"
        )

    def check_memory(self, memory: MemoryTable) -> None:
        """Raise ``BackendError`` unless the graphs of memory attention have room for all that ``memory`` keeps."""
        need, room = Room.of(memory), self.manifest.room
        if need.slots[-1] > room.slots[-1]:
            raise BackendError(
                f"exported folder {self.folder} has {room.slots[-1]} memory slots; memory.prompted + memory.recent is "
                f"{need.slots[-1]}: lower them, or export with --slots up to {need.slots[-1]}"
            )
        if need.pointers > room.pointers:
            raise BackendError(
                f"exported folder {self.folder} has room for {room.pointers} pointers; memory.prompted + "
                f"memory.pointers - 1 is {need.pointers}: lower them, or export with --pointers {need.pointers}"
            )


def _remedy(folder: Path, component: str, precision: str) -> str:
    """How to get graphs of a quantised precision."""
    calibration = {"int8": "", "w8a16": " --calibrate CLIP", "w8a8": " --calibrate CLIP"}
    if precision not in calibration:
        return ""
    if component == "prompt_encoder":  # see backends/quantize.py
        return "; it is never quantised: pin it to fp32"
    return f"; make it: sam2track quantize {folder} --scheme {precision}{calibration[precision]}"


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path) -> File:
    """A file as the manifest lists it."""
    return File(name=path.name, sha256=hash_of(path), bytes=path.stat().st_size)

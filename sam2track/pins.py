"""Where a component runs: engine, device and precision."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sam2track.errors import ConfigError, nearest

ENGINES = ("torch", "onnx", "qnn")
DEVICES = {  # by engine
    "torch": ("auto", "cpu", "cuda", "cuda:0", "mps"),
    "onnx": ("auto", "cpu", "cuda", "cuda:0"),
    "qnn": ("auto", "npu", "emulator"),
}
PRECISIONS = {
    "torch": ("auto", "fp32", "bf16", "fp16"),
    "onnx": ("auto", "fp32", "fp16", "int8", "w8a8", "w8a16"),
    "qnn": ("auto", "fp16", "w8a16", "w8a8"),
}


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a component runs, written ``engine[:device[:precision]]``; what is left out is ``auto``.

    Attributes:
        engine: ``torch``, ``onnx`` or ``qnn``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` with torch, all but the last with onnx; ``auto``
            (``npu``), ``npu`` or ``emulator`` with qnn.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16`` with torch; ``auto`` (``fp32``) or what the exported folder
            holds, such as ``w8a16``, with onnx; ``auto`` (``fp16``), ``fp16`` or what the folder holds with qnn.

    Raises:
        ConfigError: an engine, device or precision that does not exist.
    """

    engine: str = "torch"
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"engine {self.engine!r} is unknown{nearest(self.engine, ENGINES)}")
        devices, precisions = DEVICES[self.engine], PRECISIONS[self.engine]
        numbered = "cuda" in devices and re.fullmatch(r"cuda:(0|[1-9][0-9]?)", self.device)
        if self.device not in devices and not numbered:
            raise ConfigError(f"device {self.device!r} is unknown to {self.engine}{nearest(self.device, devices)}")
        if self.precision not in precisions:
            raise ConfigError(
                f"precision {self.precision!r} is unknown to {self.engine}{nearest(self.precision, precisions)}"
            )

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read ``engine[:device[:precision]]``; the device may be ``cuda:1``."""
        match = re.fullmatch(r"([^:]+)(?::([^:]+(?::\d+)?))?(?::([^:]+))?", text)
        if match is None:
            raise ConfigError(f"pin {text!r} is not engine[:device[:precision]], such as torch:cuda:fp16")
        engine, device, precision = match.groups()
        return cls(engine, device or "auto", precision or "auto")

    def __str__(self) -> str:
        return f"{self.engine}:{self.device}:{self.precision}"

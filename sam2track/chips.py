"""Qualcomm chips whose NPU (Hexagon tensor processor, HTP) the runtime can compile for, as a table.

The ``soc_model`` numbers are those of the NPU runtime. Sources: the tables of ExecuTorch
(``backends/qualcomm/serialization/qc_schema.py``) for 36 to 57, 69, 77 and 87; of llama.cpp's QNN branch
(``ggml-qnn``) for 37 and 60; QNN's own header as quoted for 35; context binaries made on the device for 88.
Whether float graphs run was tried here with onnxruntime-qnn 2.7 for each of them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from sam2track.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip.

    Attributes:
        name: what a user writes, the public name in small letters.
        part: Qualcomm's part numbers.
        soc_model: the runtime's number of it.
        arch: version of its Hexagon NPU.
        floats: whether it runs float graphs, in fp16; the others run quantised graphs only.
    """

    name: str
    part: str
    soc_model: int
    arch: int
    floats: bool = True


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("qcs6490", "QCS6490, QCM6490, SM7325", 35, 68, floats=False),
        Chip("8cx-gen-3", "SC8280XP", 37, 68, floats=False),
        Chip("8-gen-1", "SM8450", 36, 69),
        Chip("8-plus-gen-1", "SM8475", 42, 69),
        Chip("8-gen-2", "SM8550", 43, 73),
        Chip("8-gen-3", "SM8650", 57, 75),
        Chip("8-elite", "SM8750", 69, 79),
        Chip("8-elite-gen-5", "SM8850", 87, 81),
        Chip("x-elite", "SC8380XP, X1E", 60, 73),
        Chip("x2-elite", "SC8480XP, X2E", 88, 81),
        Chip("qcs9100", "QCS9100", 77, 73),
    )
}


def find(word: str | int) -> Chip:
    """The chip of a name, a part number or a ``soc_model``.

    Raises:
        ConfigError: no such chip is known; the message names the nearest and all there are.
    """
    text = str(word).strip().lower().replace(" ", "-").removeprefix("snapdragon-")
    for chip in CHIPS.values():
        if text in {chip.name, str(chip.soc_model), *chip.part.lower().split(", ")}:
            return chip
    close = difflib.get_close_matches(text, CHIPS, n=1, cutoff=0.5)
    guess = f" did you mean {close[0]!r}?" if close else ""
    known = ", ".join(f"{chip.name} ({chip.soc_model})" for chip in CHIPS.values())
    raise ConfigError(f"chip {word!r} is unknown;{guess} Valid: {known}")

"""What a run wrote down: a CSV file, and curves for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

LOG = "log.csv"
CURVES = "curves"


class Log:
    """Rows of named numbers, one a report; use as a context manager.

    Args:
        folder: of the run.
        columns: of the CSV file; of a row's other numbers only curves are kept.
        step: of the run; rows of later steps, which a stopped run left, are dropped.
    """

    def __init__(self, folder: Path, columns: tuple[str, ...], step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._columns = folder / LOG, columns
        rows = []
        if self._path.is_file():
            with self._path.open(newline="", errors="replace") as file:
                rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]
        partial = folder / f".{LOG}.partial"
        with partial.open("w", newline="") as file:
            writer = self._writer(file)
            writer.writeheader()
            writer.writerows(row for row in rows if int(row["step"]) <= step)
        partial.replace(self._path)
        self._curves = SummaryWriter(str(folder / CURVES), purge_step=step + 1)

    def write(self, row: Mapping[str, float | str]) -> None:
        """Append a row, which has a ``step``."""
        with self._path.open("a", newline="") as file:
            self._writer(file).writerow(row)
        for name, value in row.items():
            if name != "step":
                self._curves.add_scalar(name, float(value), int(row["step"]))

    def _writer(self, file: object) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, extrasaction="ignore")  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._curves.close()

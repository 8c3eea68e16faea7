"""The scalars of a run: a CSV that survives a resume, and the curves drawn from it."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrsynth.files import atomic_path, unwritable


class History:
    """Rows of (epoch, iteration, name, value), added to a CSV at each epoch's end.

    Args:
        path: the CSV file.
        until_epoch: what a killed run left of later epochs, or of a line, is dropped from the file.
    """

    def __init__(self, path: str | os.PathLike, until_epoch: int = 0) -> None:
        self.path = Path(path)
        self.rows: list[tuple[int, int, str, float]] = []
        if until_epoch and self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as stream:
                whole = [row for row in list(csv.reader(stream))[1:] if len(row) == 4]
            read = [(int(e), int(i), n, float(v)) for e, i, n, v in whole if int(e) <= until_epoch]
            self.rows = read
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("epoch", "iteration", "name", "value"), *self.rows])
        self.saved = len(self.rows)

    def add(self, epoch: int, iteration: int, values: dict[str, float]) -> None:
        """Add the finite values of one iteration or validation."""
        self.rows.extend((epoch, iteration, k, v) for k, v in values.items() if math.isfinite(v))

    def save(self) -> None:
        """Append the new values to the file.

        Raises:
            UserError: the disk is full.
        """
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows(self.rows[self.saved :])
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.saved = len(self.rows)

    def draw(self, path: str | os.PathLike) -> None:
        """Draw each scalar against the iteration in a small panel of its own, as a PNG."""
        names = sorted({row[2] for row in self.rows})
        if not names:
            return
        columns = min(3, len(names))
        lines = math.ceil(len(names) / columns)
        figure = Figure(figsize=(4 * columns, 2.4 * lines), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        for index, name in enumerate(names):
            axes = figure.add_subplot(lines, columns, index + 1)
            points = [(row[1], row[3]) for row in self.rows if row[2] == name]
            axes.plot([p[0] for p in points], [p[1] for p in points], linewidth=0.8)
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("iteration", fontsize=7)
            axes.tick_params(labelsize=7)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")

"""How long a study will take, before anything of it has run: a few iterations of each kind of training."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError
from mrsynth.manifest import write_datalist
from mrsynth.study.engine import environment, say
from mrsynth.study.steps import Step, tail
from mrsynth.study.subjects import Fold

SUBJECTS = 4
SHORT, FACTOR, LONGEST = 2, 4, 512
"""Iterations of the first run, by how much the next is longer, and the most; a generator has half as many epochs."""

CLEAR = 3.0
"""Seconds by which a longer run must take longer: two starts of the same program differ by some."""


def probe(
    steps: Iterable[Step], everything: Iterable[Step], fold: Fold, parallel: int, program: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Seconds to start and seconds a unit of work, by kind of step, from short runs in a temporary folder.

    Args:
        steps: those of whose kinds nothing is known.
        everything: all steps, among them those that these need.
        fold: whose subjects.
        parallel: processes at once in the study: how many threads each has.
        program: words of the program that runs a bundle.

    Each kind of training is run for a few and for more iterations, on four subjects, until the difference is clear;
    the weights then serve to time a synthesis or an evaluation. What grows with the number of subjects alone, such as
    the filling of a cache, is not seen.

    Raises:
        UserError: a run failed, which it would do in the study as well.
    """
    kinds: dict[str, Step] = {}
    for step in steps:
        kinds.setdefault(step.kind, step)
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="mrsynth-probe-") as name:
        folder = Path(name)
        few = {section: items[: {"training": SUBJECTS}.get(section, 1)] for section, items in fold.parts.items()}
        datalist = folder / "datalist.json"
        write_datalist(datalist, {"name": "probe", **few})
        by_name = {step.name: step for step in everything}
        trained: dict[str, tuple[Path, float]] = {}  # by kind: weights, and the seconds that it takes to start
        for kind, step in kinds.items():
            if not step.resumable or "initial_weights" in step.options:
                continue
            say(f"probing: {kind}")
            generator = "max_iterations" not in step.options
            runs: list[tuple[float, float]] = []
            number = SHORT
            while len(runs) < 2 or (runs[-1][1] - runs[0][1] < CLEAR and number <= LONGEST):
                own = {"max_epochs": number // 2} if generator else {"max_iterations": number}
                work = number // 2 * len(few["training"]) if generator else number
                place = folder / f"{len(found)}_{number}"
                runs.append((work, _seconds(step, place, {"datalist": datalist, **own}, parallel, program)))
                number *= FACTOR
            (less, short), (more, long) = runs[0], runs[-1]
            unit = max(0.0, (long - short) / (more - less))
            start = max(0.0, short - unit * less)
            found[kind] = (start, unit)
            trained[kind] = (place / "models" / "model.pt", start)
        for kind, step in kinds.items():
            maker = next((by_name[name].kind for name in step.needs if by_name[name].resumable), "")
            there = Path(step.options.get("weights", ""))
            lacking = "weights" in step.options and maker not in trained and not there.is_file()
            if kind in found or step.resumable or lacking:
                continue
            say(f"probing: {kind}")
            weights, start = trained.get(maker, (there, min((s for _, s in trained.values()), default=0.0)))
            given: dict[str, Any] = {"datalist": datalist} | ({"weights": weights} if "weights" in step.options else {})
            given |= {"count": 1} if "count" in step.options else {}
            seconds = _seconds(step, folder / f"{len(found)}", given, parallel, program)
            found[kind] = (min(start, seconds), seconds - min(start, seconds))
    return found


def _seconds(step: Step, folder: Path, options: dict[str, Any], parallel: int, program: Sequence[str]) -> float:
    """Run a variant of the step in ``folder``."""
    variant = replace(step, folder=folder, options={**step.options, **options})
    folder.mkdir()
    began = time.monotonic()
    with open(variant.log, "wb") as log:
        status = subprocess.run(
            [*program, *variant.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(parallel),
        ).returncode
    if status != 0:
        raise UserError(
            f"a short run of: {step.kind}",
            f"exit status {status}\n{tail(variant.log)}",
            "probe",
            "put it right, or plan without probes (--probe False)",
        )
    return time.monotonic() - began

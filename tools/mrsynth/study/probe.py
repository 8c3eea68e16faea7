"""How long a study will take, before anything of it has run: a few iterations of each kind of step, on few subjects."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from mrsynth.errors import UserError
from mrsynth.study.engine import Engine
from mrsynth.study.plan import Plan
from mrsynth.study.steps import Step
from mrsynth.study.subjects import Fold, write_fold

SUBJECTS = 4
SHORT, FACTOR, LONGEST = 2, 4, 512
"""Iterations of the first run, by how much the next is longer, and the most; a generator has half as many epochs."""

CLEAR = 3.0
"""Seconds by which a longer run must take longer: two starts of the same program differ by some."""


def probe(plan: Plan, kinds: Collection[str], parallel: int, program: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Seconds to start and seconds a unit of work, by kind of step, from short studies in a temporary folder.

    Args:
        plan: of the study.
        kinds: of steps to time.
        parallel: steps at once.
        program: words of the program that runs a bundle.

    Trainings are repeated with more iterations until the difference is clear. What grows with the number of subjects
    alone, such as the filling of a cache, is not seen.

    Raises:
        UserError: a run failed, which it would do in the study as well.
    """
    fold = plan.folds[0]
    few = Fold(fold.number, {part: items[: {"training": SUBJECTS}.get(part, 1)] for part, items in fold.parts.items()})
    rows = [
        replace(row, fine_tune=None, synthetic={name: min(1, multiple) for name, multiple in row.synthetic.items()})
        for row in plan.rows
    ]
    runs: dict[str, list[tuple[float, float]]] = {}  # work and seconds
    unclear, trainings, number = set(kinds), set[str](), SHORT
    with tempfile.TemporaryDirectory(prefix="mrsynth-probe-") as name:
        while unclear and number <= LONGEST:
            generators = {
                key: generator
                if generator.weights_of or generator.train is None
                else replace(generator, options={**generator.options, "max_epochs": number // 2})
                for key, generator in plan.generators.items()
            }
            folder = Path(name) / str(number)
            short = replace(plan, folder=folder, rows=rows, generators=generators, folds=[few], max_iterations=number)
            steps = one_of_each(short.steps(), unclear)
            write_fold(short.fold_datalist(few), few)
            for step_name, outcome in Engine(steps, folder, parallel, program).run().items():
                if outcome.status == "failed":
                    do = "read the lines above and correct what they name, or plan without --probe"
                    raise UserError(f"a short run of: {step_name}", outcome.reason, "probe", do)
            for step in steps:
                if step.kind in unclear:
                    runs.setdefault(step.kind, []).append((step.work, (step.record() or {})["seconds"]))
            trainings |= {step.kind for step in steps if step.resumable} & set(kinds)
            unclear = {kind for kind in trainings if runs[kind][-1][1] - runs[kind][0][1] < CLEAR}
            number *= FACTOR
    found = {}
    for kind in trainings:
        (less, shorter), (more, longer) = runs[kind][0], runs[kind][-1]
        unit = max(0.0, (longer - shorter) / (more - less))
        found[kind] = (max(0.0, shorter - unit * less), unit)
    start = min((start for start, _ in found.values()), default=0.0)
    for kind in set(kinds) - trainings:
        ((work, seconds),) = runs[kind]
        found[kind] = (min(start, seconds), max(0.0, seconds - start) / work)
    return found


def one_of_each(steps: Sequence[Step], kinds: Collection[str]) -> list[Step]:
    """A step of each kind, one that needs few others, and all that these need."""
    by_name = {step.name: step for step in steps}
    chosen = {min((s for s in steps if s.kind == kind), key=lambda s: len(s.needs)).name for kind in kinds}
    wanted = set(chosen)
    for step in reversed(steps):
        if step.name in wanted:
            wanted |= set(step.needs)
    return [by_name[name] for name in by_name if name in wanted]

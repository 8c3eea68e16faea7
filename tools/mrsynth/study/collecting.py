"""What a study's folder holds: the scores of its rows, what failed, and where all of it comes from."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError
from mrsynth.study.definitions import Row
from mrsynth.study.engine import Outcome, say
from mrsynth.study.plan import SCORES
from mrsynth.study.statistics import read_scores
from mrsynth.study.steps import Step
from mrsynth.study.subjects import Fold
from mrsynth.versions import versions


@dataclass
class Collected:
    """Rows in the report, their records (see :mod:`mrsynth.study.statistics`), PNG files by (row, segmenter, fold,
    seed, subject), and the cells whose scores cannot be read, as :func:`failures` gives those that have none."""

    rows: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[tuple, Path] = field(default_factory=dict)
    failed: list[dict[str, Any]] = field(default_factory=list)


def collect(table: Sequence[Row], wanted: Iterable[str], steps: Iterable[Step], folds: Sequence[Fold]) -> Collected:
    """Scores of the rows that are ``wanted``, and of those others that are complete, from the steps of all rows."""
    found, wanted = Collected(), set(wanted)
    tested = {fold.number: fold.ids("test") for fold in folds}
    judged = [(step, step.part) for step in steps if step.part and step.run[0] == "evaluate"]
    for row in table:
        own = [(step, part) for step, part in judged if part.row == row.name]
        complete = [(step, part) for step, part in own if step.record()]
        if row.name not in wanted and (not own or len(complete) < len(own)):
            if any(step.begun for step, _ in own):
                say(f"not in the report, since it is not complete or was made otherwise: row {row.name!r}")
            continue
        found.rows.append(row.name)
        for step, part in complete:
            try:
                scores = read_scores(step.folder / SCORES, tested[part.fold])
            except UserError as error:  # it was right when the step ended
                found.failed.append({**part._asdict(), "log": str(step.log), "tail": str(error)})
                continue
            found.records += [{**part._asdict(), "grid": row.grid, **score} for score in scores]
            pictures = sorted((step.folder / SCORES).with_name("pictures").glob("*.png"))
            found.pictures |= {(*part, path.stem): path for path in pictures}
    return found


def record_of(step: Step, outcome: Outcome | None) -> dict[str, Any]:
    """What became of a step, for the report."""
    status, seconds = (outcome.status, outcome.seconds) if outcome else ("not run", 0.0)
    return {"step": step.name, "status": status, "seconds": round(seconds, 1), "log": str(step.log)}


def failures(steps: Iterable[Step], outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """Cells of the study that have no scores, each with the log of the step that failed and its last lines."""
    by_name, found = {step.name: step for step in steps}, []
    for step in by_name.values():
        outcome = outcomes.get(step.name)
        if outcome is not None and step.part and step.run[0] == "evaluate" and outcome.status in ("failed", "skipped"):
            cause = by_name[outcome.cause or step.name]
            found.append({**step.part._asdict(), "log": str(cause.log), "tail": outcomes[cause.name].reason})
    return found


def provenance(steps: Iterable[Step]) -> dict[str, Any]:
    """Where the results of complete steps come from.

    Returns:
        ``versions`` of now; ``other_versions``, a sentence for each package that was another in some of the steps;
        ``commands`` of the steps; ``hashes`` of their inputs and outputs, and of the configs and scripts of all.
    """
    now, commands, hashes = versions(), [], dict[str, str]()
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for step in steps:
        if record := step.record():
            commands.append(shlex.join(record["command"]))
            hashes |= {**record["inputs"], **record["outputs"]}
            for package, version in record["versions"].items():
                seen[package][version] += 1
        bundle = step.definition["bundle"]
        hashes |= {f"{bundle}/{name}": digest for name, digest in step.definition["sources"].items()}
    others = []
    for package, counts in seen.items():
        if set(counts) != {now.get(package)}:
            each = [f"{version} in {count} of {len(commands)} steps" for version, count in sorted(counts.items())]
            others.append(f"{package}: {', '.join(each)}")
    return {"versions": now, "other_versions": others, "commands": commands, "hashes": hashes}

"""How long steps take: learnt from those of the same kind that have ended, or from short probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mrsynth.study.steps import Step


@dataclass
class Timing:
    """Seconds of a step as a function of its work, by kind of step.

    ``probed`` holds (seconds to start, seconds a unit of work) and gives way to what finished steps have taken.
    """

    probed: dict[str, tuple[float, float]] = field(default_factory=dict)
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)

    def learn(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take in the records of finished steps (``done.json``); resumed ones say nothing of the whole."""
        for record in records:
            if not record.get("resumed"):
                seconds, work = self.seen.get(record["kind"], (0.0, 0.0))
                self.seen[record["kind"]] = (seconds + record["seconds"], work + record["work"])

    def seconds(self, step: Step) -> float | None:
        """Estimate for a step; None where nothing is known of its kind."""
        if step.kind in self.seen:
            seconds, work = self.seen[step.kind]
            return seconds / work * step.work
        if step.kind in self.probed:
            start, unit = self.probed[step.kind]
            return start + unit * step.work
        return None

    def unknown(self, steps: Iterable[Step]) -> set[str]:
        """Kinds of steps of which nothing is known."""
        return {step.kind for step in steps if self.seconds(step) is None}

    def rest(self, steps: Sequence[Step], parallel: int, passed: Mapping[str, float] | None = None) -> float | None:
        """Seconds until all of ``steps`` have run, ``parallel`` at once; None where a kind is unknown.

        ``passed`` are the seconds that some of them have been running, by name.
        """
        ends, total = dict[str, float](), 0.0
        for step in steps:  # each comes after those that it needs
            own = self.seconds(step)
            if own is None:
                return None
            own = max(0.0, own - (passed or {}).get(step.name, 0.0))
            total += own
            ends[step.name] = own + max((ends.get(name, 0.0) for name in step.needs), default=0.0)
        return max(total / parallel, *ends.values()) if ends else 0.0


def roughly(seconds: float) -> str:
    """An estimate for people, as coarse as it is."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

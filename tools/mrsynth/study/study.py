"""Do synthetic subjects help a segmenter? Trainings on real, synthetic and mixed sets, judged on real test subjects.

Doncenco 2022, section 3.2 and table 1: DeepMedic trained on real subjects, on synthetic ones in once to three times
their number, and on both.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrsynth.checks import whole_number
from mrsynth.errors import UserError
from mrsynth.files import write_json
from mrsynth.study.collecting import collect, failures, provenance, record_of
from mrsynth.study.definitions import (
    GeneratorDefinition,
    GridDefinition,
    Row,
    SegmenterDefinition,
    check_bundle,
    check_definition,
    check_weights_of,
    parse,
    parse_rows,
    select,
)
from mrsynth.study.engine import PROGRAM, Engine, Outcome, locked, refuse_running, say
from mrsynth.study.plan import Plan
from mrsynth.study.probe import probe
from mrsynth.study.steps import Step, plain, refuse_other_definition
from mrsynth.study.subjects import (
    Fold,
    check_regions,
    make_folds,
    real_subjects,
    refuse_other_fold,
    training_size,
    write_fold,
)
from mrsynth.study.tables import TEMPLATES
from mrsynth.study.timing import Timing, roughly


class Study:
    """Plans and runs a study.

    ``bundles/tumor3d/configs/study.json`` has an example, ``settings.json`` beside it describes each argument, and
    ``definitions.json`` beside this file what a row, a generator, a segmenter and a grid may have.

    Args:
        root: the folder that relative bundles start from.
        index_options: ``dataset``, ``skip_bad``, ``same_patient`` of the index.
        program: words of the program that runs a bundle.

    Raises:
        UserError: definitions that do not fit together.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        table: Sequence[Mapping[str, Any]],
        generators: Mapping[str, Mapping[str, Any]],
        segmenters: Mapping[str, Mapping[str, Any]],
        root: str | os.PathLike,
        max_iterations: int,
        grids: Mapping[str, Mapping[str, Any]] | None = None,
        dataset_dir: str | os.PathLike | None = None,
        datalist: str | os.PathLike | None = None,
        split: Mapping[str, Any] | None = None,
        index_options: Mapping[str, Any] | None = None,
        folds: int | None = None,
        seeds: Sequence[int] = (0,),
        rows: Sequence[str] | str | None = None,
        reference: str = "Real",
        baseline: str | None = None,
        published: Mapping[str, Any] | None = None,
        parallel: int = 1,
        cluster: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        probe: bool = False,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.config = plain(given)
        self.folder = Path(output_dir).expanduser().absolute()
        self.dataset_dir, self.datalist = dataset_dir, datalist
        self.split, self.index_options = dict(split or {}), dict(index_options or {})
        self.folds, self.seeds = folds, [seeds] if isinstance(seeds, int) else list(seeds)
        self.max_iterations = whole_number("max_iterations", max_iterations, 1)
        self.parallel = whole_number("parallel", parallel, 1)
        self.cluster, self.dry_run, self.probe = cluster, dry_run, probe
        self.program = tuple(program)
        base = Path(root).expanduser().absolute()
        self.generators = parse(GeneratorDefinition, generators, base)
        check_weights_of(self.generators)
        self.segmenters = parse(SegmenterDefinition, segmenters, base)
        self.grids = parse(GridDefinition, grids or {}, base)
        self.table = parse_rows(table, self.generators, self.grids)
        self.given_rows = {row["name"]: dict(row) for row in table}
        self.rows = select(self.table, rows)
        self.reference, self.baseline = reference, baseline
        for key, name in (("reference", reference), ("baseline", baseline)):
            if name is not None and name not in self.given_rows:
                do = f'pass --{key} "{next(iter(self.given_rows))}"'
                raise UserError(f"a row of the table: {list(self.given_rows)}", repr(name), key, do)
        if not self.segmenters:
            do = 'set "segmenters": {"unet3d": {"bundle": "bundles/unet3d"}}'
            raise UserError("at least one segmenter", "none", "segmenters", do)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError("one or more different seeds", str(self.seeds), "seeds", "pass --seeds [0,1,2]")
        self.published = dict(published or {})
        check_definition("published", self.published, "published")
        check_definition("split", self.split, "split")
        for segmenter in self.segmenters.values():
            check_bundle(segmenter)
        for row in self.rows:
            self.check_generators(row)

    def run(self) -> None:
        """Do what is left to do, and write the report; or, in a dry run, show what would be done.

        Raises:
            UserError: the data or the folder do not fit; or, once the report is written, steps that have failed.
            SystemExit: asked to stop.
        """
        folds = self.read_folds()
        plan = self.plan(folds, self.rows)
        steps, everything = plan.steps(), self.all_steps(folds)
        refuse_other_definition(steps)
        timing = Timing()
        timing.learn(record for step in everything if (record := step.record()))
        if self.dry_run:
            self.show(plan, steps, timing)
            return
        began, stopped = time.monotonic(), None
        with locked({row.name: plan.row_folder(row) for row in self.rows}):
            refuse_running(steps)
            for fold in folds:
                write_fold(plan.fold_datalist(fold), fold)
            engine = Engine(steps, self.folder, self.parallel, self.program, timing, self.cluster)
            try:
                engine.run()
            except UserError as error:
                stopped = error
            except KeyboardInterrupt:
                say("\nStopped, and all that was running with it. The same command goes on from here.")
                raise SystemExit(130) from None
            outcomes, wall = engine.outcomes, time.monotonic() - began
            self.report(folds, steps, everything, outcomes, wall, stopped)
        if stopped is not None:
            raise stopped
        failed = [step.name for step in steps if outcomes[step.name].status == "failed"]
        if failed:
            lines = [f"{step.name}: {step.log}" for step in steps if step.name in failed]
            skipped = sum(outcome.status == "skipped" for outcome in outcomes.values())
            found = f"{len(failed)} that failed ({skipped} others need them and were not run):"
            do = "read the logs and correct what they name; the same command then does what is missing"
            raise UserError(f"{len(steps)} steps that end well", "\n    ".join([found, *lines]), self.folder, do)

    def read_folds(self) -> list[Fold]:
        """The real subjects, divided and checked; see :mod:`mrsynth.study.subjects`."""
        options = {**self.index_options, **self.split}
        if self.folds is not None:
            options |= {"folds": self.folds, "fold": 0}
        parts = real_subjects(self.dataset_dir, self.datalist, options)
        dividing = {key: self.split[key] for key in ("seed", "validation") if key in self.split}
        folds = make_folds(parts, self.folds, **dividing)
        plan = self.plan(folds, [])
        for fold in folds:
            refuse_other_fold(plan.fold_datalist(fold), fold)
        check_regions(folds)
        return folds

    def plan(self, folds: Sequence[Fold], rows: Sequence[Any]) -> Plan:
        """The plan for some of the rows."""
        parts = (self.segmenters, self.generators, self.grids)
        return Plan(self.folder, rows, *parts, folds, self.seeds, self.max_iterations)

    def all_steps(self, folds: Sequence[Fold]) -> list[Step]:
        """The steps of all rows of the table that can be planned, wanted now or not."""

        def can_be_planned(row: Row) -> bool:
            try:
                self.check_generators(row)
                self.plan(folds, [row]).steps()
            except UserError:
                return False
            return True

        return self.plan(folds, [row for row in self.table if row in self.rows or can_be_planned(row)]).steps()

    def check_generators(self, row: Row) -> None:
        """Refuse a row some of whose generators lack their bundle or a config, or whose weights' makers do."""
        for name in sorted(name for name, multiple in row.synthetic.items() if multiple):
            generator = self.generators[name]
            check_bundle(generator)
            if generator.weights_of is not None:
                check_bundle(self.generators[generator.weights_of])

    def show(self, plan: Plan, steps: Sequence[Step], timing: Timing) -> None:
        """Print the plan as a table, with what it will take."""
        records = {step.name: step.record() for step in steps}
        todo = [step for step in steps if not records[step.name]]
        source, unknown = "from the steps that have ended", timing.unknown(todo)
        if self.probe and unknown:
            say("Short runs, to estimate the time:")
            timing.probed, source = probe(plan, unknown, self.parallel, self.program), "from short runs"
        sizes = [[training_size(row, fold) for fold in plan.folds] for row in plan.rows]
        content = {
            "steps": steps,
            "records": records,
            "todo": todo,
            "kinds": [step.run[0] if step.part else f"generator {step.run[0]}" for step in steps],
            "rows": [(row, size, plan.last_iterations(row)) for row, size in zip(plan.rows, sizes, strict=True)],
            "iterations": self.max_iterations,
            "timing": timing,
            "unknown": timing.unknown(todo),
            "parallel": self.parallel,
            "source": source,
        }
        say(TEMPLATES.get_template("dry_run.txt.j2").render(content).rstrip())

    def report(
        self,
        folds: Sequence[Fold],
        steps: Sequence[Step],
        everything: Sequence[Step],
        outcomes: Mapping[str, Outcome],
        wall: float,
        stopped: UserError | None = None,
    ) -> None:
        """Write the report on all rows in the folder that are complete, or were begun now, and a record of this run.

        ``steps`` are those wanted now, ``everything`` those of all rows; ``wall`` is the time that the former took.
        """
        from mrsynth.study.report import write_report

        wanted = [row.name for row in self.rows]
        found = collect(self.table, wanted, everything, folds)
        spent = sum(outcome.seconds for outcome in outcomes.values() if outcome.status in ("done", "failed"))
        study = {
            "config": self.config,
            **provenance({step.name: step for step in (*everything, *steps)}.values()),
            "steps": [record_of(step, outcomes.get(step.name)) for step in steps],
            "failed": failures(steps, outcomes) + found.failed,
            "stopped": None if stopped is None else str(stopped).strip(),
            "max_iterations": self.max_iterations,
            "subjects": {fold.number: fold.subjects for fold in folds},
            "grids": {name: grid.words for name, grid in self.grids.items()},
            "published": self.published,
            "run": {"host": socket.gethostname(), "rows": wanted, "parallel": self.parallel}
            | {"wall_seconds": round(wall, 1), "step_seconds": round(spent, 1)},
        }
        write_json(self.folder / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json", study)
        say(f"{roughly(spent)} of work in {roughly(wall)}, {self.parallel} at once")
        rows = [self.given_rows[name] for name in found.rows]
        write_report(self.folder, found.records, rows, self.reference, self.baseline, study, found.pictures)
        say(f"\nMade:\n  report  {self.folder / 'study.html'}")

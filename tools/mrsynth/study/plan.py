"""The steps of a study: which programs are run on what, and which of them wait for which.

A fold's generators are trained on its training subjects alone and make as many subjects as the rows need; each row,
segmenter and seed is then a training (and a fine-tuning, if asked) and an evaluation on the real test subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError
from mrsynth.study.definitions import FineTune, Generator, Grid, Row, Segmenter, check_options, setting, slug, sources
from mrsynth.study.scores import read_scores
from mrsynth.study.steps import Part, Step, fingerprint, literal, plain
from mrsynth.study.subjects import (
    Fold,
    record_of,
    refuse_foreign_weights,
    synthetic_subjects,
    training_size,
    write_row_datalist,
)

OPTIONS_OF_EVERY_RUN: dict[str, dict[str, Any]] = {
    "training": {"output_dir": ".", "resume": True},
    "synthesize": {"output_dir": ".", "count": 1},
    "evaluate": {"output_dir": "."},
}
"""What the study gives to every run of a kind; their values are found when it starts."""

WEIGHTS = "models/model.pt"
SYNTHETIC = "synthetic/datalist.json"
SCORES = "evaluation/per_subject.csv"


@dataclass(frozen=True)
class Plan:
    """A study, and the steps that it consists of.

    Attributes:
        folder: of the study.
        rows: those wanted.
        segmenters, generators, grids: definitions by name.
        folds: the splits.
        seeds: of the segmenters' trainings.
        max_iterations: optimization steps of each segmenter's training, the same in every row.
    """

    folder: Path
    rows: Sequence[Row]
    segmenters: Mapping[str, Segmenter]
    generators: Mapping[str, Generator]
    grids: Mapping[str, Grid]
    folds: Sequence[Fold]
    seeds: Sequence[int]
    max_iterations: int

    def steps(self) -> list[Step]:
        """All steps; each comes after those that it needs.

        Raises:
            UserError: more synthetic subjects than there can be, a fine-tuning of no steps or of all, or a setting that
                the configs of a bundle do not know.
        """
        made: dict[str, Step] = {}
        for fold in self.folds:
            for (name, grid), count in self.synthetic_sets(fold).items():
                training = self.train_generator(self.generators[name], fold)
                if training is not None:
                    made[training.name] = training
                step = self.synthesize(self.generators[name], grid, fold, count, training)
                made[step.name] = step
        for cell in product(self.rows, self.segmenters.values(), self.folds, self.seeds):
            made |= {step.name: step for step in self.cell(*cell, made)}
        return list(made.values())

    def synthetic_sets(self, fold: Fold) -> dict[tuple[str, str | None], int]:
        """Number of subjects by (generator, grid) that the fold's rows need.

        Raises:
            UserError: more subjects than there are ordered pairs of training subjects.
        """
        n = len(fold.parts["training"])
        counts: dict[tuple[str, str | None], int] = {}
        for row in self.rows:
            for name, count in training_size(row, fold)[1].items():
                if count > n * (n - 1):
                    raise UserError(
                        f"at most {n * (n - 1)} synthetic subjects, the ordered pairs of fold {fold.number}'s {n} "
                        "training subjects",
                        f"{count} ({row.synthetic[name]:g} x {n}) of {name}",
                        f"table: {row.name}",
                        f'set "synthetic": {{"{name}": {n - 1}}} or less, or give more subjects',
                    )
                counts[name, row.grid] = max(count, counts.get((name, row.grid), 0))
        return counts

    def fold_folder(self, fold: Fold) -> Path:
        """Where a fold's datalist and generators are."""
        return self.folder / f"fold_{fold.number}"

    def fold_datalist(self, fold: Fold) -> Path:
        """The fold's real subjects."""
        return self.fold_folder(fold) / "datalist.json"

    def row_folder(self, row: Row) -> Path:
        """Where all of a row's trainings are."""
        return self.folder / "rows" / row.slug

    def train_generator(self, generator: Generator, fold: Fold) -> Step | None:
        """The training of the generator's weights; None for one that has nothing to train."""
        if generator.weights_of is not None:
            generator = self.generators[generator.weights_of]
        if generator.train is None:
            return None
        folder, datalist = self.fold_folder(fold) / "generators" / slug(generator.name), self.fold_datalist(fold)
        epochs = setting(generator, "max_epochs")
        return self._step(
            f"fold {fold.number}: train generator {generator.name}",
            f"train generator {generator.name}",
            folder,
            ("training", generator, generator.train),
            {"datalist": datalist, **generator.options},
            {"subjects": fold.subjects},
            inputs=(datalist,),
            outputs=(WEIGHTS,),
            work=(epochs if isinstance(epochs, (int, float)) else 1) * len(fold.parts["training"]),  # subjects seen
            resumable=True,
            after=partial(refuse_foreign_weights, folder / WEIGHTS, fold),
        )

    def synthesize(self, generator: Generator, grid: str | None, fold: Fold, count: int, training: Step | None) -> Step:
        """The making of a fold's synthetic subjects on a grid."""
        kind = f"synthesize with {generator.name}" + (f" on {grid}" if grid else "")
        folder, datalist = self._synthetic_folder(fold, generator.name, grid), self.fold_datalist(fold)
        weights = {} if training is None else {"weights": training.folder / WEIGHTS}
        options = {"datalist": datalist, "section": "training", **weights, **generator.inference_options}
        step = self._step(
            f"fold {fold.number}: {kind}",
            kind,
            folder,
            ("synthesize", generator, generator.inference),
            {**options, **(self.grids[grid].inference_options if grid else {})},
            {"subjects": fold.subjects},
            inputs=(datalist, *weights.values()),
            outputs=(SYNTHETIC,),
            needs=() if training is None else (training,),
            work=count,
            after=partial(synthetic_subjects, folder / SYNTHETIC, fold, count),
        )
        # the number is no part of the definition: more of the same is as good
        return replace(step, options={**step.options, "count": count})

    def cell(self, row: Row, segmenter: Segmenter, fold: Fold, seed: int, made: Mapping[str, Step]) -> list[Step]:
        """A segmenter's training on a row, its fine-tuning, and its evaluation."""
        name = f"{row.name} / {segmenter.name} / fold {fold.number} / seed {seed}"
        folder = self.row_folder(row) / slug(segmenter.name) / f"fold_{fold.number}" / f"seed_{seed}"
        part = Part(row.name, segmenter.name, fold.number, seed)
        grid = self.grids[row.grid] if row.grid else Grid("")
        kind = segmenter.name + (f" on {row.grid}" if row.grid else "")
        sets = {g: self._synthetic_folder(fold, g, row.grid) / SYNTHETIC for g in row.synthetic}
        makers = tuple(step for step in made.values() if step.folder / SYNTHETIC in sets.values())
        weights = tuple(step.options["weights"] for step in makers if "weights" in step.options)
        last = self.last_iterations(row)
        base = {"augmentation": row.augmentation, "seed": seed, **grid.options, **segmenter.options, **row.options}
        data = {"subjects": fold.subjects}

        def train(place: str, iterations: int, before: Step | None = None, tune: FineTune | None = None) -> Step:
            datalist, real = folder / f"{place}.json", tune.real if tune else None
            initial = {} if before is None else {"initial_weights": before.folder / WEIGHTS}
            sizes = {"real": real} if tune else {"real": row.real, "synthetic": training_size(row, fold)[1]}
            return self._step(
                f"{name}: {place.replace('_', '-')}",
                f"train {kind}",
                folder / place,
                ("training", segmenter, segmenter.train),
                {
                    "datalist": datalist,
                    "max_iterations": iterations,
                    **initial,
                    **base,
                    **(tune.options if tune else {}),
                },
                data | sizes,
                inputs=(datalist, *(initial.values() if initial else weights)),
                outputs=(WEIGHTS,),
                needs=makers if before is None else (before,),
                work=iterations,
                resumable=True,
                part=part,
                before=partial(write_row_datalist, datalist, row, fold, seed, sets, real),
                after=partial(refuse_other_iterations, folder / place / WEIGHTS, iterations),
            )

        steps = [train("train", self.max_iterations - last)]
        if row.fine_tune:
            steps.append(train("fine_tune", last, steps[0], row.fine_tune))
        trained, datalist = steps[-1].folder / WEIGHTS, self.fold_datalist(fold)
        options = {"datalist": datalist, "section": "test", "weights": trained}
        judge = self._step(
            f"{name}: evaluate",
            f"evaluate {kind}",
            folder / "evaluate",
            ("evaluate", segmenter, segmenter.evaluate),
            {**options, **grid.evaluate_options, **segmenter.evaluate_options},
            data,
            inputs=(datalist, trained),
            outputs=(SCORES, "evaluation/metrics.json"),
            needs=(steps[-1],),
            work=len(fold.parts["test"]),
            part=part,
            after=partial(read_scores, folder / "evaluate" / SCORES, fold.ids("test")),
        )
        return [*steps, judge]

    def last_iterations(self, row: Row) -> int:
        """Optimization steps of the row's fine-tuning; 0 where it has none.

        Raises:
            UserError: so few steps in all that the fine-tuning, or what goes before, would have none.
        """
        if row.fine_tune is None:
            return 0
        last = round(self.max_iterations * row.fine_tune.steps)
        if not 0 < last < self.max_iterations:
            expected = "at least one optimization step of fine-tuning, and one before it"
            found = f"{last} of {self.max_iterations} (share {row.fine_tune.steps:g})"
            do = "set steps to a share such as 0.25, or raise max_iterations"
            raise UserError(expected, found, f"table: {row.name}: fine_tune: steps", do)
        return last

    def _synthetic_folder(self, fold: Fold, generator: str, grid: str | None) -> Path:
        return self.fold_folder(fold) / "synthetic" / slug(generator) / (slug(grid) if grid else "own_grid")

    def _step(
        self,
        name: str,
        kind: str,
        folder: Path,
        run: tuple[str, Generator | Segmenter, Sequence[str]],
        options: Mapping[str, Any],
        data: Mapping[str, Any],
        needs: Sequence[Step] = (),
        **more: Any,
    ) -> Step:
        """A run (its id, bundle and configs); its definition does not depend on where the study or the bundle lies."""
        run_id, bundle, configs = run[0], run[1].bundle, run[2]
        files = [bundle / "configs" / config for config in configs]
        check_options(bundle, configs, {**options, **OPTIONS_OF_EVERY_RUN[run_id]}, name)
        digests = {file: fingerprint(file) for file in sources(bundle, files)}
        words = (run_id, "--config_file", literal(files[0] if len(files) == 1 else files))

        def portable(value: Any) -> Any:
            inside = isinstance(value, Path) and value.is_relative_to(self.folder)
            return str(value.relative_to(self.folder)) if inside else plain(value)

        definition = {
            "run": run_id,
            "bundle": bundle.name,
            "sources": {str(file.relative_to(bundle)): digest for file, digest in digests.items()},
            "options": {key: portable(value) for key, value in options.items()},
            "data": dict(data),
            "needs": {step.name: step.key for step in needs},
        }
        names = tuple(step.name for step in needs)
        return Step(name, kind, folder, words, options, definition, self.folder, digests, needs=names, **more)


def refuse_other_iterations(weights: Path, iterations: int) -> None:
    """Refuse a segmenter whose record says that it was not trained for as many steps as all rows are to be."""
    recorded = (record_of(weights).get("settings") or {}).get("iterations")
    if recorded != iterations:
        expected = f"weights of {iterations} optimization steps (settings: iterations in their record)"
        do = "take a bundle whose train.json obeys max_iterations and records its iterations"
        raise UserError(expected, repr(recorded), weights.with_suffix(".json"), do)

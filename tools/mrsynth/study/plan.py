"""The steps of a study: which programs are run on what, and which of them wait for which.

A fold's generators are trained on its training subjects alone and make as many subjects as the rows need; each row,
segmenter and seed is then a training (and a fine-tuning, if asked) and an evaluation on the real test subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError
from mrsynth.files import sha256
from mrsynth.manifest import SECTIONS, load_datalist
from mrsynth.study.definitions import (
    FineTune,
    Generator,
    Grid,
    Row,
    Segmenter,
    check_options,
    setting,
    slug,
    sources,
)
from mrsynth.study.scores import read_scores
from mrsynth.study.steps import Part, Step, fingerprint, literal, plain
from mrsynth.study.subjects import Fold, Leak, at_least_one, refuse_strangers, training_size, write_row_datalist
from mrsynth.training.checkpoint import read_records

OPTIONS_OF_EVERY_RUN: dict[str, dict[str, Any]] = {
    "training": {"output_dir": ".", "resume": True},
    "synthesize": {"output_dir": ".", "count": 1},
    "evaluate": {"output_dir": "."},
}
"""What the study gives to every run of a kind; their values are found when it starts."""

WEIGHTS = "models/model.pt"
SCORES = "evaluation/per_subject.csv"


@dataclass(frozen=True)
class Plan:
    """A study, ready to be laid out in steps.

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
            for name, grid, count in self.synthetic_sets(fold):
                training = self.train_generator(self.generators[name], fold)
                if training is not None:
                    made[training.name] = training
                step = self.synthesize(self.generators[name], grid, fold, count, training)
                made[step.name] = step
        for row in self.rows:
            for segmenter in self.segmenters.values():
                for fold in self.folds:
                    for seed in self.seeds:
                        for step in self.cell(row, segmenter, fold, seed, made):
                            made[step.name] = step
        return list(made.values())

    def synthetic_sets(self, fold: Fold) -> list[tuple[str, str | None, int]]:
        """(generator, grid, number of subjects) that the fold's rows need, the largest number of each.

        Raises:
            UserError: more subjects than there are ordered pairs of training subjects.
        """
        n = len(fold.parts["training"])
        counts: dict[tuple[str, str | None], int] = {}
        for row in self.rows:
            for name, multiple in row.synthetic.items():
                count = at_least_one(multiple, n)
                if count > n * (n - 1):
                    raise UserError(
                        f"at most {n * (n - 1)} synthetic subjects, the ordered pairs of fold {fold.number}'s {n} "
                        "training subjects",
                        f"{count} ({multiple:g} x {n}) of {name}",
                        f"table: {row.name}",
                        "lower the multiple, or give more subjects",
                    )
                if count:
                    key = (name, row.grid)
                    counts[key] = max(count, counts.get(key, 0))
        return [(name, grid, count) for (name, grid), count in counts.items()]

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
        folder = self.fold_folder(fold) / "generators" / slug(generator.name)
        step = self._step(
            f"fold {fold.number}: train generator {generator.name}",
            f"train generator {generator.name}",
            folder,
            "training",
            generator,
            generator.train,
            {"datalist": self.fold_datalist(fold), **generator.options},
            {"subjects": fold.subjects},
            inputs=(self.fold_datalist(fold),),
            outputs=(WEIGHTS,),
            work=generator_work(generator, fold),
            resumable=True,
        )
        return replace(step, after=partial(refuse_foreign_weights, folder / WEIGHTS, fold))

    def synthesize(self, generator: Generator, grid: str | None, fold: Fold, count: int, training: Step | None) -> Step:
        """The making of a fold's synthetic subjects on a grid."""
        folder = self._synthetic_folder(fold, generator.name, grid)
        weights = {} if training is None else {"weights": training.folder / WEIGHTS}
        options = self.grids[grid].inference_options if grid else {}
        step = self._step(
            f"fold {fold.number}: synthesize with {generator.name}" + (f" on {grid}" if grid else ""),
            f"synthesize with {generator.name}" + (f" on {grid}" if grid else ""),
            folder,
            "synthesize",
            generator,
            generator.inference,
            {
                "datalist": self.fold_datalist(fold),
                "section": "training",
                **weights,
                **generator.inference_options,
                **options,
            },
            {"subjects": fold.subjects},
            inputs=(self.fold_datalist(fold), *weights.values()),
            outputs=("synthetic/datalist.json",),
            needs=() if training is None else (training,),
            work=count,
        )
        options = {**step.options, "count": count}  # no part of the definition: more of the same is as good
        made = folder / "synthetic" / "datalist.json"
        return replace(step, options=options, after=partial(refuse_foreign_subjects, made, fold))

    def cell(self, row: Row, segmenter: Segmenter, fold: Fold, seed: int, made: Mapping[str, Step]) -> list[Step]:
        """A segmenter's training on a row, its fine-tuning, and its evaluation."""
        name = f"{row.name} / {segmenter.name} / fold {fold.number} / seed {seed}"
        folder = self.row_folder(row) / slug(segmenter.name) / f"fold_{fold.number}" / f"seed_{seed}"
        part = Part(row.name, segmenter.name, fold.number, seed)
        grid = self.grids[row.grid] if row.grid else Grid("")
        on = f" on {row.grid}" if row.grid else ""
        sets = {g: self._synthetic_folder(fold, g, row.grid) / "synthetic" / "datalist.json" for g in row.synthetic}
        makers = [step for step in made.values() if step.folder in {path.parents[1] for path in sets.values()}]
        weights = [step.options["weights"] for step in makers if "weights" in step.options]
        last = self.last_iterations(row)
        base = {"augmentation": row.augmentation, "seed": seed, **grid.options, **segmenter.options, **row.options}

        def train(
            what: str, place: str, iterations: int, before: Step | None = None, tune: FineTune | None = None
        ) -> Step:
            real = None if tune is None else tune.real
            datalist = folder / f"{place}.json"
            initial = {} if before is None else {"initial_weights": before.folder / WEIGHTS}
            step = self._step(
                f"{name}: {what}",
                f"train {segmenter.name}{on}",
                folder / place,
                "training",
                segmenter,
                segmenter.train,
                {
                    "datalist": datalist,
                    "max_iterations": iterations,
                    **initial,
                    **base,
                    **(tune.options if tune else {}),
                },
                {"subjects": fold.subjects, "real": row.real if real is None else real}
                | ({"synthetic": training_size(row, fold)[1]} if real is None else {}),
                inputs=(datalist, *(weights if before is None else initial.values())),
                outputs=(WEIGHTS,),
                needs=tuple(makers) if before is None else (before,),
                work=iterations,
                resumable=True,
                part=part,
            )
            return replace(
                step,
                before=partial(write_row_datalist, datalist, row, fold, seed, sets, real),
                after=partial(refuse_other_iterations, step.folder / WEIGHTS, iterations),
            )

        steps = [train("train", "train", self.max_iterations - last)]
        if row.fine_tune:
            steps.append(train("fine-tune", "fine_tune", last, steps[0], row.fine_tune))
        trained = steps[-1].folder / WEIGHTS
        steps.append(
            self._step(
                f"{name}: evaluate",
                f"evaluate {segmenter.name}{on}",
                folder / "evaluate",
                "evaluate",
                segmenter,
                segmenter.evaluate,
                {
                    "datalist": self.fold_datalist(fold),
                    "section": "test",
                    "weights": trained,
                    **grid.evaluate_options,
                    **segmenter.evaluate_options,
                },
                {"subjects": fold.subjects},
                inputs=(self.fold_datalist(fold), trained),
                outputs=(SCORES, "evaluation/metrics.json"),
                needs=(steps[-1],),
                work=len(fold.parts["test"]),
                part=part,
                after=partial(read_scores, folder / "evaluate" / SCORES, fold.ids("test")),
            )
        )
        return steps

    def last_iterations(self, row: Row) -> int:
        """Optimization steps of the row's fine-tuning; 0 where it has none.

        Raises:
            UserError: so few steps in all that the fine-tuning, or what goes before, would have none.
        """
        if row.fine_tune is None:
            return 0
        last = round(self.max_iterations * row.fine_tune.steps)
        if not 0 < last < self.max_iterations:
            raise UserError(
                "at least one optimization step of fine-tuning, and one before it",
                f"{last} of {self.max_iterations} (share {row.fine_tune.steps:g})",
                f"table: {row.name}: fine_tune: steps",
                "set steps to a share such as 0.25, or raise max_iterations",
            )
        return last

    def _synthetic_folder(self, fold: Fold, generator: str, grid: str | None) -> Path:
        return self.fold_folder(fold) / "synthetic" / slug(generator) / (slug(grid) if grid else "own_grid")

    def _step(
        self,
        name: str,
        kind: str,
        folder: Path,
        run_id: str,
        bundle: Generator | Segmenter,
        configs: Sequence[str],
        options: Mapping[str, Any],
        data: Mapping[str, Any],
        needs: Sequence[Step] = (),
        **more: Any,
    ) -> Step:
        """A run of a bundle; its definition does not depend on where the study or the bundle lies."""
        files = [bundle.bundle / "configs" / config for config in configs]
        check_options(bundle.bundle, configs, {**options, **OPTIONS_OF_EVERY_RUN[run_id]}, name)
        digests = {file: fingerprint(file) for file in sources(bundle.bundle, files)}
        place = [str(file) for file in files]
        run = (run_id, "--config_file", literal(place[0] if len(place) == 1 else place))

        def portable(value: Any) -> Any:
            inside = isinstance(value, Path) and value.is_relative_to(self.folder)
            return str(value.relative_to(self.folder)) if inside else plain(value)

        definition = {
            "run": run_id,
            "bundle": bundle.bundle.name,
            "sources": {str(file.relative_to(bundle.bundle)): digest for file, digest in digests.items()},
            "options": {key: portable(value) for key, value in options.items()},
            "data": dict(data),
            "needs": {step.name: step.key for step in needs},
        }
        return Step(
            name,
            kind,
            folder,
            run,
            options,
            definition,
            self.folder,
            digests,
            needs=tuple(step.name for step in needs),
            **more,
        )


def generator_work(generator: Generator, fold: Fold) -> float:
    """Subjects that the generator's training sees: epochs times training subjects."""
    epochs = setting(generator, "max_epochs")
    return (epochs if isinstance(epochs, (int, float)) else 1) * len(fold.parts["training"])


def refuse_foreign_weights(weights: Path, fold: Fold) -> None:
    """Refuse a generator that was trained on others than the fold's training subjects.

    Raises:
        Leak: naming them.
    """
    seen = record_of(weights).get("subjects")
    if not seen:
        raise UserError(
            "weights that say on which subjects they were trained",
            "no such record of them",
            weights.with_suffix(".json"),
            "train a bundle of this project",
        )
    training = set(fold.ids("training"))
    strangers = sorted(set(seen) - training)
    if strangers:
        home = {subject: section for section in SECTIONS for subject in fold.ids(section)}
        named = ", ".join(f"{subject} ({home.get(subject, 'unknown')})" for subject in strangers[:10])
        raise Leak(
            f"a generator trained on the {len(training)} training subjects of fold {fold.number} alone",
            f"{len(strangers)} others: {named}",
            weights,
            "remove this generator's folder and train it anew",
        )


def refuse_other_iterations(weights: Path, iterations: int) -> None:
    """Refuse a segmenter that was not trained for as many steps as all rows are to be.

    Raises:
        UserError: the record beside its weights says another number of iterations, or none.
    """
    told = (record_of(weights).get("settings") or {}).get("iterations")
    if told != iterations:
        raise UserError(
            f"weights of {iterations} optimization steps (settings: iterations in their record)",
            repr(told),
            weights.with_suffix(".json"),
            "take a bundle whose train.json obeys max_iterations and records its iterations",
        )


def record_of(weights: Path) -> Mapping[str, Any]:
    """The record of these very weights; empty where there is none."""
    return read_records(weights).get(sha256(weights)) or {}


def refuse_foreign_subjects(datalist: Path, fold: Fold) -> None:
    """Refuse synthetic subjects made from others than the fold's training subjects.

    Raises:
        Leak: naming them and their parents.
    """
    refuse_strangers(load_datalist(datalist, ["training"])["training"], fold, datalist)

"""The experiments of a paper on images: one bundle trained in several ways, each evaluated alike, side by side.

Each experiment is a training, an evaluation and a set of images, each in a process and a folder of its own; one that
was interrupted goes on, one that is complete is kept. At the end stand one contact sheet and one table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrsynth.errors import UserError
from mrsynth.files import atomic_path, sha256, slug, write_csv
from mrsynth.images import ContactSheet, read_images
from mrsynth.metrics import mean_sd_text
from mrsynth.metrics.realism import PAIRS
from mrsynth.study.engine import Engine, say
from mrsynth.study.steps import Step, refuse_other_definition
from mrsynth.study.tables import TEMPLATES
from mrsynth.training import check_writable

SHOWN = 10
"""Images of each experiment on the contact sheet."""

OUTPUTS = {
    "train": "models/model.pt",
    "evaluate": "evaluation/realism.json",
    "synthesize": "synthetic/datalist.json",
}
"""The three steps of an experiment, and what is there at the end of each."""

COLUMNS = {"frechet": "Fréchet", "nn_real": "1-NN real", "nn_fake": "1-NN fake", "c2st": "C2ST", "ms_ssim": "MS-SSIM"}
"""Measures in the table; `realism.csv` of each experiment has all."""


class Experiments:
    """Run it for ``<output_dir>/experiments.{csv,md,png}``.

    Args:
        bundle_root: the bundle.
        table: experiments: ``name``, ``train`` (names of configs, overlays after ``train.json``), ``options`` of the
            training.
        output_dir: a folder below it is each experiment's.
        options: of every training, such as ``dataset_dir`` and ``max_epochs``; an experiment's own go before them.
        evaluate_options: of every evaluation, such as ``count`` and ``section``.
        rows: names of the experiments wanted; None: all.
        parallel: steps at once: processes of this machine, or jobs of a cluster.
        cluster: None for this machine, or arguments of ``dask_jobqueue.SLURMCluster``.
    """

    def __init__(
        self,
        bundle_root: str | os.PathLike,
        table: Sequence[Mapping[str, Any]],
        output_dir: str | os.PathLike,
        options: Mapping[str, Any],
        evaluate_options: Mapping[str, Any],
        rows: Sequence[str] | None = None,
        parallel: int = 1,
        cluster: Mapping[str, Any] | None = None,
    ) -> None:
        names = [entry["name"] for entry in table]
        wanted = names if rows is None else list(rows)
        if unknown := [name for name in wanted if name not in names]:
            raise UserError(f"experiments among {names}", str(unknown), "rows", f"pass --rows \"['{names[0]}']\"")
        if len({slug(name) for name in names}) < len(names):
            do = "give each experiment a name of its own"
            raise UserError("experiments of different names", str(names), "table", do)
        self.root, self.folder, self.parallel = Path(bundle_root), Path(output_dir).absolute(), parallel
        self.cluster = cluster
        self.options, self.evaluate_options = dict(options), dict(evaluate_options)
        self.table = [entry for entry in table if entry["name"] in wanted]

    def steps(self) -> list[Step]:
        """Training, evaluation and images of each experiment."""
        steps = []
        for entry in self.table:
            name, training = entry["name"], {**self.options, **entry.get("options", {})}
            train = self._step("train", name, "training", entry.get("train", ["train.json"]), training)
            weights = {"weights": train.folder / "models" / "model.pt"}
            data = {k: training[k] for k in ("dataset_dir", "datalist", "patches") if training.get(k)}
            evaluate, show = {**data, **weights, **self.evaluate_options}, {**weights, "count": SHOWN}
            steps += [
                train,
                self._step("evaluate", name, "evaluate", ["evaluate.json"], evaluate, train),
                self._step("synthesize", name, "synthesize", ["inference.json"], show, train),
            ]
        return steps

    def run(self) -> list[dict[str, Any]]:
        """Run what is not complete, write sheet and table, and return the table's rows."""
        check_writable(self.folder)
        steps = self.steps()
        refuse_other_definition(steps)
        outcomes = Engine(steps, self.folder, self.parallel, cluster=self.cluster).run()
        failed = [f"{name}\n{outcome.reason}" for name, outcome in outcomes.items() if outcome.status == "failed"]
        well = {name for name, outcome in outcomes.items() if outcome.status in ("done", "kept")}
        complete = [e["name"] for e in self.table if all(f"{e['name']}: {kind}" in well for kind in OUTPUTS)]
        for text in failed:
            say(f"\nFailed: {text}")
        if not complete:
            raise UserError("an experiment that comes to its end", "none", self.folder, "read the logs named above")
        rows = [row for name in complete for row in self._rows(name)]
        write_csv(self.folder / "experiments.csv", rows)
        several = len({row["class"] for row in rows}) > 1
        template = TEMPLATES.get_template("experiments.md.j2")
        text = template.render(rows=rows, columns=COLUMNS, pairs=PAIRS, several=several).strip()
        with atomic_path(self.folder / "experiments.md") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        images = [shown for name in complete for shown in self._images(name)]
        titles = [f"{row['experiment']}, {row['class']}" if several else row["experiment"] for row in rows]
        sheet = ContactSheet(list(zip(titles, images, strict=True)))
        sheet.save(self.folder / "experiments.png")
        say(f"\n{text}\n\nMade in {self.folder}:\n  experiments.csv, experiments.md, experiments.png")
        return rows

    def _step(
        self, kind: str, name: str, run_id: str, configs: Sequence[str], options: Mapping[str, Any], *needs: Step
    ) -> Step:
        files = [self.root / "configs" / config for config in configs]
        if missing := [str(file) for file in files if not file.is_file()]:
            do = "name configs of the bundle in the table"
            raise UserError("configs of the bundle", f"no {', '.join(missing)}", name, do)
        sources = {file: sha256(file) for file in [*files, *sorted((self.root / "scripts").glob("*.py"))]}
        definition = {
            "options": {k: v for k, v in options.items() if k != "weights"},
            "sources": {file.name: digest for file, digest in sources.items()},
        }
        return Step(
            f"{name}: {kind}",
            kind,
            self.folder / slug(name) / kind,
            (run_id, "--config_file", str([str(file) for file in files])),
            options,
            definition,
            self.folder,
            sources,
            inputs=tuple(step.folder / "models" / "model.pt" for step in needs),
            outputs=(OUTPUTS[kind],),
            needs=tuple(step.name for step in needs),
            resumable=kind == "train",
        )

    def _rows(self, name: str) -> list[dict[str, Any]]:
        """One row a class: the measures, and those of the anchors."""
        path = self.folder / slug(name) / "evaluate" / "evaluation" / "realism.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        rows, nothing = [], {"mean": None, "sd": None}
        for of_class, found in content["classes"].items():
            row: dict[str, Any] = {"experiment": name, "class": of_class, "epoch": found["weights"].get("epoch")}
            row |= {"count": found["count"], "features": found["features"]}
            for measure, pair in product(COLUMNS, PAIRS):
                row[f"{measure}, {pair}"] = mean_sd_text(found["measures"].get(measure, {}).get(pair, nothing))
            rows.append(row)
        return rows

    def _images(self, name: str) -> list[np.ndarray]:
        """Its images `(SHOWN, H, W)`, a row a class, of the first channel."""
        images = read_images(self.folder / slug(name) / "synthesize" / "synthetic" / "datalist.json")
        stack = torch.stack([images[i][0] for i in range(len(images))]).numpy()
        return [stack[i : i + SHOWN] for i in range(0, len(stack), SHOWN)]

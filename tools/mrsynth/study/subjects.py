"""Who is in which part: the folds of the real subjects, and the training set of each row, without leaks."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth.checks import shorten
from mrsynth.conventions import REGIONS
from mrsynth.errors import UserError
from mrsynth.files import sha256
from mrsynth.manifest import (
    SECTIONS,
    check_lineage,
    load_datalist,
    resolve_datalist,
    split_subjects,
    write_datalist,
)
from mrsynth.study.definitions import Row
from mrsynth.study.steps import read_json
from mrsynth.training.checkpoint import read_records
from mrsynth.transforms.loading import map_labels, read_volume

LEAST = 2
"""Subjects in the training and in the test part: one alone has no pair to synthesize from, and no spread."""

Item = dict[str, Any]


class Leak(UserError):
    """Test subjects have found their way into a training; nothing of such a study may be used."""


@dataclass(frozen=True)
class Fold:
    """One split of the real subjects: datalist items by section."""

    number: int
    parts: Mapping[str, list[Item]]

    def ids(self, section: str) -> list[str]:
        """Subjects of a section."""
        return [item["subject"] for item in self.parts[section]]

    @property
    def subjects(self) -> dict[str, list[str]]:
        """Subjects by section."""
        return {section: self.ids(section) for section in SECTIONS}

    @cached_property
    def sections(self) -> dict[str, str]:
        """Section by subject."""
        return {subject: section for section, ids in self.subjects.items() for subject in ids}


def real_subjects(
    dataset_dir: str | os.PathLike | None, datalist: str | os.PathLike | None, options: Mapping[str, Any]
) -> dict[str, list[Item]]:
    """Items by section of a datalist, or of a dataset's folder indexed now.

    Raises:
        UserError: neither is given, what ``resolve_datalist`` raises, synthetic subjects among them, or
            items whose label values mean different things.
    """
    parts = resolve_datalist(dataset_dir, datalist, **options)
    where = datalist or dataset_dir
    items = [(section, item) for section in SECTIONS for item in parts[section]]
    if made := [f"{item['subject']} in {section}" for section, item in items if item.get("derived_from")]:
        expected = "real subjects alone: the study makes its synthetic ones itself, from each fold's training part"
        raise UserError(expected, f"{len(made)} synthetic: {_some(made)}", where, "remove them from the datalist")
    maps: dict[tuple, list[str]] = {}
    for _, item in items:
        maps.setdefault(tuple(sorted(item["label_map"].items())), []).append(item["subject"])
    if len(maps) > 1:
        found = [f"{dict(values)} in {len(ids)} subjects ({_some(ids, 3)})" for values, ids in maps.items()]
        raise UserError(
            "one meaning of the label values (label_map) in all items",
            "\n    ".join(["several:", *found]),
            where,
            "take the subjects of one dataset, or write all labels with the same values first",
        )
    return parts


def make_folds(
    parts: Mapping[str, list[Item]], folds: int | None, seed: int = 0, validation: float | int = 0.1
) -> list[Fold]:
    """The split as it is, or ``folds`` of them over all subjects, each subject in exactly one test part.

    Raises:
        UserError: fewer than two subjects in a training or test part, a split that cannot be made, or a patient or a
            file on two sides of it.
    """
    made = [Fold(0, dict(parts))]
    if folds is not None:
        items = {item["subject"]: item for section in SECTIONS for item in parts[section]}
        patients = {subject: item["patient"] for subject, item in items.items() if item.get("patient")}
        splits = [
            split_subjects(items, seed=seed, validation=validation, folds=folds, fold=number, patients=patients)
            for number in range(int(folds))
        ]
        made = [Fold(n, {part: [items[i] for i in ids[part]] for part in SECTIONS}) for n, ids in enumerate(splits)]
    for fold in made:
        check_lineage(fold.parts, where=f"datalist, fold {fold.number}")
        for section in ("training", "test"):
            if len(fold.parts[section]) < LEAST:
                found = f"{len(fold.parts[section])} in fold {fold.number}"
                do = f"give more subjects, or set split or folds so that {LEAST} are left for {section}"
                raise UserError(f"at least {LEAST} subjects for {section}", found, "dataset_dir or datalist", do)
    return made


def check_regions(folds: Sequence[Fold]) -> None:
    """Read all labels; refuse a training or test part in which a region has no voxel at all.

    Raises:
        UserError: naming the region, the part and the fold, a label that cannot be read, or one with values that its
            map does not hold.
    """
    items = {item["subject"]: item for fold in folds for part in fold.parts.values() for item in part}
    with ThreadPoolExecutor(2) as pool:
        present = dict(zip(items, pool.map(_regions_of, items.values()), strict=True))
    for fold, section, region in product(folds, ("training", "test"), REGIONS):
        if not any(region in present[subject] for subject in fold.ids(section)):
            raise UserError(
                f"region {region} (label values {list(REGIONS[region])}) in some {section} subject",
                f"no voxel of it in any of the {len(fold.parts[section])} of fold {fold.number}",
                "dataset_dir or datalist",
                "name the dataset whose label values these are (--dataset), or set another seed of the split",
            )


def _regions_of(item: Item) -> set[str]:
    if "label" not in item:
        do = "add its label to the datalist, or remove the subject"
        raise UserError("a label for each subject", f"none for {item['subject']}", "datalist", do)
    voxels, _ = read_volume(item["label"])
    values = set(np.unique(map_labels(voxels, item["label_map"], item["label"])).tolist())
    return {region for region, wanted in REGIONS.items() if values & set(wanted)}


def write_fold(path: Path, fold: Fold) -> None:
    """Write the fold's datalist; where there is one already it must divide the same subjects alike.

    One that names files which are not there, on a machine that has the data elsewhere, is written anew.

    Raises:
        UserError: the folder was begun with another split.
    """
    refuse_other_fold(path, fold)
    try:
        load_datalist(path)
    except UserError:
        write_datalist(path, {"name": f"fold {fold.number}: real subjects", **fold.parts})


def refuse_other_fold(path: Path, fold: Fold) -> None:
    """Refuse a study folder that was begun with another split of the subjects, naming those who have changed places."""
    there = read_json(path)
    if there is None:
        return
    before = {item["subject"]: section for section in SECTIONS for item in there.get(section, [])}
    now = fold.sections
    moved = [
        f"{subject}: {before.get(subject, 'absent')} there, {now.get(subject, 'absent')} now"
        for subject in sorted({*before, *now})
        if before.get(subject) != now.get(subject)
    ]
    if moved:
        expected = "the subjects and the split that this study folder was begun with"
        do = "pass the same data, split, folds and seeds, or another --output_dir"
        raise UserError(expected, f"{len(moved)} subjects elsewhere: {_some(moved)}", path, do)


def part_of(items: Sequence[Item], share: float, seed: int) -> list[Item]:
    """A share of the items, chosen by seed and subject: a larger share holds the smaller one."""
    count = at_least_one(share, len(items))
    ranked = sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item['subject']}".encode()).digest())
    chosen = {item["subject"] for item in ranked[:count]}
    return [item for item in items if item["subject"] in chosen]


def at_least_one(multiple: float, subjects: int) -> int:
    """``multiple`` of a number of subjects, rounded; 1 at least unless it is 0."""
    return max(1, math.floor(multiple * subjects + 0.5)) if multiple else 0


def training_size(row: Row, fold: Fold) -> tuple[int, dict[str, int]]:
    """Real subjects in the row's training set, and synthetic ones by generator."""
    n = len(fold.parts["training"])
    return at_least_one(row.real, n), {name: at_least_one(m, n) for name, m in row.synthetic.items() if m}


def write_row_datalist(
    path: Path, row: Row, fold: Fold, seed: int, synthetic: Mapping[str, Path], real: float | None = None
) -> None:
    """Write what a segmenter is trained on.

    Args:
        path: the datalist to write.
        row: its training set.
        fold: whose real subjects; validation and test part are the fold's.
        seed: of the choice among the training subjects.
        synthetic: datalist of the synthetic subjects by generator; the first ones are taken.
        real: share of the real subjects in place of the row's; then no synthetic ones are taken.

    Raises:
        Leak: a synthetic subject that does not descend from the fold's training subjects alone.
    """
    training = part_of(fold.parts["training"], row.real if real is None else real, seed)
    for name, count in training_size(row, fold)[1].items() if real is None else ():
        training = training + synthetic_subjects(synthetic[name], fold, count)
    name = f"{row.name}, fold {fold.number}, seed {seed}"
    content = {"name": name, **fold.parts, "training": training}
    try:
        check_lineage(content, where=path)
    except UserError as error:
        raise Leak(error.expected, error.found, error.where, error.do) from error
    write_datalist(path, content)


def synthetic_subjects(datalist: Path, fold: Fold, count: int) -> list[Item]:
    """The first ``count`` synthetic subjects of a datalist.

    Raises:
        UserError: there are fewer.
        Leak: naming those that do not say whom they are made from, or are made from others than the training subjects.
    """
    items = load_datalist(datalist, ["training"])["training"][:count]
    if len(items) < count:
        do = f"remove {datalist.parents[1]} and start again"
        raise UserError(f"{count} synthetic subjects", f"{len(items)}", datalist, do)
    found = []
    for subject, parents in ((item["subject"], item.get("derived_from")) for item in items):
        if not parents:
            found.append(f"{subject} does not say from whom it is made")
        found += [f"{subject} is made from {stranger}" for stranger in _strangers(parents or (), fold)]
    if found:
        raise Leak(
            f"synthetic subjects made from the training subjects of fold {fold.number} alone",
            f"{len(found)} conflicts: {_some(found)}",
            datalist,
            f"remove {datalist.parents[1]} and start again; use nothing trained on them",
        )
    return items


def refuse_foreign_weights(weights: Path, fold: Fold) -> None:
    """Refuse a generator that was trained on others than the fold's training subjects, or does not say on whom.

    Raises:
        Leak: naming them.
    """
    seen = record_of(weights).get("subjects")
    if not seen:
        expected, beside = "weights that say on which subjects they were trained", weights.with_suffix(".json")
        raise UserError(expected, "no such record of them", beside, "train a bundle of this project")
    if strangers := _strangers(sorted(seen), fold):
        raise Leak(
            f"a generator trained on the {len(fold.parts['training'])} training subjects of fold {fold.number} alone",
            f"{len(strangers)} others: {_some(strangers)}",
            weights,
            f"remove {weights.parents[1]} and start again",
        )


def record_of(weights: Path) -> Mapping[str, Any]:
    """The record of these very weights; empty where there is none."""
    return read_records(weights).get(sha256(weights)) or {}


def _strangers(subjects: Iterable[str], fold: Fold) -> list[str]:
    """Those who are not training subjects of the fold, and where they are instead."""
    homes = {subject: fold.sections.get(subject, "no part of this fold") for subject in subjects}
    return [f"{subject}, who is in {home}" for subject, home in homes.items() if home != "training"]


def _some(names: Sequence[str], most: int = 10) -> str:
    return "; ".join(shorten(names, most))

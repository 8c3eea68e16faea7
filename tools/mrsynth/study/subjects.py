"""Who is in which part: the folds of the real subjects, and the training set of each row, without leaks."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth.conventions import REGIONS
from mrsynth.errors import UserError
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
    made = [f"{item['subject']} in {section}" for section, item in items if item.get("derived_from")]
    if made:
        raise UserError(
            "real subjects alone: the study makes its synthetic ones itself, from each fold's training part",
            f"{len(made)} synthetic: {_some(made)}",
            where,
            "leave them out",
        )
    maps: dict[tuple, list[str]] = {}
    for _, item in items:
        maps.setdefault(tuple(sorted(item["label_map"].items())), []).append(item["subject"])
    if len(maps) > 1:
        found_maps = [f"{dict(values)} in {len(ids)} subjects ({_some(ids, 3)})" for values, ids in maps.items()]
        raise UserError(
            "one meaning of the label values (label_map) in all items",
            "\n    ".join(["several:", *found_maps]),
            where,
            "take the subjects of one dataset, or bring the labels to one convention first",
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
    if folds is None:
        made = [Fold(0, dict(parts))]
    else:
        items = {item["subject"]: item for section in SECTIONS for item in parts[section]}
        patients = {subject: item["patient"] for subject, item in items.items() if item.get("patient")}
        made = []
        for number in range(int(folds)):
            ids = split_subjects(items, seed=seed, validation=validation, folds=folds, fold=number, patients=patients)
            made.append(Fold(number, {section: [items[i] for i in ids[section]] for section in SECTIONS}))
    for fold in made:
        check_lineage(fold.parts, where=f"datalist, fold {fold.number}")
        for section in ("training", "test"):
            if len(fold.parts[section]) < LEAST:
                raise UserError(
                    f"at least {LEAST} subjects for {section}",
                    f"{len(fold.parts[section])} in fold {fold.number}",
                    "dataset_dir or datalist, split, folds",
                    "give more subjects, or divide them otherwise",
                )
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
    for fold in folds:
        for section in ("training", "test"):
            for region in REGIONS:
                if not any(region in present[subject] for subject in fold.ids(section)):
                    raise UserError(
                        f"region {region} (label values {list(REGIONS[region])}) in some {section} subject",
                        f"no voxel of it in any of the {len(fold.parts[section])} of fold {fold.number}",
                        "dataset_dir or datalist",
                        "check the dataset (--dataset) and its label values, or divide the subjects otherwise",
                    )


def _regions_of(item: Item) -> set[str]:
    if "label" not in item:
        raise UserError("a label for each subject", f"none for {item['subject']}", "datalist", "add it")
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
    if not path.exists() or not _readable(path):
        write_datalist(path, {"name": f"fold {fold.number}: real subjects", **fold.parts})


def refuse_other_fold(path: Path, fold: Fold) -> None:
    """Refuse a study folder that was begun with another split of the subjects.

    Raises:
        UserError: naming subjects who have changed places.
    """
    there = read_json(path)
    if there is None:
        return
    before = {item["subject"]: section for section in SECTIONS for item in there.get(section, [])}
    now = {subject: section for section in SECTIONS for subject in fold.ids(section)}
    moved = [
        f"{subject}: {before.get(subject, 'absent')} there, {now.get(subject, 'absent')} now"
        for subject in sorted({*before, *now})
        if before.get(subject) != now.get(subject)
    ]
    if moved:
        raise UserError(
            "the subjects and the split that this study folder was begun with",
            f"{len(moved)} subjects elsewhere: {_some(moved)}",
            path,
            "give the same data, split, folds and seeds, or another output_dir",
        )


def _readable(path: Path) -> bool:
    try:
        load_datalist(path)
    except UserError:
        return False
    return True


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
        items = load_datalist(synthetic[name], ["training"])["training"][:count]
        if len(items) < count:
            raise UserError(f"{count} synthetic subjects", f"{len(items)}", synthetic[name], "synthesize them anew")
        refuse_strangers(items, fold, synthetic[name])
        training = training + items
    content = {
        "name": f"{row.name}, fold {fold.number}, seed {seed}",
        "training": training,
        "validation": fold.parts["validation"],
        "test": fold.parts["test"],
    }
    try:
        check_lineage(content, where=path)
    except UserError as error:
        raise Leak(error.expected, error.found, error.where, error.do) from error
    write_datalist(path, content)


def refuse_strangers(items: Sequence[Item], fold: Fold, where: object) -> None:
    """Refuse synthetic subjects that do not say whom they are made from, or are made from others than the fold's.

    Raises:
        Leak: naming the synthetic subjects and those of their parents who are not training subjects.
    """
    home = {subject: section for section in SECTIONS for subject in fold.ids(section)}
    found = []
    for item in items:
        parents = item.get("derived_from") or []
        if not parents:
            found.append(f"{item['subject']} does not say from whom it is made")
        found += [
            f"{item['subject']} is made from {parent}, who is in {home.get(parent, 'no part of this fold')}"
            for parent in parents
            if home.get(parent) != "training"
        ]
    if found:
        raise Leak(
            f"synthetic subjects made from the training subjects of fold {fold.number} alone",
            f"{len(found)} conflicts: {_some(found)}",
            where,
            "remove this generator's folder and make its subjects anew; use nothing trained on them",
        )


def _some(names: Sequence[str], most: int = 10) -> str:
    return "; ".join(names[:most]) + (f"; and {len(names) - most} more" if len(names) > most else "")

"""Finding subjects in a downloaded folder by the file names that a dataset card gives."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mrsynth.checks import shorten
from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.manifest.cards import GENERIC, Card, card_ids, load_card
from mrsynth.manifest.patients import is_name_column, read_table
from mrsynth.manifest.splits import natural

MAX_DEPTH = 8
"""Folders below the root that are searched: enough for a download two folders above BRATS 2015's subjects."""

MOST_NAMES = 20
"""Subjects named in a message; the rest are counted."""

_UNPUBLISHED = re.compile(r"(?<![a-z])(?:valid|test)", re.IGNORECASE)
_GRADE = re.compile(r"(?:^|/)(HGG|LGG)/")


@dataclass
class Subject:
    """One subject as found on disk, nothing read yet; ``files`` maps t1, t1ce, ..., label to what was found."""

    id: str
    files: dict[str, list[Path]] = field(default_factory=dict)
    grade: str | None = None
    patient: str | None = None
    folder: str = ""
    fingerprint: str = ""

    def name_problems(self, kinds: Iterable[str]) -> list[str]:
        """Problems that the file names alone show: files that are missing or duplicated."""
        problems = []
        twice = {kind: paths for kind, paths in self.files.items() if len(paths) > 1}
        folders = sorted({str(path.parent) for paths in twice.values() for path in paths})
        if len(folders) > 1 and len(twice) > 1:
            problems.append(f"two subjects under one id, in {' and in '.join(folders)}")
        else:
            for kind, paths in twice.items():
                problems.append(f"{len(paths)} files for {kind}: {', '.join(map(str, sorted(paths)))}")
        missing = [kind for kind in kinds if kind not in self.files]
        if missing:
            problems.append(f"no file for {', '.join(missing)} in {self.folder}")
        return problems


@dataclass
class FoundSubjects:
    """The subjects of a folder, the card that their file names follow, and the card that their labels follow."""

    subjects: list[Subject]
    names: Card
    labels: Card
    warnings: list[str]
    label: bool = True

    @property
    def kinds(self) -> list[str]:
        """Files that each subject needs."""
        return [kind for kind in self.names.kinds if self.label or kind != "label"]


def find_subjects(root: Path, dataset: str | Sequence[str] | None = None, label: bool = True) -> FoundSubjects:
    """The subjects under ``root``.

    Args:
        root: a folder with subjects, or one a few levels above them.
        dataset: id of a card, or several (a list, or with commas) whose labels follow one convention. Without it the
            names must be those of exactly one known release, or in a general layout (BraTS, BIDS). With one, names of
            another release are accepted too, if the card's own are not there.
        label: whether subjects without a label are left out or refused.

    Raises:
        UserError: no such folder, no subjects, subjects of several datasets, or a card that cannot be indexed.
    """
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise UserError("a folder with subjects", found, root, "check the path (--root or dataset_dir)")
    requested = [_labeled_card(card_id) for card_id in card_names(dataset)]
    tree = _walk(root)
    _refuse_synthetic(tree)
    known = [load_card(card_id) for card_id in card_ids() if card_id != GENERIC]
    generic = load_card(GENERIC)
    hits = {card.id: subjects for card in known if card.indexable and (subjects := _group(tree, card))}
    others = _group(tree, generic)
    if len(requested) > 1:
        card = _joined(requested, root)
        if absent := [one.id for one in requested if one.id not in hits]:
            there = ", ".join(hits) or "none of a known release"
            do = f"pass --dataset without {','.join(absent)}"
            raise UserError(f"subjects of {card.id}", there, root, do)
        subjects = {i: subject for one in requested for i, subject in hits[one.id].items()}
        made = _finish(subjects, card, card, tree, label)
        made.warnings.append("releases repeat patients under other names: pass --same_patient to keep them together")
        return _with_left_out(made, requested, hits, others)
    only = requested[0] if requested else None
    if only and (only.id in hits or (only.id == GENERIC and others)):
        subjects = hits.get(only.id) or others
        return _with_left_out(_finish(subjects, only, only, tree, label), requested, hits, others)
    if len(hits) > 1:
        counts = ", ".join(f"{card_id} ({len(subjects)} subjects)" for card_id, subjects in hits.items())
        together = _same_convention([load_card(card_id) for card_id in hits])
        do = f"pass --dataset {','.join(hits)} to use them together, or " if together else ""
        do += f"pass --dataset {next(iter(hits))} (or another of them), or pass the folder of one dataset"
        raise UserError("subjects of one dataset", counts, root, do)
    if hits:
        ((card_id, subjects),) = hits.items()
        named = load_card(card_id)
        return _with_left_out(_finish(subjects, named, only or named, tree, label), [named], hits, others)
    if others:
        return _finish(others, generic, only or generic, tree, label)
    layouts = [card.about["example"] for card in [*known, generic] if card.indexable]
    raise UserError(
        "subjects in one of these layouts, up to a few folders below:\n    " + "\n    ".join(layouts),
        f"{sum(len(files) for _, files in tree)} files, none of them named so",
        root,
        "unpack the archives, or pass the folder that holds the subjects",
    )


def card_names(dataset: str | Sequence[str] | None) -> list[str]:
    """Ids of cards, given as one, as a list, or with commas between them; each once."""
    parts = dataset.split(",") if isinstance(dataset, str) else dataset or []
    return list(dict.fromkeys(name for part in parts if (name := str(part).strip())))


def _labeled_card(card_id: str) -> Card:
    card = load_card(card_id)
    if card.label_map is None:
        raise UserError(
            "a dataset that can be indexed: " + ", ".join(i for i in card_ids() if load_card(i).label_map),
            f"{card.id}, which has a card but no tumor labels in a layout known to this tool",
            "--dataset",
            f"pass --dataset with one of these; data_manifest/{card.id}.json says how to use {card.id}",
        )
    return card


def _same_convention(cards: Sequence[Card]) -> bool:
    """Whether the labels and channels of all cards mean the same."""
    return all(
        (c.label_map, c.channels, c.kinds) == (cards[0].label_map, cards[0].channels, cards[0].kinds) for c in cards
    )


def _joined(cards: Sequence[Card], root: Path) -> Card:
    """One card for subjects of several datasets that follow one convention."""
    if not _same_convention(cards) or not all(card.indexable for card in cards):
        raise UserError(
            "datasets whose files and label values have one meaning",
            "; ".join(f"{c.id}: labels {c.about['labels']}, files {', '.join(c.kinds) or 'none'}" for c in cards),
            root,
            f"pass --dataset {cards[0].id} (or another of them), and index each by itself",
        )
    licenses = list(dict.fromkeys(card.about["license"]["name"] for card in cards))
    about = {**cards[0].about, "expected": {}, "name": " + ".join(card.about["name"] for card in cards)}
    about["license"] = {**cards[0].about["license"], "name": "; ".join(licenses)}
    return replace(cards[0], id=",".join(card.id for card in cards), about=about)


def _with_left_out(
    made: FoundSubjects, used: Sequence[Card], hits: Mapping[str, dict[str, Subject]], others: Mapping[str, Subject]
) -> FoundSubjects:
    """Warn of subjects of other datasets in the folder, which are not used."""
    for card_id, subjects in hits.items():
        if card_id not in {card.id for card in used}:
            text = f"{len(subjects)} subjects of {card_id} left out: {_listed(subjects)}"
            if _same_convention([*used, load_card(card_id)]):
                text += f"; pass --dataset {','.join([*(card.id for card in used), card_id])} to use them too"
            made.warnings.append(text)
    named = {i for subjects in hits.values() for i in subjects} | {subject.id for subject in made.subjects}
    unknown = [i for i, other in others.items() if i not in named and set(SEQUENCES) <= set(other.files)]
    if unknown:
        made.warnings.append(
            f"{len(unknown)} further subjects left out, not named as in {made.names.id}: {_listed(unknown)}"
        )
    return made


def _listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(shorten(list(names), MOST_NAMES))


def _walk(root: Path) -> list[tuple[str, list[str]]]:
    """(folder, file names) below ``root``, sorted, without hidden ones."""
    tree = []
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        below = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) * (len(below.parts) < MAX_DEPTH)
        tree.append((folder, sorted(name for name in files if not name.startswith("."))))
    return tree


def _refuse_synthetic(tree: list[tuple[str, list[str]]]) -> None:
    """A synthetic set has a sidecar ``<id>/<id>.json`` a subject; indexed anew it would lose its parents."""
    for folder, files in tree:
        sidecar = Path(folder, f"{Path(folder).name}.json")
        if sidecar.name in files and '"recipient"' in sidecar.read_text(encoding="utf-8"):
            raise UserError(
                "subjects as their dataset publishes them",
                "synthetic ones, whose parents an index of the folder would lose",
                folder,
                "pass --datalist with the datalist.json that was written beside them",
            )


def _group(tree: list[tuple[str, list[str]]], card: Card) -> dict[str, Subject]:
    """Subjects by id, sorted by id."""
    start = len(str(Path(tree[0][0]).parent))  # paths are matched from the root's own name on
    subjects: dict[str, Subject] = {}
    for folder, files in tree:
        relative = folder[start:].replace(os.sep, "/").lstrip("/")
        for name in files:
            path = f"{relative}/{name}"
            for pattern in card.patterns:
                if match := pattern.match(path):
                    subject = _subject(subjects, match, path, folder)
                    kind = pattern.kind or next(kind for kind in card.kinds if match[kind])
                    if pattern.kind and kind in subject.files:
                        break  # an odd name, but the regular file is there as well
                    subject.files.setdefault(kind, []).append(Path(folder, name))
                    break
        if card.subject_folder and (match := card.subject_folder.search(relative)):
            _subject(subjects, match, relative + "/", folder)  # so that an empty folder is reported
    return dict(sorted(subjects.items(), key=lambda item: natural(item[0])))


def _subject(subjects: dict[str, Subject], match: re.Match[str], path: str, folder: str) -> Subject:
    subject_id = match["subject"].replace("/", "_")
    if subject_id not in subjects:
        patient = match.groupdict().get("patient")
        grade = _GRADE.search(path)
        subjects[subject_id] = Subject(
            subject_id,
            grade=grade[1] if grade else None,
            patient=patient.replace("/", "_") if patient else None,
            folder=folder,
        )
    return subjects[subject_id]


def _finish(
    subjects: Mapping[str, Subject], names: Card, labels: Card, tree: list[tuple[str, list[str]]], label: bool
) -> FoundSubjects:
    root = tree[0][0]
    warnings = []
    unpublished = [
        subject.id
        for subject in subjects.values()
        if label and "label" not in subject.files and _UNPUBLISHED.search(os.path.relpath(subject.folder, root))
    ]
    kept = [subject for subject in subjects.values() if subject.id not in set(unpublished)]
    if not kept:
        raise UserError(
            f"subjects of {names.id} with labels",
            f"{len(unpublished)} subjects of its validation or test part, whose labels were never published",
            root,
            "pass the folder of the training part, or --label False where no label is needed",
        )
    if unpublished:
        warnings.append(
            f"{len(unpublished)} subjects of a validation or test part left out, since they have no labels: "
            f"{_listed(unpublished)}"
        )
    for folder, files in tree:
        if "dataset.json" in files and names.about.get("file_channels"):
            _check_decathlon(Path(folder, "dataset.json"), labels)
        for name in files:
            if name.lower().endswith(".csv") and "mapping" in name.lower():
                _add_grades(kept, Path(folder, name))
    expected = labels.about.get("expected", {}).get("training")
    if expected and len(kept) != expected:
        warnings.append(f"{len(kept)} subjects found; the training part of {labels.id} has {expected}")
    return FoundSubjects(kept, names, labels, warnings, label)


def _check_decathlon(path: Path, card: Card) -> None:
    """Refuse a ``dataset.json`` whose labels or channels are not those that the card states."""
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        labels = {int(value): str(text) for value, text in stated["labels"].items() if int(value) != 0}
        modality = [stated["modality"][key] for key in sorted(stated["modality"], key=int)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # not the Decathlon's own file, so it says nothing about the labels
    expected = {int(value): text for value, text in card.about["labels"].items()}
    if {value: _plain(text) for value, text in labels.items()} != {v: _plain(t) for v, t in expected.items()}:
        raise UserError(
            f"labels of {card.id}: {expected}", f"{labels}", path, "pass --dataset with the card whose labels they are"
        )
    channels = card.about.get("file_channels")
    if channels and [text.lower() for text in modality] != [text.lower() for text in channels]:
        raise UserError(f"channels of {card.id}: {channels}", f"{modality}", path, "restore the published files")


def _plain(text: str) -> str:
    """Text with British spellings changed to American ones."""
    return text.lower().replace("oedema", "edema").replace("tumour", "tumor")


def _add_grades(subjects: list[Subject], path: Path) -> None:
    """Set ``grade`` from a table such as BraTS' name_mapping.csv, where the folder did not say it."""
    grades = {}
    for row in read_table(path):
        grade = next((value for column, value in row.items() if column.lower() == "grade"), "")
        if grade in ("HGG", "LGG"):
            grades.update({value: grade for column, value in row.items() if is_name_column(column) and value})
    for subject in subjects:
        subject.grade = subject.grade or grades.get(subject.id)

"""Lineage: no subject, and no synthetic subject made from it, may be on two sides of a split.

A synthetic subject descends from the donor of its tumor, the recipient of it, and every subject that the
generator's weights were trained on; ``derived_from`` lists all of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mrsynth.checks import shorten
from mrsynth.conventions import PHANTOM_PREFIX
from mrsynth.errors import UserError
from mrsynth.manifest.fingerprints import fingerprints
from mrsynth.manifest.splits import SECTIONS

_LOG = logging.getLogger(__name__)

MOST_NAMES = 20
"""Subjects named in a message; the rest are counted."""


def check_lineage(
    datalist: Mapping[str, Any],
    patients: Mapping[str, str] | None = None,
    where: object = "datalist",
    folder: str | os.PathLike = ".",
) -> None:
    """Refuse a datalist in which training and evaluation share a patient.

    Args:
        datalist: sections of items with ``subject`` and, where they apply, ``patient`` and ``derived_from``.
        patients: patient by subject id, for subjects that are not in the datalist or carry no ``patient``.
        where: the file to name in the message.
        folder: that the items' paths are relative to.

    Raises:
        UserError: naming the subjects: one subject, patient or file in two parts; a synthetic subject in the
            test part; a synthetic subject with an ancestor in another part.
    """
    parts = {section: datalist.get(section) or [] for section in SECTIONS}
    items = {item["subject"]: item for part in parts.values() for item in part}
    persons = _persons(items, patients)
    found: list[str] = []
    seen: dict[str, tuple[str, str]] = {}
    for section, part in parts.items():
        for item in part:
            subject = item["subject"]
            person = persons.get(subject, f"subject {subject}")
            for key in (f"id {subject}", person, *(f"file {path}" for path in _files(item, folder))):
                first, other = seen.setdefault(key, (section, subject))
                if first != section:
                    kind, name = key.split(" ", 1)
                    same = "is" if other == subject else f"is the same {kind} as {other} ({name}), which is"
                    found.append(f"{subject} in {section} {same} in {first}")
                    break
    part_of = {item["subject"]: section for section, part in parts.items() for item in part}
    part_of_person = {persons.get(subject, f"subject {subject}"): section for subject, section in part_of.items()}
    for subject, item in items.items():
        if not item.get("derived_from"):
            continue
        if part_of[subject] == "test":
            found.append(f"{subject} in test is synthetic")
            continue
        for ancestor in _ancestors(subject, items):
            place = part_of.get(ancestor) or part_of_person.get(persons.get(ancestor, f"subject {ancestor}"))
            if place and place != part_of[subject]:
                found.append(f"{subject} in {part_of[subject]} is made from {ancestor}, who is in {place}")
    if found:
        raise UserError(
            "each patient, and all that is made of them, in one part; no synthetic subject in the test part",
            f"{len(found)} conflicts:\n    " + "\n    ".join(shorten(found, MOST_NAMES)),
            where,
            "write a new split with python -m mrsynth index, or make synthetic subjects from training subjects only",
        )


def patients_of(subjects: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Patient by subject id, for the datalist items that name one, of all sections."""
    return {i["subject"]: i["patient"] for part in subjects.values() for i in part if i.get("patient")}


def check_overlap(record: Mapping[str, Any], items: Iterable[Mapping[str, Any]], what: object = "weights") -> None:
    """Refuse evaluation subjects that the weights have seen, even under another id or in another scan.

    Args:
        record: of the weights: ``subjects``, those of their training, ``patients``, patient by subject id where
            known, and ``fingerprints`` of their images by subject id. Where there are no fingerprints, ids and patients
            decide, and a log line says so.
        items: datalist items that are held out.
        what: the checkpoint or datalist to name in the message.

    Raises:
        UserError: naming the subjects.
    """
    items = list(items)
    held_out = {item["subject"]: item.get("patient") for item in items}
    patients = {**held_out, **record.get("patients", {})}
    seen = set(record["subjects"])
    persons = {patients.get(subject) for subject in seen} - {None}
    both = sorted(subject for subject in held_out if subject in seen or patients[subject] in persons)
    if both:
        raise UserError(
            "held-out subjects whom the weights have not seen",
            f"{len(both)} were in their training, or another scan of the patient was: "
            + ", ".join(shorten(both, MOST_NAMES)),
            what,
            "hold out other subjects, or train without these",
        )
    _refuse_renamed(record, items, what)


def in_section(
    subjects: Mapping[str, Sequence[Mapping[str, Any]]],
    section: str,
    record: Mapping[str, Any] | None = None,
    weights: object = None,
) -> list[dict[str, Any]]:
    """Items of ``section``.

    Args:
        subjects: datalist items by section.
        section: one of them, or ``all``.
        record: of the weights that are used on the items; given, it must be of the same cohort.
        weights: their file, for the message.

    Raises:
        UserError: no such section, nobody in it, a training subject under another id, or phantoms for weights that
            were trained on none, or the other way round.
    """
    if section not in (*subjects, "all"):
        known = [*sorted(subjects), "all"]
        raise UserError(f"a section: {', '.join(known)}", repr(section), "section", "pass --section with one of these")
    chosen = [item for part in subjects.values() for item in part] if section == "all" else subjects[section]
    if not chosen:
        raise UserError(
            "at least one subject",
            f"none in section {section!r}",
            "dataset_dir or datalist",
            f"pass another --section, or give a split with subjects for {section}",
        )
    items = [dict(item) for item in chosen]
    if record is not None:
        _check_cohort(record, items, weights)
        _refuse_renamed(record, items, weights)
    return items


def with_ancestors(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Ids of subjects, and of all subjects that the synthetic ones among them are made from.

    Examples:
        >>> from mrsynth.manifest import with_ancestors
        >>> with_ancestors([{"subject": "Synthetic_0", "derived_from": ["A", "B"]}])
        ['Synthetic_0', 'A', 'B']
    """
    return [i for item in items for i in (item["subject"], *item.get("derived_from", []))]


def held_out(
    subjects: Mapping[str, Sequence[Mapping[str, Any]]], section: str, record: Mapping[str, Any], weights: object
) -> list[dict[str, Any]]:
    """Items of ``section``, none of whose patients the weights were trained on.

    Args:
        subjects: datalist items by section.
        section: ``test``, as a rule.
        record: of the weights, with ``subjects`` and ``patients``.
        weights: their file, for the message.

    Raises:
        UserError: no such section, nobody in it, somebody whom the weights have seen, or phantoms for weights that were
            trained on none, or the other way round.
    """
    items = in_section(subjects, section, record, weights)
    check_overlap(record, items, weights)
    return items


def _refuse_renamed(record: Mapping[str, Any], items: Sequence[Mapping[str, Any]], what: object) -> None:
    """Refuse images on which the weights were trained under another subject's id."""
    others = [item for item in items if item.get("image") and item["subject"] not in set(record["subjects"])]
    if not others:
        return
    if not record.get("fingerprints"):
        if record["subjects"]:
            _LOG.warning("%s records no fingerprints of its training images: only ids decide who is unseen", what)
        return
    trained = {text: subject for subject, text in record["fingerprints"].items()}
    same = [f"{i} has the images of {trained[text]}" for i, text in fingerprints(others).items() if text in trained]
    if same:
        raise UserError(
            "subjects whose images are not among those that the weights were trained on",
            f"{len(same)} training subjects under another id:\n    " + "\n    ".join(shorten(same, MOST_NAMES)),
            what,
            "leave these subjects out of the datalist, or train without them",
        )


def _check_cohort(record: Mapping[str, Any], items: Sequence[Mapping[str, Any]], weights: object) -> None:
    """Refuse the embedded phantoms, which an evaluation without data uses, for weights of real subjects."""
    trained = {subject.startswith(PHANTOM_PREFIX) for subject in record["subjects"]}
    evaluated = {item["subject"].startswith(PHANTOM_PREFIX) for item in items}
    if trained and trained.isdisjoint(evaluated):
        kinds = {True: "phantoms of the embedded cohort", False: "subjects of a dataset"}
        raise UserError(
            " and ".join(kinds[kind] for kind in sorted(trained)) + ", on which the weights were trained",
            " and ".join(kinds[kind] for kind in sorted(evaluated)),
            weights,
            "pass --datalist with the datalist of the training; a training on --dataset_dir writes it to "
            "<output_dir>/datalist.json",
        )


def _persons(items: Mapping[str, Mapping[str, Any]], patients: Mapping[str, str] | None) -> dict[str, str]:
    """Patient by subject id, marked so that it cannot be mistaken for an id."""
    persons = {subject: f"patient {patient}" for subject, patient in (patients or {}).items()}
    persons.update({i: f"patient {item['patient']}" for i, item in items.items() if item.get("patient")})
    return persons


def _ancestors(subject: str, items: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """All subjects that ``subject`` is made from, directly or indirectly, in order of first mention."""
    ancestors: dict[str, None] = {}
    queue = list(items[subject]["derived_from"])
    while queue:
        parent = queue.pop(0)
        if parent not in ancestors and parent != subject:
            ancestors[parent] = None
            queue += items.get(parent, {}).get("derived_from") or []
    return list(ancestors)


def _files(item: Mapping[str, Any], folder: str | os.PathLike) -> list[str]:
    """Absolute paths of an item's images and label, each file in one spelling."""
    image, label = item.get("image", []), item.get("label")
    names = [*([image] if isinstance(image, str) else image), *([label] if label else [])]
    return [os.path.abspath(os.path.join(folder, name)) for name in names]

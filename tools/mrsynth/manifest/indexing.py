"""From a downloaded folder to a checked MONAI datalist: ``python -m mrsynth index --root DIR --out FILE``.

The datalist is JSON in the form of the Medical Segmentation Decathlon: ``name``, ``dataset`` (the card's id),
``license``, ``modality``, ``labels``, ``label_map`` (value in the files: value in this project), ``channels``
(None, or which channels of a 4D file are t1, t1ce, t2, flair), ``split`` (how it was made), the lists
``training``, ``validation`` and ``test``, ``skipped`` and ``warnings``. An item has ``image`` (four paths in
the order of ``SEQUENCES``, or one 4D file), ``label``, ``subject``, ``fingerprint`` of the images and, where known,
``grade`` and ``patient``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from mrsynth.checks import shorten
from mrsynth.conventions import BACKGROUND, CORE, EDEMA, ENHANCING, SEQUENCES
from mrsynth.errors import UserError
from mrsynth.files import write_json
from mrsynth.home import cache_home
from mrsynth.manifest.cards import Card, card_ids, load_card
from mrsynth.manifest.check import SubjectFacts, check_subject
from mrsynth.manifest.folders import FoundSubjects, Subject, find_subjects
from mrsynth.manifest.patients import read_patients
from mrsynth.manifest.splits import SECTIONS, split_subjects

LABEL_NAMES = {BACKGROUND: "background", CORE: "core", EDEMA: "edema", ENHANCING: "enhancing"}
MOST_LINES = 40
"""Bad subjects named in one message; the rest are counted."""

_CHECKS_VERSION = 3  # raise it when check_subject or its facts change, so that cached results are not used


def index(
    root: str | os.PathLike,
    out: str | os.PathLike | None = None,
    dataset: str | Sequence[str] | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    split: str = "random",
    validation: float | int = 0.1,
    test: float | int = 0.2,
    folds: int | None = None,
    fold: int = 0,
    same_patient: str | os.PathLike | None = None,
    workers: int | None = None,
    use_cache: bool = True,
    label: bool = True,
) -> dict[str, Any]:
    """Find the subjects of a folder, read and check all their files, split them, and write a datalist.

    Args:
        root: folder as downloaded and unpacked, or one a few levels above the subjects.
        out: datalist to write (.json); without it nothing is written.
        dataset: id of a dataset card, if file names do not tell what the label values mean; or several ids, separated
            by commas, to use releases with the same label values together.
        skip_bad: continue without subjects that cannot be used, and list them under ``skipped``.
        seed: seed of the split.
        split: ``random``, or ``ordered``, which takes the first subjects for training.
        validation: share (0.1) or number (37) of subjects for validation; 0 for none.
        test: share (0.2) or number (73) of subjects for testing; 0 for none.
        folds: k of a k-fold cross-validation, in place of ``test``.
        fold: number of the test fold, from 0.
        same_patient: JSON or CSV file that names the subjects of each patient; they stay on one side of the split.
        workers: threads that read and check; 2 by default.
        use_cache: reuse the results of an earlier index for files that have not changed.
        label: False keeps subjects without a label, for work that needs none.

    Returns:
        The datalist with absolute paths. In the written file, paths below its own folder are relative to it.

    Raises:
        UserError: no subjects, label values of unclear meaning, unusable subjects (all of them in one
            message), or a split that cannot be made.
    """
    root = Path(os.path.abspath(Path(root).expanduser()))
    patients = read_patients(same_patient) if same_patient else {}
    found = find_subjects(root, dataset, label)
    for subject in found.subjects:
        subject.patient = patients.get(subject.id) or patients.get(subject.patient or "") or subject.patient
    options: dict[str, Any] = {"mode": split, "seed": seed, "validation": validation, "test": test}
    options.update({"folds": folds, "fold": fold} if folds is not None else {})
    _split(found.subjects, options)  # a split that cannot be made is refused before an hour of reading

    facts = _check_all(root, found, workers or 2, use_cache)
    _refuse_unclear(root, found, facts)
    skipped = _bad_subjects(found, facts)
    if skipped and not skip_bad:
        raise UserError(
            "subjects whose files are all there, readable, on one grid and labeled as the card of "
            f"{found.labels.id} says",
            f"{len(skipped)} of {len(found.subjects)} subjects cannot be used:\n" + _listed(skipped),
            root,
            "replace these files, or pass --skip_bad to go on without these subjects",
        )
    bad = {entry["subject"] for entry in skipped}
    good = [subject for subject in found.subjects if subject.id not in bad]
    if not good:
        raise UserError(
            "at least one subject that can be used",
            "none:\n" + _listed(skipped),
            root,
            "replace these files, or pass another folder",
        )
    for subject in good:
        subject.fingerprint = facts[subject.id].fingerprint
    datalist = _datalist(found, good, _split(good, options), options)
    datalist["skipped"] = skipped
    datalist["warnings"] = (
        found.warnings
        + _same_images(good)
        + [
            f"{s.id}: {facts[s.id].outside} of {facts[s.id].tumor} labeled voxels lie outside the brain"
            for s in good
            if facts[s.id].outside
        ]
    )
    if out is not None:
        write_datalist(out, datalist)
    return datalist


def write_datalist(path: str | os.PathLike, datalist: Mapping[str, Any]) -> None:
    """Write a datalist whose paths are absolute; those below the file's own folder are made relative to it."""
    path = Path(os.path.abspath(Path(path).expanduser()))

    def relative(name: str) -> str:
        file = Path(name)
        return file.relative_to(path.parent).as_posix() if file.is_relative_to(path.parent) else name

    content = dict(datalist)
    for section in SECTIONS:
        items = [dict(item) for item in datalist.get(section, [])]
        for item in items:
            for key in {"image", "label"} & set(item):
                value = item[key]
                item[key] = relative(value) if isinstance(value, str) else [relative(name) for name in value]
        content[section] = items
    write_json(path, content)


def summary(datalist: Mapping[str, Any]) -> str:
    """A few lines on a datalist, for the screen."""
    counts = ", ".join(f"{len(datalist[section])} {section}" for section in SECTIONS)
    lines = [f"{datalist['name']}: {counts}; license: {datalist['license']}"]
    lines += [f"skipped {entry['subject']}: {'; '.join(entry['why'])}" for entry in datalist["skipped"][:MOST_LINES]]
    lines += [f"warning: {text}" for text in datalist["warnings"][:MOST_LINES]]
    return "\n".join(lines)


def _split(subjects: list[Subject], options: Mapping[str, Any]) -> dict[str, list[str]]:
    patients = {subject.id: subject.patient for subject in subjects if subject.patient}
    return split_subjects([subject.id for subject in subjects], patients=patients, **options)


def _check_all(root: Path, found: FoundSubjects, workers: int, use_cache: bool) -> dict[str, SubjectFacts]:
    """Facts by subject id. Subjects with wrong file names are not read."""
    files = {
        subject.id: {kind: paths[0] for kind, paths in subject.files.items()}
        for subject in found.subjects
        if not subject.name_problems(found.kinds)
    }
    with _cache(root, use_cache) as cached:
        keys = {subject_id: _key(paths) for subject_id, paths in files.items()}
        facts = {i: SubjectFacts(**cached[key]) for i, key in keys.items() if key in cached}
        todo = [i for i in files if i not in facts]
        pool = ThreadPoolExecutor(workers)
        try:
            running = {pool.submit(check_subject, files[i], found.names.channels): i for i in todo}
            quiet = True if len(todo) < 20 else None  # None: only on a terminal
            for done in tqdm(as_completed(running), "checking", len(todo), disable=quiet, unit=" subjects"):
                facts[running[done]] = done.result()
        finally:
            pool.shutdown(cancel_futures=True)
            # a bad subject is read again next time: it may have been the disk, not the file
            sound = {keys[i]: asdict(fact) for i, fact in facts.items() if not fact.problems}
            cached.clear()
            cached.update(sound)
    return facts


@contextmanager
def _cache(root: Path, use: bool) -> Iterator[dict[str, Any]]:
    """Results of earlier checks of ``root`` by key, saved again at the end, under a lock."""
    cached: dict[str, Any] = {}
    if not use:
        yield cached
        return
    path = cache_home() / "index" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    except OSError:  # a home that cannot be written: index without a cache
        yield cached
        return
    try:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            cached.update(content["subjects"] if content.get("version") == _CHECKS_VERSION else {})
        except (OSError, ValueError, KeyError, AttributeError):
            pass  # none yet, or not ours
        before = dict(cached)
        try:
            yield cached
        finally:
            if cached != before:
                with suppress(UserError):  # the next index will be slow, no more
                    write_json(path, {"version": _CHECKS_VERSION, "root": str(root), "subjects": cached})
    finally:
        lock.release()


def _key(files: Mapping[str, Path]) -> str:
    """A key that changes when a file is replaced, touched or moved."""
    stats = {kind: (str(path), path.stat()) for kind, path in sorted(files.items())}
    text = json.dumps([(kind, path, stat.st_size, stat.st_mtime_ns) for kind, (path, stat) in stats.items()])
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_unclear(root: Path, found: FoundSubjects, facts: Mapping[str, SubjectFacts]) -> None:
    """Refuse names of no known release with labels that could follow more than one convention."""
    if found.labels.published:
        return
    values = {value for fact in facts.values() if not fact.problems for value in fact.values}
    if not values or (ENHANCING in values and 3 not in values):
        return
    meanings = [
        f"{i}: " + ", ".join(f"{value} {text}" for value, text in load_card(i).about["labels"].items())
        for i in ("brats2015", "brats2021", "brats2023", "msd_task01")
    ]
    raise UserError(
        "label values that can mean only one thing",
        f"values {sorted(values)} in subjects whose names are those of no known release; the conventions are\n    "
        + "\n    ".join(meanings),
        root,
        "pass --dataset with the one whose convention it is: "
        + ", ".join(i for i in card_ids() if load_card(i).label_map),
    )


def _bad_subjects(found: FoundSubjects, facts: Mapping[str, SubjectFacts]) -> list[dict[str, Any]]:
    """``{"subject", "why"}`` of each subject that cannot be used, in order."""
    bad = []
    for subject in found.subjects:
        why = subject.name_problems(found.kinds)
        if subject.id in facts:
            why += facts[subject.id].problems + _foreign_values(subject, facts[subject.id], found.labels)
        if why:
            bad.append({"subject": subject.id, "why": why})
    return bad


def _same_images(subjects: Sequence[Subject]) -> list[str]:
    """Warnings of subjects that have the same images under several ids."""
    first: dict[str, str] = {}
    pairs = [(s.id, first.setdefault(s.fingerprint, s.id)) for s in subjects]
    return [f"{i} has the same images as {other}: leave one of them out" for i, other in pairs if i != other]


def _foreign_values(subject: Subject, facts: SubjectFacts, card: Card) -> list[str]:
    allowed = card.label_map or {}
    foreign = [value for value in facts.values if value not in allowed]
    if not foreign:
        return []
    hints = "".join(f" ({card.foreign(value)})" for value in foreign if card.foreign(value))
    return [f"{subject.files['label'][0]}: label values {foreign}, where {card.id} has {sorted(allowed)}{hints}"]


def _listed(skipped: list[dict[str, Any]]) -> str:
    lines = shorten([f"{entry['subject']}: {'; '.join(entry['why'])}" for entry in skipped], MOST_LINES)
    return "\n".join("    " + line for line in lines)


def _datalist(
    found: FoundSubjects, subjects: list[Subject], parts: Mapping[str, list[str]], options: Mapping[str, Any]
) -> dict[str, Any]:
    by_id = {subject.id: subject for subject in subjects}
    card = found.labels
    content: dict[str, Any] = {
        "name": card.about["name"],
        "dataset": card.id,
        "license": card.about["license"]["name"],
        "modality": {str(i): sequence for i, sequence in enumerate(SEQUENCES)},
        "labels": {str(value): name for value, name in LABEL_NAMES.items()},
        "label_map": {str(value): mapped for value, mapped in (card.label_map or {}).items()},
        "channels": found.names.channels,
        "split": dict(options),
    }
    for section in SECTIONS:
        content[section] = [_item(by_id[subject_id]) for subject_id in parts[section]]
    return content


def _item(subject: Subject) -> dict[str, Any]:
    files = {kind: str(paths[0]) for kind, paths in subject.files.items()}
    image: str | list[str] = files["image"] if "image" in files else [files[sequence] for sequence in SEQUENCES]
    item = {"image": image, "subject": subject.id}
    item.update({"label": files["label"]} if "label" in files else {})
    item.update({key: value for key in ("grade", "patient", "fingerprint") if (value := getattr(subject, key))})
    return item

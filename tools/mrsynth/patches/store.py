"""A store of patches: cut once, then read by any number of trainings.

::

    OUT/index.json                index of the store; written last, so its presence means that the store is complete
    OUT/patches/<subject>.npy     int16 (n, C, 64, 64), to be memory-mapped
    OUT/patches/<subject>.json    facts about these n patches; its presence means that the subject is complete

``index.json`` has ``channels``, ``classes``, ``size`` (rows, columns), ``scale``, ``settings`` and ``split`` (options
of :func:`cut_patches`), ``subjects`` by section, and ``items`` with one line for each patch::

    {"file": "patches/A.npy", "row": 3, "subject": "A", "class": 2, "section": "training", "slice": 14,
     "center": [row, column], "lesion": 1}

``class`` is an index into ``classes``. ``lesion`` is the lesion's number in the subject's label, null for a healthy
patch. ``patient`` is added if it is known. A training converts a value of channel c to [-1, 1] by
``value / scale["divide"][c] - scale["subtract"][c]``. The sequences are scaled from [0, 1023]. The subtraction is only
divided by 1023: it remains half the difference of its two images, no change remains 0, and negative values, which
motion causes, are kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mrsynth import __version__
from mrsynth.checks import shorten, whole_number
from mrsynth.errors import UserError
from mrsynth.files import atomic_path, unwritable, write_json
from mrsynth.manifest import SECTIONS
from mrsynth.manifest.breasts import CLASSES, MOST_LINES, SEQUENCES, Cohort, read_cohort
from mrsynth.patches.cutting import (
    BRIGHTEST,
    HIGHEST,
    SUBTRACTION,
    cut,
    healthy_centers,
    lesion_centers,
    read_examination,
)

logger = logging.getLogger(__name__)

INDEX, FOLDER = "index.json", "patches"
VERSION = 2
"""Version of the cutting. Raise it whenever a change alters a value: older stores are then refused."""


def cut_patches(
    root: str | os.PathLike,
    out: str | os.PathLike,
    size: Sequence[int] = (512, 512, 32),
    patch: int = 64,
    clear: int = 32,
    healthy: int = 100,
    classes: str | Sequence[str] = CLASSES,
    sequences: str | Sequence[str] = SEQUENCES,
    seed: int = 0,
    split: str = "random",
    validation: float | int = 0.1,
    test: float | int = 0.2,
    folds: int | None = None,
    fold: int = 0,
    skip_bad: bool = False,
    workers: int = 2,
) -> Path:
    """Cut the patches of a cohort of breast MRI into a store.

    A run that was interrupted continues where it stopped. Subjects whose files have changed are cut again. A complete
    store is never overwritten with other subjects or another split.

    Args:
        root: folder with ``subjects.csv`` and ``lesions.csv``, or a datalist (.json), which has its own split.
        out: folder of the store.
        size: voxels of the common grid to which all images are resampled; the default is the paper's.
        patch: pixels along each edge of a patch.
        clear: edge in pixels of the square around the center of a healthy patch that contains no lesion.
        healthy: healthy patches per subject; the paper has 984.
        classes: classes of the store; name fewer for a dataset that lacks one.
        sequences: columns of ``subjects.csv`` to cut. The subtraction t1_post1 - t1_pre is added.
        seed: seed of the split and of the positions of healthy patches.
        split: ``random``, or ``ordered``, which takes the first subjects for training.
        validation: share or number of subjects for validation; 0 for none.
        test: share or number of subjects for testing; 0 for none.
        folds: k of a k-fold cross-validation, in place of ``test``.
        fold: number of the test fold, from 0.
        skip_bad: continue without subjects that cannot be used.
        workers: threads; each holds one subject in memory.

    Returns:
        Path of ``index.json``.

    Raises:
        UserError: as :func:`~mrsynth.patches.read_cohort`; subjects that cannot be used (all in one message); a class
            without a patch in the training part; or a folder that holds another store.
    """
    out = Path(os.path.abspath(Path(out).expanduser()))
    settings = _settings(size, patch, clear, healthy, classes, sequences, seed)
    whole_number("workers", workers, 1)
    folding = {"folds": folds, "fold": fold} if folds is not None else {}
    parts = {"seed": seed, "validation": validation, "test": test, **folding}
    cohort = read_cohort(root, settings["sequences"], mode=split, **parts)
    settings["sequences"] = list(cohort.sequences)
    _check(settings, cohort, root)
    _look(out, settings)
    _refuse_others(out / INDEX, cohort)
    items = [item for section in SECTIONS for item in cohort.sections[section]]
    done, bad = _cut_all(items, settings, out, workers)
    if bad and (not skip_bad or len(bad) == len(items)):
        raise UserError(
            "subjects whose files can be used",
            f"{len(bad)} of {len(items)} cannot:\n    " + "\n    ".join(shorten(bad, MOST_LINES)),
            root,
            "replace these files, or pass --skip_bad to continue without these subjects; finished ones are kept",
        )  # fmt: skip
    own = Path(root).expanduser().is_file()  # a datalist, with a split of its own
    index = _index(cohort, done, settings, {"seed": seed} if own else {"split": split, **parts}, bad)
    _refuse_empty([name for name, count in index["counts"]["training"].items() if not count], settings, root)
    _write_index(out / INDEX, index)
    logger.info(_summary(index, out))
    return out / INDEX


def _settings(
    size: Sequence[int],
    patch: int,
    clear: int,
    healthy: int,
    classes: str | Sequence[str],
    sequences: str | Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The settings that the patches depend on, as the index records them."""
    for name, value, least in (("patch", patch, 2), ("clear", clear, 1), ("healthy", healthy, 0), ("seed", seed, 0)):
        whole_number(name, value, least)
    if not (isinstance(size, Sequence) and len(size) == 3 and all(isinstance(n, int) and n > 0 for n in size)):
        raise UserError(
            "three whole numbers", repr(size), "size", "pass columns, rows and slices, for instance --size [512,512,32]"
        )
    names = {"classes": classes, "sequences": sequences}
    chosen = {key: [value] if isinstance(value, str) else list(value) for key, value in names.items()}
    if unknown := [name for name in chosen["classes"] if name not in CLASSES]:
        raise UserError(
            f"one or more of {', '.join(CLASSES)}",
            ", ".join(map(str, unknown)),
            "classes",
            f"pass --classes \"['{CLASSES[0]}']\"",
        )
    return {
        "version": VERSION,
        "size": list(size),
        "patch": patch,
        "clear": clear,
        "healthy": healthy,
        "classes": [name for name in CLASSES if name in chosen["classes"]],
        "sequences": chosen["sequences"],
        "seed": seed,
        "brightest": BRIGHTEST,
    }


def _check(settings: Mapping[str, Any], cohort: Cohort, root: object) -> None:
    """Refuse before any work what would otherwise be refused after it."""
    needed = ("t1_pre", "t1_post1")
    if missing := [name for name in needed if name not in cohort.sequences]:
        raise UserError(
            "the sequences t1_pre and t1_post1, whose difference is the last channel",
            f"no {', '.join(missing)} among {', '.join(cohort.sequences)}",
            root,
            "add them to the tables and to --sequences",
        )
    present = {name for part in cohort.sections.values() for item in part for name in item.get("lesions", {}).values()}
    if extra := present - set(settings["classes"]):
        raise UserError(
            f"lesions of the classes {', '.join(settings['classes'])}",
            f"{', '.join(sorted(extra))} ones",
            root,
            "add their class to --classes, or remove these lesions from the tables",
        )
    training = {name for item in cohort.sections["training"] for name in item.get("lesions", {}).values()}
    training |= {"healthy"} if settings["healthy"] else set()
    _refuse_empty([name for name in settings["classes"] if name not in training], settings, root)


def _refuse_empty(classes: Sequence[str], settings: Mapping[str, Any], root: object) -> None:
    if classes:
        raise UserError(
            f"patches of each class ({', '.join(settings['classes'])}) in the training part",
            f"none of {', '.join(classes)}",
            root,
            "add subjects of these classes (for healthy: pass --healthy 100), pass another --seed, or name the other "
            f"classes alone, for instance --classes \"['{CLASSES[0]}']\"",
        )


def _look(out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but a part of this store."""
    expected = "an empty folder, or a store that was begun with the same settings"
    do = "pass another --out (in a training, another --output_dir), or delete this folder"
    if out.exists() and not out.is_dir():
        raise UserError(expected, "a file", out, do)
    if not out.is_dir():
        return
    if any(entry.name not in (INDEX, FOLDER) and not entry.name.startswith(".tmp-") for entry in out.iterdir()):
        raise UserError(expected, "other files", out, do)
    for sidecar in (out / FOLDER).glob("[!.]*.json"):
        theirs = _read_json(sidecar).get("settings", {})
        if differing := [key for key in settings if theirs.get(key) != settings[key]]:
            differences = ", ".join(f"{key} {theirs.get(key)} instead of {settings[key]}" for key in differing)
            raise UserError(expected, f"patches cut with {differences}", out, do)
        return  # all have the same settings


def _refuse_others(path: Path, cohort: Cohort) -> None:
    """Refuse to replace a complete store by one of other subjects: weights may depend on it."""
    there = _read_json(path) if path.is_file() else {}
    subjects, theirs = _subjects(cohort), there.get("subjects")
    if there and (there.get("name"), theirs) != (cohort.name, subjects):
        both = [
            {subject: section for section, part in (s or {}).items() for subject in part} for s in (theirs, subjects)
        ]
        differing = sorted(subject for subject in {*both[0], *both[1]} if both[0].get(subject) != both[1].get(subject))
        raise UserError(
            f"a folder for the patches of {cohort.name}: {len(both[1])} subjects, split as now",
            f"the store of {there.get('name')}: {len(both[0])} subjects; "
            f"{len(differing)} are in only one of the two, or in different sections",
            path,
            "pass another --out (in a training, another --output_dir); or, if no weights depend on this store, delete "
            "its index.json and cut again",
        )


def _subjects(cohort: Cohort) -> dict[str, list[str]]:
    """Ids of the subjects by section."""
    return {section: [item["subject"] for item in cohort.sections[section]] for section in SECTIONS}


def _cut_all(
    items: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], out: Path, workers: int
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The facts of each subject by name, and a line about each subject that cannot be used."""
    done, bad = {}, []
    pool = ThreadPoolExecutor(workers)
    try:
        results = pool.map(partial(_cut_subject, settings, out), items)
        results = tqdm(results, "cutting", len(items), leave=False, unit=" subjects")
        for item, result in zip(items, results, strict=True):
            if isinstance(result, UserError):
                bad.append(f"{item['subject']}: {result.found} ({result.where}); expected {result.expected}")
            else:
                done[item["subject"]] = result
    finally:
        pool.shutdown(cancel_futures=True)
    return done, bad


def _cut_subject(settings: Mapping[str, Any], out: Path, item: Mapping[str, Any]) -> dict[str, Any] | UserError:
    """Cut one subject, unless its patches exist and are current.

    Returns:
        The content of its JSON, or the error that its files cause.
    """
    name, size, classes = item["subject"], settings["patch"], settings["classes"]
    array, sidecar = (out / FOLDER / f"{name}{suffix}" for suffix in (".npy", ".json"))
    try:
        key = _key(item)
        if array.is_file() and sidecar.is_file() and (there := _read_json(sidecar)).get("key") == key:
            return there
        seen = read_examination(item, settings["sequences"], tuple(settings["size"]))
    except UserError as error:
        return error
    rows = [
        {"class": classes.index(item["lesions"][str(number)]), "slice": level, "center": [y, x], "lesion": number}
        for number, x, y, level in lesion_centers(seen.lesions)
    ]
    if "healthy" in classes:
        rng = np.random.default_rng([settings["seed"], int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)])
        rows += [
            {"class": classes.index("healthy"), "slice": level, "center": [y, x], "lesion": None}
            for x, y, level in healthy_centers(seen, settings["healthy"], settings["clear"], rng)
        ]
    patches = np.zeros((len(rows), len(seen.channels), size, size), dtype=np.int16)
    for patch, row in zip(patches, rows, strict=True):
        patch[:] = cut(seen.channels, row["center"][1], row["center"][0], row["slice"], size)
    (out / INDEX).unlink(missing_ok=True)  # it describes other patches until it is written again
    with atomic_path(array) as temporary, open(temporary, "wb") as stream:
        np.save(stream, patches)
    facts = {"key": key, "settings": settings, "windows": seen.windows, "patches": rows}
    write_json(sidecar, facts)
    return facts


def _key(item: Mapping[str, Any]) -> str:
    """A key that changes when a file of the subject is replaced or touched, or a lesion gets another class."""
    files = [*item["image"], *([item["label"]] if item.get("label") else [])]
    try:
        stats = [(name, os.stat(name).st_size, os.stat(name).st_mtime_ns) for name in files]
    except OSError as error:
        raise UserError(
            "files that can be read",
            str(error),
            item["subject"],
            "correct the paths in subjects.csv, or copy the files there again",
        ) from error
    return hashlib.sha256(json.dumps([stats, item.get("lesions", {})]).encode()).hexdigest()


def _index(
    cohort: Cohort,
    done: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    split: Mapping[str, Any],
    bad: Sequence[str],
) -> dict[str, Any]:
    classes, channels = settings["classes"], [*cohort.sequences, SUBTRACTION]
    items, counts = [], {}
    for section in SECTIONS:
        mine = []
        for subject in cohort.sections[section]:
            name = subject["subject"]
            known = {key: subject[key] for key in ("patient", "derived_from") if subject.get(key)}
            for row, facts in enumerate(done.get(name, {}).get("patches", [])):
                mine.append(
                    {"file": f"{FOLDER}/{name}.npy", "row": row, "subject": name, "section": section, **facts, **known}
                )
        tally = Counter(classes[item["class"]] for item in mine)
        counts[section] = {name: tally[name] for name in classes}
        items += mine
    return {
        "name": cohort.name,
        "made_by": f"mrsynth {__version__}",
        "channels": channels,
        "classes": classes,
        "size": [settings["patch"]] * 2,
        "dtype": "int16",
        "scale": {
            "divide": [HIGHEST if name == SUBTRACTION else HIGHEST / 2 for name in channels],
            "subtract": [int(name != SUBTRACTION) for name in channels],
        },
        "settings": settings,
        "split": dict(split),
        "subjects": _subjects(cohort),
        "counts": counts,
        "skipped": list(bad),
        "items": items,
    }


def _write_index(path: Path, index: Mapping[str, Any]) -> None:
    """Write JSON with one line for each item; there may be hundreds of thousands."""
    head = json.dumps({key: value for key, value in index.items() if key != "items"}, indent=2)[:-2]
    lines = ",\n    ".join(json.dumps(item) for item in index["items"])
    with atomic_path(path) as temporary:
        temporary.write_text(f'{head},\n  "items": [\n    {lines}\n  ]\n}}\n', encoding="utf-8")


def _summary(index: Mapping[str, Any], out: Path) -> str:
    lines = [f"{len(index['items'])} patches of {'x'.join(map(str, index['size']))} in {out}"]
    for section, counts in index["counts"].items():
        lines.append(f"  {section}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return "\n".join([*lines, *(f"  left out: {line}" for line in index["skipped"][:MOST_LINES])])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unwritable(path, error) from error
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}

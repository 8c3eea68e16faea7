"""Cutting of examinations into a store of patches (Haarburger 2019, section 3), and the store of trained weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from mrsynth.errors import UserError
from mrsynth.files import write_json
from mrsynth.manifest import SECTIONS, check_lineage
from mrsynth.patches import CLASSES, SEQUENCES, SUBTRACTION, cut_patches, index_of, read_store

from .networks import SIZE

TITLES = {"t2": "T2", "t1_pre": "T1 pre", SUBTRACTION: "post 1 - pre"}
TITLES |= {f"t1_post{number}": f"post {number}" for number in range(1, 10)}
"""Channels of a store, for display."""

SEEN = (("t2", "t1_pre", "t1_post1"), ("t1_pre", "t1_post1", SUBTRACTION))
"""Input channels of the features: the paper's (section 4.1); without T2, those that every store has."""

WHOLE = {"classes": list(CLASSES), "channels": [*SEQUENCES, SUBTRACTION], "store": None}
"""Classes and channels of a network trained on all sequences and classes, as the paper's."""

LOCATION = "patches.json"
"""File beside the weights with the path of their store of patches; the record of the weights identifies the store."""


def store(
    dataset_dir: str | os.PathLike | None,
    patches: str | os.PathLike | None,
    output_dir: str | os.PathLike,
    grid: Sequence[int],
    healthy: int,
    split: Mapping[str, Any],
    classes: Sequence[str] | None = None,
    sequences: Sequence[str] | None = None,
    resume: bool = False,
) -> Path:
    """The index of the patches of a training.

    Args:
        dataset_dir: examinations, which are cut into ``<output_dir>/patches``.
        patches: a store, used unchanged.
        output_dir: of the training.
        grid, healthy, split, classes, sequences: of :func:`mrsynth.patches.cut_patches`.
        resume: where neither is given, use the store of the training in ``output_dir``.

    Raises:
        UserError: no data; or what :func:`mrsynth.patches.read_store` or :func:`mrsynth.patches.cut_patches` raises,
            such as for a folder that holds patches of others.
    """
    if patches:
        read_store(patches)
        return index_of(patches)
    models = Path(output_dir) / "models"
    if resume and not dataset_dir and (models / LOCATION).is_file():
        return _of_training(models / "model.pt")
    if not dataset_dir:
        raise UserError(
            "examinations, or patches that are cut already",
            "neither" + (f", and no patches of a training in {output_dir} to resume" if resume else ""),
            "dataset_dir, patches",
            "pass --dataset_dir DIR (with subjects.csv and lesions.csv), or --patches STORE",
        )
    folder = Path(output_dir) / "patches"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"classes": classes or CLASSES, "sequences": sequences or SEQUENCES}
    with FileLock(folder.with_name(".patches.lock")):  # of several processes one cuts
        return cut_patches(dataset_dir, folder, size=grid, healthy=healthy, **chosen, **split)


def describe(
    index: str | os.PathLike, classes: Sequence[str] | None = None, sequences: Sequence[str] | None = None
) -> dict[str, Any]:
    """Settings that a store decides: ``split``, ``grid``, ``healthy``, ``classes``, ``channels``, and in ``store`` what
    tells it from others.

    Args:
        index: of the store.
        classes: those wanted, in any order; None for those that are there.
        sequences: likewise, in the order of the channels.

    Raises:
        UserError: other classes or sequences than are wanted, one class alone, or patches of another size.
    """
    found = read_store(index)
    if (classes and set(classes) != set(found["classes"])) or len(found["classes"]) < 2:
        raise UserError(
            "patches of " + (", ".join(classes) if classes else "two classes or more"),
            ", ".join(found["classes"]),
            index,
            "omit --classes to use those of the store, or pass another store with --patches",
        )
    if sequences and [*sequences, SUBTRACTION] != found["channels"]:
        raise UserError(
            f"patches of {', '.join(sequences)}, and the subtraction",
            ", ".join(found["channels"]),
            index,
            "omit --sequences to use those of the store, or pass another store with --patches",
        )
    if tuple(found["size"]) != SIZE:
        raise UserError(
            f"patches of {SIZE}",
            str(found["size"]),
            index,
            f"cut the patches with python -m mrsynth patches --patch {SIZE[0]}",
        )
    settings = found["settings"]
    return {
        "split": found["split"],
        "grid": settings["size"],
        "healthy": settings["healthy"],
        "classes": found["classes"],
        "channels": found["channels"],
        "store": found["sha256"],
    }


def remember(index: str | os.PathLike, output_dir: str | os.PathLike) -> None:
    """Write the path of a training's store beside its weights: relative to them if the store is in ``output_dir``."""
    folder, output = Path(index).resolve().parent, Path(output_dir).resolve()
    inside = folder.is_relative_to(output)
    named = Path(os.path.relpath(folder, output / "models")).as_posix() if inside else str(folder)
    write_json(output / "models" / LOCATION, {"patches": named})


def evaluated(
    dataset_dir: str | os.PathLike | None,
    patches: str | os.PathLike | None,
    output_dir: str | os.PathLike,
    weights: str | os.PathLike,
    settings: Mapping[str, Any],
) -> Path:
    """The index of the store to evaluate on: that of the training, unless another is given.

    Args:
        dataset_dir: examinations to cut as those of the training were; None as a rule.
        patches: a store; None as a rule.
        output_dir: patches are cut below it.
        weights: trained ones.
        settings: of these weights.

    Raises:
        UserError: the training's store is not there or has been cut anew, or the one given has other channels, other
            classes or another grid; or what :func:`store` raises.
    """
    given = bool(dataset_dir or patches)
    if given:
        cut = {name: settings[name] for name in ("grid", "healthy", "split", "classes")}
        index = store(dataset_dir, patches, output_dir, **cut, sequences=settings["channels"][:-1])
    else:
        index = _of_training(weights)
    found = describe(index)
    names = ["channels", "classes", "grid"] if given or not settings["store"] else ["store"]
    if wrong := [name for name in names if found[name] != settings[name]]:
        raise UserError(
            "patches like those that the weights were trained on: " + str({name: settings[name] for name in wrong}),
            str({name: found[name] for name in wrong}),
            index,
            "pass a store that was cut with these settings: --patches STORE"
            if given
            else "pass the patches to evaluate on: --patches STORE",
        )
    return index


def _of_training(weights: str | os.PathLike) -> Path:
    """The index of the store that weights were trained on."""
    note = Path(weights).with_name(LOCATION)
    named = json.loads(note.read_text(encoding="utf-8"))["patches"] if note.is_file() else None
    index = None if named is None else Path(os.path.normpath(note.parent.absolute() / named)) / "index.json"
    if index is None or not index.is_file():
        raise UserError(
            "the store of patches that the weights were trained on",
            "no record of its path" if index is None else "no such store",
            index or note,
            "pass the path of this store, or of other patches to evaluate on: --patches STORE",
        )
    return index


def titles(channels: Sequence[str]) -> list[str]:
    """Display names of a store's channels."""
    return [TITLES.get(channel, channel) for channel in channels]


def seen_channels(channels: Sequence[str], wanted: Sequence[int] | None = None) -> list[int]:
    """The three channels that features see: those ``wanted``, or the first of :data:`SEEN` that is there.

    Raises:
        UserError: channels that patches do not have.
    """
    if wanted is None:
        return next([channels.index(name) for name in names] for names in SEEN if set(names) <= set(channels))
    if len(wanted) != 3 or not all(0 <= number < len(channels) for number in wanted):
        known = ", ".join(f"{number} {title}" for number, title in enumerate(titles(channels)))
        raise UserError(
            f"three channels of {known}",
            str(wanted),
            "features_channels",
            'pass three of these numbers, such as --features_channels "[0,1,2]"',
        )
    return list(wanted)


def subjects_of(index: str | os.PathLike) -> dict[str, list[dict[str, Any]]]:
    """The subjects of a store by section, as a datalist has them.

    Raises:
        UserError: one of them, or her relative, on two sides of the split.
    """
    sections: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in SECTIONS}
    for item in read_store(index)["items"]:
        known = {key: item[key] for key in ("subject", "patient", "derived_from") if item.get(key)}
        sections[item["section"]].setdefault(item["subject"], known)
    found = {section: list(subjects.values()) for section, subjects in sections.items()}
    check_lineage(found, where=str(index))
    return found

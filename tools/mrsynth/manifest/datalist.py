"""Reading datalists: the subjects of a training, an inference or an evaluation."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrsynth.checks import shorten
from mrsynth.conventions import LABELS
from mrsynth.errors import UserError
from mrsynth.manifest.indexing import index, summary
from mrsynth.manifest.lineage import check_lineage
from mrsynth.manifest.splits import SECTIONS

logger = logging.getLogger(__name__)

MOST_LINES = 20
"""Faults named in one message; the rest are counted."""


def load_datalist(
    source: str | os.PathLike | Mapping[str, Any], sections: Sequence[str] = SECTIONS
) -> dict[str, list[dict[str, Any]]]:
    """Items by section, each complete in itself.

    MONAI's ``load_decathlon_datalist`` reads the same files, but one section at a time, without ``label_map``
    and ``channels``, and it takes a ``subject`` or ``grade`` for a path where a folder of that name lies
    beside the file.

    Args:
        source: a datalist file, or its content. Paths in a file are relative to its folder, paths in a
            content to the current folder.
        sections: those wanted. Each must be there, be it as an empty list.

    Returns:
        ``{section: [item, ...]}``. An item has ``image`` (absolute path, or list of them), ``label`` where
        there is one, ``subject``, ``label_map`` (``{file value: project value}``; by default each value
        stands for itself), ``channels`` (None, or for a 4D file the channels that are t1, t1ce, t2, flair)
        and whatever else its entry says, such as ``grade``, ``patient``, ``derived_from``. An entry's own
        ``label_map`` and ``channels`` go before those of the file.

    Raises:
        UserError: a missing file, wrong JSON, a missing section, faulty items (all in one message), or
            subjects on two sides of the split.
    """
    content, folder, where = _read(source)
    for section in sections:
        if section not in content:
            there = [name for name in SECTIONS if name in content]
            raise UserError(
                f"a datalist with a section {section!r}",
                f"sections {there}" if there else "none of training, validation, test",
                where,
                "add it (as an empty list, if there is nothing for it), or run python -m mrsynth index",
            )
    faults = [fault for section in SECTIONS for fault in _faults(section, content.get(section, []), content)]
    if not faults:
        defaults = {
            "label_map": _label_map(content.get("label_map"), faults, "label_map"),
            "channels": _channels(content.get("channels"), faults, "channels"),
        }
        parts = {
            section: [_resolve(item, defaults, folder, faults) for item in content[section]] for section in sections
        }
    if faults:
        raise UserError(
            "a datalist of items with 'image', 'subject' and mostly 'label', whose files are there",
            f"{len(faults)} faults:\n    " + "\n    ".join(shorten(faults, MOST_LINES)),
            where,
            "edit these items, or write a new datalist: python -m mrsynth index --root DIR --out FILE",
        )
    check_lineage(content, where=where, folder=folder)
    return parts


def resolve_datalist(
    dataset_dir: str | os.PathLike | None = None,
    datalist: str | os.PathLike | Mapping[str, Any] | None = None,
    sections: Sequence[str] = SECTIONS,
    output_dir: str | os.PathLike | None = None,
    **options: Any,
) -> dict[str, list[dict[str, Any]]]:
    """The items of ``datalist``, or else of ``dataset_dir``, which is indexed now. Configs call this.

    An evaluation also gives its ``output_dir``: with neither of the two, the datalist that the training wrote there is
    used, so that the split is the training's.

    What the index found is printed in a few lines: counts, warnings, subjects left out.

    Args:
        dataset_dir: a dataset's folder as published.
        datalist: a datalist file or its content; goes before ``dataset_dir``.
        sections: those wanted.
        output_dir: of the training; see above.
        options: of ``index``, such as ``seed``, ``test``, ``skip_bad``.

    Raises:
        UserError: neither is given, or what ``index`` and ``load_datalist`` raise.
    """
    if not datalist and not dataset_dir and output_dir:
        datalist = training_datalist(output_dir)
    if datalist:
        return load_datalist(datalist, sections)
    if not dataset_dir:
        raise UserError("dataset_dir or datalist", "neither", "config", "pass --dataset_dir DIR or --datalist FILE")
    found = index(dataset_dir, **options)
    logger.info(summary(found))
    return load_datalist(found, sections)


def training_subjects(
    dataset_dir: str | os.PathLike | None,
    datalist: str | os.PathLike | Mapping[str, Any] | None,
    output_dir: str | os.PathLike,
    split: Mapping[str, Any],
    **options: Any,
) -> dict[str, list[dict[str, Any]]]:
    """The subjects of a training; an indexed ``dataset_dir`` is kept in ``output_dir/datalist.json``.

    Args:
        dataset_dir, datalist: see :func:`resolve_datalist`.
        output_dir: of the training.
        split: options of ``index`` that divide the subjects: ``seed``, ``validation``, ``test`` and so on.
        options: further options of ``index``.

    Raises:
        UserError: as :func:`resolve_datalist`.
    """
    out = os.path.join(output_dir, "datalist.json")
    return resolve_datalist(dataset_dir, datalist, out=out, **options, **split)


def evaluation_subjects(
    dataset_dir: str | os.PathLike | None,
    datalist: str | os.PathLike | Mapping[str, Any] | None,
    output_dir: str | os.PathLike,
    split: Mapping[str, Any],
    label: bool = True,
) -> dict[str, list[dict[str, Any]]]:
    """The subjects that trained weights are used on: by default those of the datalist that the training wrote.

    Args:
        dataset_dir, datalist: see :func:`resolve_datalist`.
        output_dir: of the training.
        split: see :func:`training_subjects`.
        label: whether every subject must have a label.

    Raises:
        UserError: as :func:`resolve_datalist`.
    """
    return resolve_datalist(dataset_dir, datalist, output_dir=output_dir, label=label, **split)


def training_datalist(output_dir: str | os.PathLike) -> str | None:
    """The datalist that a training on ``dataset_dir`` wrote below its ``output_dir``; None where there is none."""
    path = os.path.join(output_dir, "datalist.json")
    return path if os.path.isfile(path) else None


def _read(source: str | os.PathLike | Mapping[str, Any]) -> tuple[Mapping[str, Any], Path, str]:
    """Content, the folder its paths are relative to, and what to call it in messages."""
    if isinstance(source, Mapping):
        return source, Path.cwd(), "datalist"
    path = Path(os.path.abspath(Path(source).expanduser()))
    if not path.is_file():
        raise UserError(
            "a datalist file (.json)",
            "a folder" if path.is_dir() else "no such file",
            path,
            "make one: python -m mrsynth index --root DIR --out FILE",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            "a datalist in JSON",
            f"not JSON: {error}",
            path,
            "write a new one: python -m mrsynth index --root DIR --out FILE",
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            "a JSON object with the lists training, validation, test",
            f"a JSON {type(content).__name__}",
            path,
            "write a new one: python -m mrsynth index --root DIR --out FILE",
        )
    return content, path.parent, str(path)


def _faults(section: str, items: Any, content: Mapping[str, Any]) -> list[str]:
    """What is wrong with the form of a section's items."""
    if not isinstance(items, (list, tuple)):
        return [f"{section} is not a list"]
    sequences = len(content["modality"]) if isinstance(content.get("modality"), Mapping) else None
    faults = []
    for i, item in enumerate(items):
        name = f"{section}[{i}]"
        if not isinstance(item, Mapping):
            faults.append(f"{name} is not an object but {item!r:.80}")
            continue
        subject = item.get("subject")
        if isinstance(subject, str) and subject:
            name += f" ({subject})"
        else:
            faults.append(f"{name} has no 'subject'")
        image = item.get("image")
        if isinstance(image, (list, tuple)) and image and all(isinstance(path, str) for path in image):
            if sequences and len(image) != sequences:
                faults.append(f"{name} has {len(image)} image files where 'modality' has {sequences}")
        elif not (isinstance(image, str) and image):
            faults.append(f"{name} has no 'image' (a path or a list of paths)")
        if not isinstance(item.get("label", ""), str):
            faults.append(f"{name} has a 'label' that is not a path")
        parents = item.get("derived_from", [])
        if not isinstance(parents, (list, tuple)) or not all(isinstance(parent, str) for parent in parents):
            faults.append(f"{name} has a 'derived_from' that is not a list of subjects")
    return faults


def _resolve(item: Mapping[str, Any], defaults: Mapping[str, Any], folder: Path, faults: list[str]) -> dict[str, Any]:
    """The item with absolute paths and its own label map and channels."""
    resolved = {**defaults, **item}
    for key in ("image", "label"):
        if key in item:
            one = isinstance(item[key], str)
            paths = [os.path.normpath(folder / path) for path in ([item[key]] if one else item[key])]
            faults += [f"{item['subject']}: no such file: {path}" for path in paths if not os.path.isfile(path)]
            resolved[key] = paths[0] if one else paths
    if "label_map" in item:
        resolved["label_map"] = _label_map(item["label_map"], faults, f"{item['subject']}: label_map")
    else:
        resolved["label_map"] = dict(defaults["label_map"])
    if "channels" in item:
        resolved["channels"] = _channels(item["channels"], faults, f"{item['subject']}: channels")
    return resolved


def _label_map(label_map: Any, faults: list[str], name: str) -> dict[int, int]:
    if label_map is None:
        return {value: value for value in LABELS}
    try:
        parsed = {int(value): int(mapped) for value, mapped in label_map.items()}
    except (AttributeError, TypeError, ValueError):
        faults.append(f"{name} is not of the form {{file value: project value}}")
        return {}
    if unknown := sorted(set(parsed.values()) - set(LABELS)):
        faults.append(f"{name} maps onto {unknown}; the project's values are {list(LABELS)}")
    return parsed


def _channels(channels: Any, faults: list[str], name: str) -> list[int] | None:
    if channels is None:
        return None
    if isinstance(channels, (list, tuple)) and all(isinstance(channel, int) for channel in channels):
        return list(channels)
    faults.append(f"{name} is not a list of channel numbers")
    return None

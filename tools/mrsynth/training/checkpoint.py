"""Checkpoints of a whole run, and weights with a record of their training subjects. Both are read with
``weights_only=True``.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mrsynth import __version__
from mrsynth.errors import UserError
from mrsynth.files import atomic_path, sha256, write_json
from mrsynth.networks import folded_state_dict

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.pt"


def save_checkpoint(path: str | os.PathLike, objects: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Write the states of ``objects`` (by name) and the plain facts of the ``run``, atomically."""
    content = {
        "version": __version__,
        "objects": {name: item.state_dict() for name, item in objects.items()},
        "run": dict(run),
    }
    with atomic_path(path) as temporary:
        _write(content, temporary)


def _write(content: Any, path: Path) -> None:
    """``torch.save`` without the file's name, so that the same content gives the same bytes."""
    with open(path, "wb") as stream:
        torch.save(content, stream)


def read_safely(path: str | os.PathLike, do: str) -> Any:
    """Load tensors and plain values from ``path`` to the CPU; code in the file is never run.

    Raises:
        UserError: no such file, damaged, or it holds anything but tensors and plain values.
    """
    if not Path(path).is_file():
        raise UserError("a checkpoint", "no such file", path, do)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            "a checkpoint of tensors and plain values, whole",
            f"damaged, or holding something else ({first[:160]})",
            path,
            f"do not use this file; {do}",
        ) from error


def load_checkpoint(path: str | os.PathLike, objects: Mapping[str, Any]) -> dict[str, Any]:
    """Restore the states of ``objects`` from ``path``.

    Returns:
        The facts of the run.

    Raises:
        UserError: damaged, or written by a run with other networks.
    """
    do = "start without --resume, or give the configuration that the checkpoint was made with"
    content = read_safely(path, do)
    if not isinstance(content, dict) or not {"objects", "run"} <= set(content):
        raise UserError("a checkpoint of a training run", "another kind of file", path, do)
    stored = content["objects"]
    if set(stored) != set(objects):
        raise UserError(f"states of {sorted(objects)}", f"states of {sorted(stored)}", path, do)
    for name, item in objects.items():
        if isinstance(item, nn.Module):
            require_same_network(item.state_dict(), stored[name], path, name, do)
    for name, item in objects.items():
        try:
            item.load_state_dict(stored[name])
        except (RuntimeError, ValueError, KeyError) as error:  # another optimizer, or another precision
            raise UserError(f"a state that fits this run's {name}", str(error), path, do) from error
    return content["run"]


def require_same_network(
    wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], path: object, name: str, do: str
) -> None:
    """Compare two state dicts by names and shapes.

    Raises:
        UserError: naming the first differences.
    """
    shapes = {k: tuple(v.shape) for k, v in wanted.items()}
    other = {k: tuple(v.shape) for k, v in found.items()} if isinstance(found, Mapping) else {}
    if shapes == other:
        return
    differing = [k for k in [*shapes, *other] if shapes.get(k) != other.get(k)]
    key = differing[0]
    raise UserError(
        f"the weights of this {name}: {len(shapes)} tensors, {key} {shapes.get(key, 'absent')}",
        f"another network's: {len(other)} tensors, {key} {other.get(key, 'absent')}",
        path,
        do,
    )


def save_weights(network: nn.Module, path: str | os.PathLike, record: Mapping[str, Any]) -> str:
    """Write ``network``'s plain folded weights as a bare state dict, and its record beside it (``model.json``).

    The record is filed under the weights' SHA-256 before they take their place, and that of the weights which
    they replace stays, so that whichever file a crash leaves, its record is there.

    Args:
        network: its state dict is written, spectral normalization folded.
        path: ``.../model.pt``.
        record: plain facts; ``subjects``, the ids that the weights were trained on, among them.

    Returns:
        SHA-256 of the weights.
    """
    path = Path(path)
    records = read_records(path)
    previous = sha256(path) if path.is_file() else None
    with atomic_path(path) as temporary:
        _write(folded_state_dict(network), temporary)
        digest = sha256(temporary)
        kept = {previous: records[previous]} if previous in records else {}
        write_json(path.with_suffix(".json"), {**kept, digest: {"version": __version__, **record}})
    return digest


def read_records(path: str | os.PathLike) -> dict[str, Any]:
    """The records beside ``path``, by the SHA-256 of the weights they belong to; empty where there is no such file."""
    beside = Path(path).with_suffix(".json")
    if not beside.is_file():
        return {}
    try:
        return dict(json.loads(beside.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(
            "a record of weights (JSON)", str(error), beside, "fetch it again beside its model.pt"
        ) from error


def load_weights(network: nn.Module, path: str | os.PathLike, do: str) -> dict[str, Any]:
    """Load ``model.pt`` into ``network``.

    Args:
        network: built without spectral normalization.
        path: a bare state dict, or one under the key ``model``.
        do: the error's last part where there are no weights: what to type.

    Returns:
        The record of the weights, with ``sha256``.

    Raises:
        UserError: no weights, other weights, or weights that do not say whom they were trained on.
    """
    if not Path(path).is_file():
        raise UserError("trained weights", "no such file", path, do)
    content = read_safely(path, do)
    state = content.get("model", content) if isinstance(content, dict) else content
    require_same_network(
        network.state_dict(), state, path, "network", "give the settings that the weights were trained with"
    )
    digest = sha256(path)
    record = read_records(path).get(digest)
    if record is None or not isinstance(record.get("subjects"), Sequence):
        raise UserError(
            "the record of these weights: on which subjects they were trained",
            "none that belongs to them",
            Path(path).with_suffix(".json"),
            "put the model.json that came with the weights beside them, or train anew",
        )
    network.load_state_dict(state)
    network.eval()
    return {**record, "sha256": digest}

"""The hyper-parameters of a trainer, read from its parts, so that no config lists them a second time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

PARTS = ("objective", "round", "schedule", "constraint", "terms", "loss_function")
"""Attributes of a trainer that are objects with hyper-parameters of their own."""

VALUES = ("accumulation", "discriminator_weights", "gradient_clip")
"""Attributes of a trainer that are hyper-parameters themselves."""


def hyperparameters(engine: Any) -> dict[str, Any]:
    """The hyper-parameters that a resumed run must share, as plain values for JSON; its data and weights are compared
    elsewhere.

    Args:
        engine: a trainer with ``objects_to_save()``; read before any state is restored.

    Returns:
        For each optimizer its class and the arguments that it was made with; for each network a hash of its layers as
        torch prints them, dropout rates and slopes among them; for each part of the game (objective,
        round, schedule, constraint, terms) or loss its class and its plain attributes; the trainer's own numbers.
    """
    found: dict[str, Any] = {
        name: {"class": type(item).__name__, **_plain(item.defaults)}
        for name, item in engine.objects_to_save().items()
        if isinstance(item, Optimizer)
    }
    found["layers"] = {
        name: hashlib.sha256(repr(item).encode()).hexdigest()[:16]
        for name, item in engine.objects_to_save().items()
        if isinstance(item, nn.Module)
    }
    for name in PARTS:
        part = getattr(engine, name, None)
        if isinstance(part, (list, tuple)):
            found[name] = [_described(item) for item in part]
        elif part is not None:
            found[name] = _described(part)
    found |= _plain({name: getattr(engine, name) for name in VALUES if hasattr(engine, name)})
    # as JSON gives it back: tuples become lists, and no text is shared with an optimizer's state, since a checkpoint's
    # bytes would then depend on whether that state had been restored
    return json.loads(json.dumps(found))


def _described(part: Any) -> dict[str, Any]:
    return {"class": type(part).__name__, **_plain(getattr(part, "__dict__", {}))}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The public entries that are plain values."""
    return {name: value for name, value in values.items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, (bool, int, float, str))

"""The settings of a run: checked before any work, recorded with the weights, and read again by inference and
evaluation.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigExpression
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.bundle.reference_resolver import ReferenceResolver

from mrsynth.errors import UserError, show_user_errors
from mrsynth.files import sha256
from mrsynth.settings.description import Settings, described, plain

BY_HANDLERS = {"resume", "validate_every", "montage_every", "checkpoint_every"}
"""Settings that :func:`mrsynth.training.run_handlers` takes from :func:`read`; no other text of a config names them."""

STRUCTURE = {"_meta_", "imports", "run", "initialize", "finalize", "bundle_root"}
"""Keys that MONAI looks up itself, beside those of its bundle properties."""


def check(bundle_root: str) -> None:
    """The first line of every config's ``run``: shows the user's errors plainly, and checks the settings.

    All settings are checked alike, wherever they come from: the command line, an overlay, ``monai.bundle.run`` or
    another program. ``true``, ``false``, ``null`` and ``none`` are taken as they are meant.

    Args:
        bundle_root: folder of the bundle.

    Raises:
        UserError: an unknown key, with the nearest known one; a value of another type, or out of range.
    """
    show_user_errors()
    _check_running(bundle_root)


def _check_running(bundle_root: str) -> None:
    parser = running_parser()
    for name in _dropped_by_monai(sys.argv, parser.config):
        _replace(parser, name, None)
    for name, value in check_config(parser.config, bundle_root).items():
        _replace(parser, name, value)


def check_options(bundle_root: str, configs: Sequence[str], options: Mapping[str, Any]) -> None:
    """Check ``options`` for a run of a bundle's ``configs`` without starting it, as a study does before its work.

    Args:
        bundle_root: folder of the bundle.
        configs: names of files in its ``configs``, as given to ``--config_file``.
        options: overrides by key.

    Raises:
        UserError: as :func:`check`.
    """
    parser: Any = ConfigParser()
    parser.read_config([str(Path(bundle_root) / "configs" / name) for name in configs])
    parser.update(dict(options))
    parser.resolve_macro_and_relative_ids()
    check_config(parser.config, bundle_root)


def check_config(config: Mapping[str, Any], bundle_root: str) -> dict[str, Any]:
    """Check a whole config, macros resolved.

    Returns:
        Values to use in place of words that stand for them.

    Raises:
        UserError: as :func:`check`.
    """
    known, used = described(bundle_root), _used(config)
    source = str(config.get("settings", ""))
    if "settings.read(" in source:
        used |= BY_HANDLERS
    if "settings.trained(" in source:
        used |= {name for name, setting in known.items() if setting.scope in ("weights", "inherited")}
    entries = {key for key, value in config.items() if isinstance(value, list) and value == config.get("run")}
    free = STRUCTURE | _properties()
    meant = {}
    for key, value in config.items():
        setting = known.get(key)
        allowed = key in used or key in entries or (key in free and setting is None)
        if not allowed and not _stands_in_a_config(bundle_root, key, value):
            _refuse_unknown(key, sorted({*used, *free} & {*known, *config} - {key} - STRUCTURE), setting is not None)
        if key in entries:
            continue
        if setting is None:
            continue
        constant, ready = _constant(value)
        if ready:
            word = setting.check(constant, _example(bundle_root, key))
            if word is not constant:  # a constant that is no word comes back as it is
                meant[key] = word
    return meant


def read(bundle_root: str, **facts: Any) -> Settings:
    """The settings of a training: those that its checkpoint and weights record, and in ``run`` those of this run alone.

    Args:
        bundle_root: folder of the bundle.
        facts: further plain values to record, such as what a store of patches decides.

    Raises:
        UserError: a value of another type, or out of range.
    """
    parser, known = running_parser(), described(bundle_root)
    values = {n: _value(parser, bundle_root, n) for n in known if n in parser.config and n not in facts}
    run = {n: value for n, value in values.items() if known[n].scope == "run"}
    recorded = {n: value for n, value in values.items() if n not in run}
    return Settings({**recorded, **plain(facts)}, {**run, "bundle_root": str(bundle_root)})


def trained(bundle_root: str, weights: str | os.PathLike, **defaults: Any) -> dict[str, Any]:
    """The settings of data and network for inference or evaluation: those that ``weights`` were trained with.

    Where there are no weights, or no record of them, those of the bundle's ``train.json``.

    Args:
        bundle_root: folder of the bundle.
        weights: ``model.pt``.
        defaults: further recorded facts, and their values where there are no weights.

    Raises:
        UserError: the user gives a value that contradicts the weights, or one that :func:`check` refuses.
    """
    from mrsynth.training import read_records

    _check_running(bundle_root)
    parser, known = running_parser(), described(bundle_root)
    training = _training(bundle_root)
    names = [n for n, s in known.items() if s.scope in ("weights", "inherited") and n in training]
    record = read_records(weights).get(sha256(weights), {}).get("settings", {}) if Path(weights).is_file() else {}
    values = {n: training[n] for n in names} | plain(defaults)
    values |= {n: record[n] for n in values if n in record}
    given = {n: _value(parser, bundle_root, n) for n in names if parser.config.get(n) is not None}
    wrong = {n for n in given if n in record and known[n].scope == "weights" and record[n] != given[n]}
    if wrong:
        raise UserError(
            f"the settings that the weights were trained with: { {n: record[n] for n in sorted(wrong)} }",
            str({n: given[n] for n in sorted(wrong)}),
            weights,
            "leave out " + ", ".join(f"--{n}" for n in sorted(wrong)) + ", or train with these values first",
        )
    return values | given


def running_parser() -> Any:
    """The parser that evaluates the expression from which this is called.

    MONAI hands an expression nothing of its config, so the parser is looked up among the callers.

    Raises:
        RuntimeError: called from elsewhere.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(owner := frame.f_locals.get("self"), ConfigParser):
            return owner
        frame = frame.f_back
    raise RuntimeError("no ConfigParser among the callers: call this from an expression of a config")


def _value(parser: Any, bundle_root: str, name: str) -> Any:
    setting = described(bundle_root)[name]
    return setting.check(plain(parser.get_parsed_content(name)), _example(bundle_root, name))


def _replace(parser: Any, name: str, value: Any) -> None:
    """Change a key of a parser while it evaluates; ``parser[name] = value`` would discard what it has resolved."""
    parser.config[name] = value
    if name in parser.ref_resolver.items:
        parser.ref_resolver.items[name].update_config(value)


def _dropped_by_monai(arguments: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """Options with the value None on this process's command line; ``monai.bundle`` treats them as not given."""
    if Path(arguments[0]).parts[-2:] != ("bundle", "__main__.py"):
        return []
    words = [word for argument in arguments for word in argument.split("=", 1)]
    pairs = pairwise(words)
    return [option[2:] for option, word in pairs if option[:2] == "--" and word == "None" and option[2:] in config]


def _stands_in_a_config(bundle_root: str, key: str, value: Any) -> bool:
    """Whether a config of the bundle has this value; an overlay may leave it unused."""
    return any(key in config and config[key] == value for config in _configs(bundle_root))


def _used(config: Mapping[str, Any]) -> set[str]:
    """Top-level keys that some text of ``config`` refers to."""
    return {
        ReferenceResolver.split_id(reference)[0]
        for text in _texts(config)
        for reference in ReferenceResolver.match_refs_pattern(text)
    }


def _texts(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield item
    elif isinstance(item, (Mapping, list)):
        for part in item.values() if isinstance(item, Mapping) else item:
            yield from _texts(part)


def _properties() -> set[str]:
    """Top-level keys that MONAI's bundle properties name."""
    found: Any = {**MetaProperties, **TrainProperties, **InferProperties}.values()
    return {ReferenceResolver.split_id(entry["id"])[0] for entry in found}


def _refuse_unknown(key: str, known: Sequence[str], described: bool) -> None:
    given = any(word.split("=")[0] == f"--{key}" for word in sys.argv)
    where = "the command line" if given else "an overlay or override"
    if described:
        raise UserError(
            "settings that this run uses",
            f"--{key}, which this config with its overlays does not use",
            where,
            f"leave --{key} out",
        )
    near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
    raise UserError(
        f"a known setting; the nearest is --{near}", f"--{key}", where, f"write --{near}, or leave --{key} out"
    )


def _constant(value: Any) -> tuple[Any, bool]:
    """``value`` with expressions such as ``$73 / 369`` computed, and whether nothing is left to resolve."""
    if isinstance(value, Mapping):
        parts = {key: _constant(item) for key, item in value.items()}
        return {key: part for key, (part, _) in parts.items()}, all(ready for _, ready in parts.values())
    if isinstance(value, list):
        items = [_constant(item) for item in value]
        return [item for item, _ in items], all(ready for _, ready in items)
    if not isinstance(value, str) or value[:1] not in ("$", "@"):
        return value, True
    if value[0] == "$":
        try:
            tree = ast.parse(value[1:], mode="eval")
        except SyntaxError:
            return value, False
        if not any(isinstance(node, (ast.Name, ast.Call)) for node in ast.walk(tree)):
            return ConfigExpression(value).evaluate(), True
    return value, False


def _training(bundle_root: str) -> dict[str, Any]:
    return json.loads((Path(bundle_root) / "configs" / "train.json").read_text(encoding="utf-8"))


def _example(bundle_root: str, name: str) -> Any:
    """The value of a setting in ``train.json``, else in another config of the bundle."""
    for config in [_training(bundle_root), *_configs(bundle_root)]:
        value = config.get(name)
        if value is not None and described(bundle_root)[name].fits(value) and str(value)[:1] not in ("$", "@"):
            return value
    return None


def _configs(bundle_root: str) -> list[dict[str, Any]]:
    files = sorted((Path(bundle_root) / "configs").glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]

"""What a study is made of: rows (training sets), generators, segmenters and grids, as the config gives them.

``definitions.json`` beside this file describes each in JSON Schema: keys, types, ranges, and the settings of a run that
the study keeps to itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from monai.bundle import ConfigParser

import mrsynth.settings
from mrsynth.errors import UserError
from mrsynth.files import slug
from mrsynth.settings.description import in_words

SCHEMA = json.loads(Path(__file__).with_name("definitions.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class FineTune:
    """The end of a training, on real subjects alone."""

    real: float = 1.0
    steps: float = 0.25
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A training set, and how a segmenter is trained on it; one row of the table."""

    name: str
    real: float = 1.0
    synthetic: Mapping[str, float] = field(default_factory=dict)
    augmentation: str = "none"
    grid: str | None = None
    reference: str | None = None
    fine_tune: FineTune | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The row's name as that of a folder."""
        return slug(self.name)


@dataclass(frozen=True)
class GeneratorDefinition:
    """How synthetic subjects are made."""

    name: str
    bundle: Path
    train: tuple[str, ...] | None = ("train.json",)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights_of: str | None = None
    inference: tuple[str, ...] = ("inference.json",)
    inference_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmenterDefinition:
    """What judges a training set."""

    name: str
    bundle: Path
    train: tuple[str, ...] = ("train.json",)
    options: Mapping[str, Any] = field(default_factory=dict)
    evaluate: tuple[str, ...] = ("evaluate.json",)
    evaluate_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GridDefinition:
    """The voxels on which a row's segmenters work."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    evaluate_options: Mapping[str, Any] = field(default_factory=dict)
    inference_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What it is: size, crop, and on which voxels a prediction is scored."""
        size = self.options.get("spatial_size", "")
        voxels = "the segmenter's own" if size == "" else "native" if size is None else " x ".join(map(str, size))
        crop = f", crop {self.options['crop']}" if "crop" in self.options else ""
        scored = self.evaluate_options.get("grid")
        return f"{voxels} voxels{crop}; scored on " + (f"the {scored} grid" if scored else "the evaluation's own grid")


Definition = TypeVar("Definition", GeneratorDefinition, SegmenterDefinition, GridDefinition)


def check_definition(kind: str, content: Any, where: str) -> None:
    """Refuse what the schema of its kind in ``definitions.json`` does not allow."""
    validator = Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{kind}"})
    if error := best_match(validator.iter_errors(mrsynth.settings.plain(content))):
        expected = error.schema.get("expected") or in_words(error.schema)
        do = error.schema.get("do") or f"set it to {expected}"
        raise UserError(expected, error.message, ": ".join([where, *map(str, error.absolute_path)]), do)


def parse(kind: type[Definition], given: Mapping[str, Mapping[str, Any]], root: Path) -> dict[str, Definition]:
    """Definitions by name, from those of the config; bundles are relative to ``root``, the folder above ``bundles``."""
    word = kind.__name__.removesuffix("Definition").lower()
    made: dict[str, Definition] = {}
    for name, content in (given or {}).items():
        check_definition(word, content, f"{word}s: {name}")
        values = _without_null(content or {})
        if "bundle" in values:
            values["bundle"] = root / Path(values["bundle"]).expanduser()
        made[name] = kind(name=name, **values)
    _different_folders(made, f"{word}s")
    return made


def _without_null(content: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a definition; null means the default, but for ``train``, where it means that nothing is trained."""
    values = {key: value for key, value in content.items() if value is not None or key == "train"}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def check_weights_of(generators: Mapping[str, GeneratorDefinition]) -> None:
    """Refuse a generator that takes its weights from one that has none of its own, or is not there."""
    trained = sorted(name for name, g in generators.items() if g.train is not None and g.weights_of is None)
    for name, generator in generators.items():
        if generator.weights_of is not None and (generator.weights_of not in trained or generator.options):
            raise UserError(
                f"weights_of: a generator that is trained, one of {trained}, and no options of a training of its own",
                f"{generator.weights_of!r}, options {dict(generator.options)}",
                f"generators: {name}",
                f"set weights_of to one of {trained}, and move the options to that generator",
            )


def check_bundle(part: GeneratorDefinition | SegmenterDefinition) -> None:
    """Refuse a bundle that is not there, or lacks a config that the study runs."""
    where = f"{type(part).__name__.removesuffix('Definition').lower()} {part.name}"
    if not part.bundle.is_dir():
        do = "set its 'bundle' to a folder that is there"
        raise UserError("the folder of a bundle", f"no folder {part.bundle}", where, do)
    for config in config_files(part):
        if not config.is_file():
            do = f"name configs of {part.bundle.name} in the definition of {where}"
            raise UserError(f"a bundle with configs/{config.name}", "no such file", config, do)


def config_files(part: GeneratorDefinition | SegmenterDefinition) -> list[Path]:
    """All configs of the bundle that the study runs; a generator with another's weights is not trained."""
    train, last = part.train, part.evaluate if isinstance(part, SegmenterDefinition) else part.inference
    if isinstance(part, GeneratorDefinition) and part.weights_of is not None:
        train = None
    return [part.bundle / "configs" / name for name in (*(train or ()), *last)]


def sources(bundle: Path, configs: Sequence[Path]) -> list[Path]:
    """The files of a bundle that decide what a run of some of its configs does: these, and all of its scripts."""
    return [*configs, *sorted((bundle / "scripts").rglob("*.py"))]


def check_options(bundle: Path, configs: Sequence[str], options: Mapping[str, Any], where: str) -> None:
    """Check the options of a run before the study starts it, as the run itself does.

    Args:
        bundle: folder of the bundle; one that does not describe its settings is asked for their names alone.
        configs: names of a config and its overlays.
        options: values by setting; of a setting within another (``optimizer#lr``) the outer one must be there.
        where: whose options they are.

    Raises:
        UserError: an option that the configs do not use, another type, or a value out of range.
    """
    if (bundle / "configs" / "settings.json").is_file():
        try:
            mrsynth.settings.check_options(str(bundle), configs, mrsynth.settings.plain(options))
        except UserError as error:
            raise UserError(error.expected, error.found, f"{where}; {error.where}", error.do) from error
        return
    files = [str(bundle / "configs" / config) for config in configs]
    known = {_outermost(key) for key in ConfigParser.load_config_files(files)}
    if unknown := sorted({key for key in options if _outermost(key) not in known}):
        expected = f"settings that {' and '.join(configs)} of {bundle.name} have"
        raise UserError(expected, ", ".join(unknown), where, f"remove {', '.join(unknown)}")


def _outermost(key: str) -> str:
    return re.split("#|::", key.lstrip("+~"))[0]


def setting(part: GeneratorDefinition | SegmenterDefinition, name: str) -> Any:
    """Value of a plain setting of the part's training: of its options, else of the last config that has it."""
    configs = [str(part.bundle / "configs" / config) for config in part.train or ()]
    return part.options.get(name, ConfigParser.load_config_files(configs).get(name))


def parse_rows(
    table: Sequence[Mapping[str, Any]],
    generators: Mapping[str, GeneratorDefinition],
    grids: Mapping[str, GridDefinition],
) -> list[Row]:
    """The rows of the table; refuse unknown generators, grids and references, and a row with nothing to train on."""
    if not table:
        raise UserError("at least one row", "an empty table", "table", 'set "table": [{"name": "Real"}]')
    rows: list[Row] = []
    for number, content in enumerate(table):
        where = (
            f"table: {content['name']}" if isinstance(content, Mapping) and "name" in content else f"table: {number}"
        )
        check_definition("row", content, where)
        values = _without_null(content)
        if "fine_tune" in values:
            values["fine_tune"] = FineTune(**_without_null(values["fine_tune"]))
        row = Row(**values)
        for name in row.synthetic:
            _known("generator", name, generators, where)
        if row.grid is not None:
            _known("grid", row.grid, grids, where)
        if not row.real and not any(row.synthetic.values()):
            do = f'set "real": 1.0, or "synthetic": {{"{next(iter(generators), "gan")}": 1}}'
            raise UserError("real or synthetic subjects to train on", "neither", where, do)
        rows.append(row)
    names = [row.name for row in rows]
    for row in rows:
        if row.reference is not None:
            _known("row", row.reference, names, f"table: {row.name}: reference")
    _different_folders(names, "table")
    return rows


def select(rows: Sequence[Row], wanted: Sequence[str] | str | None) -> list[Row]:
    """The rows named in ``wanted``, in the table's order; all where it is None. Refuse a name that is not there."""
    known = [row.name for row in rows]
    names = known if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    if not names or (unknown := [name for name in names if name not in known]):
        found = ", ".join(map(repr, unknown)) if names else "none"
        do = "pass some of these names with --rows, or leave it out for all"
        raise UserError("names of rows: " + ", ".join(map(repr, known)), found, "rows", do)
    return [row for row in rows if row.name in names]


def _known(kind: str, name: str, there: Iterable[str], where: str) -> None:
    if name not in there:
        do = f"define it under {kind}s, or write one of {sorted(there)}"
        raise UserError(f"a {kind}, one of {sorted(there)}", repr(name), where, do)


def _different_folders(names: Iterable[str], where: str) -> None:
    folders: dict[str, str] = {}
    for name in names:
        if slug(name) in folders or not slug(name):
            found = f"{folders.get(slug(name), name)!r} and {name!r}, whose folder is {slug(name)!r}"
            raise UserError("names that differ in letters or digits", found, where, f"give {name!r} another name")
        folders[slug(name)] = name

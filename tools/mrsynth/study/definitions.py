"""What a study is made of: rows (training sets), generators, segmenters and grids, as the config gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from monai.bundle import ConfigParser

import mrsynth.settings
from mrsynth.errors import UserError
from mrsynth.files import slug

THE_STUDYS_OWN = ("datalist", "dataset_dir", "max_epochs", "max_iterations", "output_dir", "resume", "seed", "weights")
"""Settings that the study gives to each run, and nobody else."""


@dataclass(frozen=True)
class FineTune:
    """The end of a training, on real subjects alone: which share of them, and which share of the steps.

    ``options`` are further settings of this stage's ``train.json``, such as a ``learning_rate`` of its own.
    """

    real: float = 1.0
    steps: float = 0.25
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A training set, and how a segmenter is trained on it; one row of the table.

    Attributes:
        name: as the table shows it.
        real: share of the fold's training subjects, 0 to 1.
        synthetic: how many synthetic subjects of each generator, as a multiple of the fold's training subjects.
        augmentation: of the segmenter's training, ``none`` or ``usual``.
        grid: name of a grid definition; None for the segmenter's own.
        fine_tune: see :class:`FineTune`; its steps are taken from the row's, so that all rows have as many.
        options: further settings of the segmenter's ``train.json``.
        published: figures of the paper for comparison, by region.
    """

    name: str
    real: float = 1.0
    synthetic: Mapping[str, float] = field(default_factory=dict)
    augmentation: str = "none"
    grid: str | None = None
    fine_tune: FineTune | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The row's name as that of a folder."""
        return slug(self.name)


@dataclass(frozen=True)
class Generator:
    """How synthetic subjects are made: a bundle, its configs for training (None: nothing to train) and inference.

    One that names another under ``weights_of`` makes other images with the weights that the other has trained.
    """

    name: str
    bundle: Path
    train: tuple[str, ...] | None = ("train.json",)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights_of: str | None = None
    inference: tuple[str, ...] = ("inference.json",)
    inference_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Segmenter:
    """What judges a training set: a bundle with its configs for training and evaluation."""

    name: str
    bundle: Path
    train: tuple[str, ...] = ("train.json",)
    options: Mapping[str, Any] = field(default_factory=dict)
    evaluate: tuple[str, ...] = ("evaluate.json",)
    evaluate_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """On which voxels a row's segmenters work: settings of their training and evaluation, and of the synthesis."""

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


Definition = TypeVar("Definition", Generator, Segmenter, Grid)


def parse(kind: type[Definition], given: Mapping[str, Mapping[str, Any]], root: Path) -> dict[str, Definition]:
    """Definitions by name.

    Args:
        kind: ``Generator``, ``Segmenter`` or ``Grid``.
        given: as in the config; bundles relative to ``root``.
        root: the folder above ``bundles``.

    Raises:
        UserError: an unknown key, a bundle or a config that is not there, or a setting that the study gives itself.
    """
    where = f"{kind.__name__.lower()}s"
    made: dict[str, Definition] = {}
    for name, content in (given or {}).items():
        values = {"name": name, **(content or {})}
        _only_known(kind, values, f"{where}: {name}")
        if kind is not Grid:
            if "bundle" not in values:
                raise UserError(
                    "the folder of a bundle", "no 'bundle'", f"{where}: {name}", 'add "bundle": "bundles/tumor3d"'
                )
            values["bundle"] = root / Path(values["bundle"]).expanduser()
            for key in {"train", "inference", "evaluate"} & set(values):
                values[key] = None if values[key] is None else tuple(values[key])
        made[name] = kind(**values)
        _refuse_own_settings(made[name], f"{where}: {name}")
    _different_folders(made, where)
    return made


def check_weights_of(generators: Mapping[str, Generator]) -> None:
    """Refuse a generator that takes its weights from one that has none of its own, or is not there.

    Raises:
        UserError: naming it.
    """
    trained = sorted(name for name, g in generators.items() if g.train is not None and g.weights_of is None)
    for name, generator in generators.items():
        if generator.weights_of is not None and (generator.weights_of not in trained or generator.options):
            raise UserError(
                f"weights_of: a generator that is trained, one of {trained}, and no options of a training of its own",
                f"{generator.weights_of!r}, options {dict(generator.options)}",
                f"generators: {name}",
                "correct weights_of, or leave the options to that generator",
            )


def check_bundle(part: Generator | Segmenter) -> None:
    """Refuse a bundle that is not there, or lacks a config that the study runs.

    Raises:
        UserError: naming the bundle, or the first config that is missing.
    """
    where = f"{type(part).__name__.lower()} {part.name}"
    if not part.bundle.is_dir():
        raise UserError(
            "the folder of a bundle", f"no folder {part.bundle}", where, "set its 'bundle' to a folder that is there"
        )
    for config in config_files(part):
        if not config.is_file():
            raise UserError(
                f"a bundle with configs/{config.name}",
                "no such file",
                config,
                f"name configs of {part.bundle.name} in the definition of {where}",
            )


def config_files(part: Generator | Segmenter) -> list[Path]:
    """All configs of the bundle that the study runs; a generator with another's weights is not trained."""
    both: tuple[tuple[str, ...] | None, ...]
    if isinstance(part, Segmenter):
        both = (part.train, part.evaluate)
    else:
        both = (part.train if part.weights_of is None else None, part.inference)
    return [part.bundle / "configs" / name for names in both for name in names or ()]


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
        raise UserError(
            f"settings that {' and '.join(configs)} of {bundle.name} have",
            ", ".join(unknown),
            where,
            "leave these options out, or take a bundle whose configs have them",
        )


def _outermost(key: str) -> str:
    return re.split("#|::", key.lstrip("+~"))[0]


def setting(part: Generator | Segmenter, name: str) -> Any:
    """Value of a plain setting of the part's training: of its options, else of the last config that has it."""
    configs = [str(part.bundle / "configs" / config) for config in part.train or ()]
    return part.options.get(name, ConfigParser.load_config_files(configs).get(name))


def parse_rows(
    table: Sequence[Mapping[str, Any]], generators: Mapping[str, Generator], grids: Mapping[str, Grid]
) -> list[Row]:
    """The rows of the table.

    Raises:
        UserError: a row without a name or with another's, an unknown key, generator or grid, or a share out of range.
    """
    if not table:
        raise UserError("at least one row", "an empty table", "table", "define the rows of the study")
    rows = []
    for number, content in enumerate(table):
        name = content.get("name") if isinstance(content, Mapping) else None
        if not isinstance(name, str) or not slug(name):
            raise UserError("a row with a name", f"{content!r:.120}", f"table, row {number}", 'add "name": "Real"')
        _only_known(Row, content, f"table: {name}")
        values = dict(content)
        if values.get("fine_tune") is not None:
            _only_known(FineTune, values["fine_tune"], f"table: {name}: fine_tune")
            values["fine_tune"] = FineTune(**values["fine_tune"])
            _refuse_own_settings(values["fine_tune"], f"table: {name}: fine_tune")
        for key in ("synthetic", "options", "published"):
            values[key] = dict(values.get(key) or {})
        row = Row(**values)
        _check_row(row, generators, grids)
        rows.append(row)
    _different_folders({row.name: row for row in rows}, "table")
    if len({row.name for row in rows}) != len(rows):
        twice = sorted({row.name for row in rows if sum(other.name == row.name for other in rows) > 1})
        raise UserError(
            "rows of different names", f"{twice} more than once", "table", "give each row a name of its own"
        )
    return rows


def select(rows: Sequence[Row], wanted: Sequence[str] | str | None) -> list[Row]:
    """The rows named in ``wanted``, in the table's order; all where it is None.

    Raises:
        UserError: a name that is not in the table.
    """
    if wanted is None:
        return list(rows)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names or (unknown := [name for name in names if name not in {row.name for row in rows}]):
        raise UserError(
            "names of rows: " + ", ".join(repr(row.name) for row in rows),
            ", ".join(map(repr, unknown)) if names else "none",
            "rows",
            "pass some of these names with --rows, or leave it out for all",
        )
    return [row for row in rows if row.name in names]


def _check_row(row: Row, generators: Mapping[str, Generator], grids: Mapping[str, Grid]) -> None:
    where = f"table: {row.name}"
    for name in row.synthetic:
        _known("generator", name, generators, where)
    if row.grid is not None:
        _known("grid", row.grid, grids, where)
    shares = {"real": (row.real, 0.0, 1.0), **{name: (m, 0.0, None) for name, m in row.synthetic.items()}}
    if row.fine_tune:
        shares |= {
            "fine_tune: real": (row.fine_tune.real, 0.0, 1.0),
            "fine_tune: steps": (row.fine_tune.steps, 0.0, 1.0),
        }
    for key, (value, low, high) in shares.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or value < low or (high is not None and value > high):
            expected = f"a number from {low:g} to {high:g}" if high is not None else "a number, 0 or more"
            raise UserError(expected, repr(value), f"{where}: {key}", f"set it to {expected}")
    if not row.real and not any(row.synthetic.values()):
        raise UserError("real or synthetic subjects to train on", "neither", where, "give real or synthetic")
    if row.fine_tune and not (row.fine_tune.real and 0 < row.fine_tune.steps < 1):
        raise UserError(
            "some real subjects, and a share of the steps between 0 and 1",
            str(row.fine_tune),
            where,
            'set "fine_tune": {"real": 1.0, "steps": 0.25}',
        )
    _refuse_own_settings(row, where)


def _known(kind: str, name: str, there: Iterable[str], where: str) -> None:
    if name not in there:
        raise UserError(
            f"a {kind}, one of {sorted(there)}", repr(name), where, f"define it under {kind}s, or rename it"
        )


def _only_known(kind: type, values: Mapping[str, Any], where: str) -> None:
    known = [f.name for f in fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        raise UserError(f"keys {known}", f"{unknown}", where, f"remove {unknown}, or write the key that is meant")


def _refuse_own_settings(part: Row | FineTune | Generator | Segmenter | Grid, where: str) -> None:
    free = ("max_epochs", "seed") if isinstance(part, Generator) else ()
    for key in ("options", "evaluate_options", "inference_options"):
        given = set(getattr(part, key, {})) & set(THE_STUDYS_OWN) - set(free)
        if given:
            raise UserError(
                "settings other than those that the study gives to every run alike",
                f"{sorted(given)}",
                f"{where}: {key}",
                "leave them out (max_iterations, seeds and the data are keys of the study itself)",
            )


def _different_folders(parts: Mapping[str, Any], where: str) -> None:
    folders: dict[str, str] = {}
    for name in parts:
        other = folders.setdefault(slug(name), name)
        if other != name or not slug(name):
            raise UserError(
                "names that differ in letters or digits",
                f"{other!r} and {name!r}, whose folder is {slug(name)!r}",
                where,
                "rename one",
            )

"""Trained models in Python: ``mrsynth.load("runs/first")`` samples or segments without a config of one's own.

The bundle's ``inference.json`` does the work, so that network, preprocessing and postprocessing are those of
``python -m monai.bundle run``. Only its writer is replaced by one that keeps the results in memory.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError, user_error_in
from mrsynth.files import sha256
from mrsynth.manifest.cards import USUAL_NAMES
from mrsynth.training import choose_device, read_records
from mrsynth.training.checkpoint import WEIGHTS
from mrsynth.transforms import write_nifti
from mrsynth.transforms.geometry import as_array

CONFIG = Path("configs") / "inference.json"


def load(source: str | os.PathLike, bundle: str | os.PathLike | None = None, device: str = "auto") -> Model:
    """A trained model.

    Args:
        source: the ``output_dir`` of a training, or a weights file (``model.pt``).
        bundle: folder of the bundle that trained it, such as ``bundles/brain2d``. By default it is found by the name
            that the record beside the weights gives: around the weights, in ``bundles/`` of the current folder, or in
            the project's own ``bundles/``.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        An :class:`ImageGenerator`, a :class:`SubjectGenerator` or a :class:`Segmenter`.

    Raises:
        UserError: no weights, no record of them, or no such bundle.
    """
    path = Path(source).expanduser().absolute()
    weights = path / "models" / WEIGHTS if path.is_dir() else path
    if not weights.is_file():
        raise UserError("trained weights", "no such file", weights, "pass the output_dir of a training, or a model.pt")
    root = _bundle_of(weights, bundle)
    config = ConfigParser.load_config_file(root / CONFIG)
    kinds: dict[str, type[Model]] = {
        "mrsynth.images.ImageWriter": ImageGenerator,
        "mrsynth.synthesis.SubjectWriter": SubjectGenerator,
    }
    kind = kinds.get(config.get("writer", {}).get("_target_", ""), Segmenter)
    return kind(root, weights, str(choose_device(device)))


class Model:
    """A network with its weights, and the bundle's ``inference.json`` around it.

    Attributes:
        bundle_root: folder of the bundle.
        weights: the file.
        network: on its device, in evaluation mode.
        record: of the weights.
        settings: of data and network, as trained.
    """

    collector = ""
    """Key of the config's writer, and the class that takes its place."""

    def __init__(self, bundle_root: Path, weights: Path, device: str) -> None:
        self.bundle_root, self.weights, self.device = bundle_root, weights, device
        with self._parser({}) as parser:
            self.settings: dict[str, Any] = dict(parser.get_parsed_content("settings"))
            self.record: dict[str, Any] = dict(parser.get_parsed_content("record"))
            self.network: torch.nn.Module = parser.get_parsed_content("network")

    @property
    def subjects(self) -> list[str]:
        """Ids of the subjects that the weights were trained on."""
        return list(self.record["subjects"])

    def __repr__(self) -> str:
        epoch = f", epoch {self.record['epoch']}" if "epoch" in self.record else ""
        trained = f"trained on {len(self.subjects)} subjects{epoch}"
        return f"{type(self).__name__}({self.bundle_root.name}, {trained}, {self.device}, weights='{self.weights}')"

    @contextmanager
    def _parser(self, options: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> Iterator[ConfigParser]:
        """The config with ``options``, and with ``known`` in place of what it would compute."""
        parser = ConfigParser()
        parser.read_config(str(self.bundle_root / CONFIG))
        if strangers := [name for name in options if name not in parser.config]:  # type: ignore[operator]
            names = ", ".join(k for k, v in parser.config.items() if not isinstance(v, (dict, list)))  # type: ignore[union-attr]
            raise UserError(
                f"settings of {self.bundle_root.name}'s inference.json: {names}",
                ", ".join(strangers),
                self.bundle_root / CONFIG,
                f"leave out {', '.join(strangers)}",
            )
        paths = {"output_dir": str(self.weights.parents[1]), "weights": str(self.weights), "device": self.device}
        parser.update({**paths, **options})
        if self.collector:
            key, target = self.collector.split(" ")
            parser[f"{key}#_target_"] = target
        with _scripts_of(self.bundle_root):
            parser.parse()
            # computed already, so that weights are not read again
            parser.ref_resolver.resolved_content.update(known or {})
            try:
                yield parser
            except RuntimeError as error:  # MONAI and ignite wrap what a part of the config raises
                if (plain := user_error_in(error)) is None:
                    raise
                raise plain from error

    @torch.no_grad()
    def _run(self, options: Mapping[str, Any], **known: Any) -> Any:
        """Run the config's evaluator; returns the collector."""
        known |= {"network": self.network, "record": self.record}
        with self._parser(options, known) as parser:
            parser.get_parsed_content("settings")  # checks all settings first
            parser.get_parsed_content("evaluator").run()
            return parser.get_parsed_content(self.collector.split(" ")[0])


class ImageGenerator(Model):
    """A generator of images in two dimensions."""

    collector = "writer mrsynth.images.ImageCollector"

    def sample(self, n: int, seed: int = 0, condition: str | None = None, **options: Any) -> MetaTensor:
        """Synthetic images: those that ``run synthesize --count n --seed seed`` writes.

        Args:
            n: images of each class.
            seed: of the noise.
            condition: name of the class to make; None makes ``n`` of each.
            options: further settings of the bundle's ``inference.json``.

        Returns:
            `(n, C, H, W)` float32 in [-1, 1]; of several classes `(n * classes, C, H, W)`, class by class. Its
            ``meta`` has ``classes``, the name of each image's class, and ``provenance``, by class what a sidecar says:
            training subjects, weights, settings.

        Raises:
            UserError: an unknown class or setting, or a value out of range.
        """
        chosen = {} if condition is None else {"only": [condition]}
        made = self._run({**options, **chosen, "count": n, "seed": seed, "stack": n}).made
        images = torch.from_numpy(np.concatenate([images for _, images in made]))
        classes = [sidecar["class"] for sidecar, images in made for _ in images]
        return MetaTensor(
            images, meta={"classes": classes, "provenance": {sidecar["class"]: sidecar for sidecar, _ in made}}
        )


class SubjectGenerator(Model):
    """A generator of whole subjects: the tumor of one subject in the brain of another."""

    collector = "writer mrsynth.synthesis.SubjectCollector"

    def sample(
        self, n: int, seed: int = 0, datalist: str | os.PathLike | Mapping[str, Any] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Synthetic subjects: those that ``run synthesize --count n --seed seed`` writes.

        Args:
            n: subjects.
            seed: of the pairs of recipient and donor.
            datalist: of the training; by default the one that the training wrote beside ``models/``.
            options: further settings of the bundle's ``inference.json``, such as ``grid="training"``.

        Returns:
            Of each subject ``subject`` (id), ``image`` int16 `(4, X, Y, Z)`, ``label`` uint8 `(1, X, Y, Z)` with values
            0, 1, 2, 4, ``derived_from`` (ids of all subjects that it descends from) and ``provenance``.

        Raises:
            UserError: parents that the weights were not trained on, an unknown setting, or a value out of range.
        """
        chosen = {} if datalist is None else {"datalist": str(datalist) if isinstance(datalist, Path) else datalist}
        return self._run({**options, **chosen, "count": n, "seed": seed}).made


class Segmenter(Model):
    """A segmenter of tumors."""

    collector = "handlers#0 mrsynth.segmentation.SegmentationCollector"

    def predict(self, image: Any, **options: Any) -> MetaTensor:
        """The tumor label of one subject, as ``run segment`` writes it.

        Args:
            image: the four files in the order t1, t1ce, t2, flair; one 4D file; a folder that holds the four files of
                one subject; a datalist item with ``image``; or an array `(4, X, Y, Z)`. A MetaTensor keeps its affine;
                another array is taken to have 1 mm voxels with axes to the left, posterior and superior, as BraTS's.
            options: further settings of the bundle's ``inference.json``.

        Returns:
            uint8 `(1, X, Y, Z)` on the input's grid; 0 background, 1 core, 2 edema, 4 enhancing.

        Raises:
            UserError: files that are missing or damaged, or an array of another shape.
        """
        with tempfile.TemporaryDirectory() as scratch:
            if isinstance(image, (np.ndarray, torch.Tensor)):
                image = _as_file(image, Path(scratch) / "image.nii.gz")
            item = _item(image)
            return self._run(options, segmented=[item]).made[0]


def _item(image: Any) -> dict[str, Any]:
    """A datalist item."""
    if isinstance(image, Mapping):
        if "image" not in image:
            raise UserError("a dictionary with 'image'", str(sorted(image)), "image", "add the key 'image'")
        return {"subject": "subject", **{k: v for k, v in image.items() if k != "label"}}
    if isinstance(image, (str, os.PathLike)):
        path = Path(image).expanduser()
        return {"subject": path.name, "image": _files_in(path) if path.is_dir() else str(path)}
    return {"subject": "subject", "image": [str(file) for file in image]}


def _files_in(folder: Path) -> list[str]:
    """The files of the four sequences in a subject's folder."""
    files = [file for file in sorted(folder.iterdir()) if file.name.endswith((".nii", ".nii.gz"))]
    found = []
    for sequence in SEQUENCES:
        pattern = re.compile(rf"(?:.*[_.-])?(?:{USUAL_NAMES[sequence]})\.nii(?:\.gz)?", re.IGNORECASE)
        matches = [str(file) for file in files if pattern.fullmatch(file.name)]
        if len(matches) != 1:
            raise UserError(
                f"one file of {sequence} in the folder of a subject",
                f"{len(matches)}",
                folder,
                f"pass the four files as a list, in the order {', '.join(SEQUENCES)}",
            )
        found += matches
    return found


def _as_file(image: np.ndarray | torch.Tensor, path: Path) -> str:
    """Write `(4, X, Y, Z)` as a 4D file, so that an array takes the same way as a file."""
    if image.ndim != 4 or image.shape[0] != len(SEQUENCES):
        order = ", ".join(SEQUENCES)
        raise UserError(f"an array (4, X, Y, Z) of {order}", str(tuple(image.shape)), "image", "stack the sequences so")
    affine = as_array(image.affine) if isinstance(image, MetaTensor) else np.diag([-1.0, -1.0, 1.0, 1.0])
    voxels = as_array(torch.as_tensor(image).cpu())
    if voxels.dtype not in (np.uint8, np.int16, np.int32, np.float64):
        voxels = voxels.astype(np.float32)
    write_nifti(path, np.moveaxis(voxels, 0, -1), affine)
    return str(path)


def _bundle_of(weights: Path, bundle: str | os.PathLike | None) -> Path:
    """The folder of the bundle that made ``weights``."""
    if bundle is not None:
        places = [Path(bundle).expanduser().absolute()]
        sought = str(bundle)
    else:
        name = read_records(weights).get(sha256(weights), {}).get("bundle")
        if not name:
            raise UserError(
                "a record beside the weights that names their bundle",
                "none that does",
                weights.with_suffix(".json"),
                'name it yourself, for instance mrsynth.load(..., bundle="bundles/brain2d")',
            )
        around = weights.parents[1]
        places = [Path.cwd() / "bundles" / name, Path(__file__).absolute().parents[2] / "bundles" / name]
        places = [*([around] if around.name == name else []), *places]
        sought = f"the bundle {name}"
    for place in places:
        if (place / CONFIG).is_file():
            return place
    raise UserError(
        f"{sought}, a folder with {CONFIG}",
        "no such file in " + ", ".join(map(str, places)),
        weights,
        'pass its folder, for instance mrsynth.load(..., bundle="/path/to/bundles/brain2d")',
    )


@contextmanager
def _scripts_of(bundle_root: Path) -> Iterator[None]:
    """``import scripts`` means this bundle's while the block runs: all bundles' modules have one name."""
    before = _unload_scripts()
    sys.path.insert(0, str(bundle_root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(bundle_root))
        _unload_scripts()
        sys.modules.update(before)


def _unload_scripts() -> dict[str, Any]:
    names = [name for name in sys.modules if name.split(".")[0] == "scripts"]
    return {name: sys.modules.pop(name) for name in names}

"""What all tests share: a cache of their own, small subjects in BraTS's layout, and one bundle's scripts at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch

from mrsynth import logs
from mrsynth.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (24, 24, 20)
AFFINE = np.array([[-6.0, 0, 0, 0], [0, -6.0, 0, 138], [0, 0, 6.0, 0], [0, 0, 0, 1]])
"""LPS as BraTS, 6 mm."""


class Brain(NamedTuple):
    """One small subject: an ellipsoid of white matter in gray matter in CSF, with a ball of tumor off the middle."""

    image: np.ndarray  # (4, X, Y, Z) int16: t1, t1ce, t2, flair
    label: np.ndarray  # (X, Y, Z) uint8: 0, 1, 2, 4
    tissue: np.ndarray  # (X, Y, Z) uint8: 0 outside, 6 CSF, 7 gray, 8 white, as if there were no tumor
    affine: np.ndarray


def brain(seed: int = 0, scale: float = 1.0, shape: tuple[int, int, int] = SHAPE) -> Brain:
    """A subject that differs from another ``seed``'s in size, tumor and noise; ``scale`` sizes the brain."""
    random = np.random.default_rng(seed)
    radii = scale * np.array([8.5, 10.0, 8.0]) * random.uniform(0.93, 1.05, 3)
    middle = (np.array(shape) - 1) / 2
    offset = (np.indices(shape).T - middle).T
    depth = np.sqrt(sum((offset[axis] / radii[axis]) ** 2 for axis in range(3)))
    tissue = np.select([depth < 0.7, depth < 0.93, depth < 1], [8, 7, 6], 0).astype(np.uint8)
    side = random.choice([-1, 1])
    center = radii * [0.4 * side, random.uniform(-0.3, 0.3), random.uniform(-0.2, 0.3)]
    ball = np.sqrt(sum((offset[axis] - center[axis]) ** 2 for axis in range(3))) / scale
    label = np.select([ball < 1.3, ball < 2.3, ball < 3.6], [1, 4, 2], 0).astype(np.uint8) * (tissue > 0)
    signal = {6: (150, 160, 900, 120), 7: (420, 440, 520, 480), 8: (640, 660, 380, 400)}
    lesion = {1: (200, 210, 800, 300), 2: (380, 400, 750, 800), 4: (400, 900, 600, 600)}
    image = np.zeros((4, *shape), np.float32)
    for values, where in ((signal, tissue), (lesion, label)):
        for value, levels in values.items():
            image[:, where == value] = np.array(levels, np.float32)[:, None]
    image += random.normal(0, 15, image.shape)
    image = np.where(tissue > 0, image.clip(1), 0).astype(np.int16)
    return Brain(image, label, tissue, AFFINE.copy())


def write_brats(folder: Path, name: str, subject: Brain) -> Path:
    """Write ``subject`` as BraTS publishes its own: ``folder/name/name_{t1,t1ce,t2,flair,seg}.nii.gz``."""
    (folder / name).mkdir(parents=True)
    volumes = dict(zip(("t1", "t1ce", "t2", "flair", "seg"), [*subject.image, subject.label], strict=True))
    for kind, volume in volumes.items():
        nib.save(nib.Nifti1Image(volume, subject.affine), folder / name / f"{name}_{kind}.nii.gz")
    return folder / name


def entry(folder: Path, name: str, ending: str = ".nii.gz") -> dict:
    """The datalist entry of a subject that :func:`write_brats` wrote."""
    path = folder / name / name
    image = [f"{path}_{kind}{ending}" for kind in ("t1", "t1ce", "t2", "flair")]
    return {"subject": name, "image": image, "label": f"{path}_seg{ending}"}


@pytest.fixture(autouse=True)
def messages_on_standard_output():
    """The package's messages appear as a command shows them."""
    logs.configure()


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this session, so that no test reads or fills the user's."""
    before, folder = os.environ.get("MRSYNTH_HOME"), tmp_path_factory.mktemp("home")
    os.environ["MRSYNTH_HOME"] = str(folder)
    yield folder
    os.environ.pop("MRSYNTH_HOME") if before is None else os.environ.update(MRSYNTH_HOME=before)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The tensors of the tests are so small that threads would mostly wait for each other; in child processes too."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def make_brain() -> Callable[..., Brain]:
    """The maker of small subjects in memory."""
    return brain


@pytest.fixture(scope="session")
def brats() -> tuple[Callable, Callable]:
    """The writer of a subject in BraTS's layout, and the maker of its datalist entry."""
    return write_brats, entry


@pytest.fixture(scope="session")
def subjects_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small subjects in BraTS's layout; read-only by agreement."""
    folder = tmp_path_factory.mktemp("brats")
    for index in range(6):
        write_brats(folder, f"BraTS2021_{index:05d}", brain(index))
    return folder


@contextmanager
def scripts_of(bundle: str) -> Iterator[object]:
    """Import ``bundles/<bundle>/scripts`` as a config does, and unload it again: all bundles' have one name."""
    folder = str(ROOT / "bundles" / bundle)
    sys.path.insert(0, folder)
    try:
        import scripts  # type: ignore[import-not-found]

        yield scripts
    finally:
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def tumor3d() -> Iterator[object]:
    """The module ``scripts`` of bundles/tumor3d."""
    with scripts_of("tumor3d") as scripts:
        yield scripts


@pytest.fixture(scope="session")
def start_bundle() -> Callable[..., subprocess.Popen]:
    """Start ``python -m monai.bundle run`` as a user does, in a process of its own."""

    def start(bundle: str, *options: str, config: str = "train", run_id: str = "training", **environment: str):
        command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file"]
        command += [str(ROOT / "bundles" / bundle / "configs" / f"{config}.json"), *options]
        surroundings = os.environ | environment
        return subprocess.Popen(
            command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )

    return start


@contextmanager
def refusal(**fragments: str) -> Iterator[None]:
    """The block must raise a :class:`UserError` that says all four things, with these ``fragments`` among them."""
    with pytest.raises(UserError) as caught:
        yield
    for part in ("expected", "found", "where", "do"):
        said = getattr(caught.value, part)
        assert said.strip() and said != "None", f"nothing said about {part}: {caught.value}"
        assert said in str(caught.value)
        assert fragments.get(part, "") in said, f"{fragments[part]!r} not in {part}: {said!r}"


@pytest.fixture(scope="session")
def refused() -> Callable[..., object]:
    """Context in which a :class:`UserError` with all its parts must be raised; see :func:`refusal`."""
    return refusal


class TinyRun(NamedTuple):
    """A trained bundle: its data, and the folder that its training wrote."""

    dataset: Path
    output: Path

    @property
    def options(self) -> dict[str, object]:
        """What inference and evaluation are told, beside their own ``output_dir``."""
        return {"dataset_dir": str(self.dataset), "weights": str(self.output / "models" / "model.pt"), "device": "cpu"}


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, start_bundle: Callable) -> TinyRun:
    """tumor3d trained for two epochs on eight small subjects (5 training, 1 validation, 2 test); read-only."""
    dataset, output = tmp_path_factory.mktemp("tiny_data"), tmp_path_factory.mktemp("tiny_run")
    for index in range(8):
        write_brats(dataset, f"BraTS2021_{index:05d}", brain(index))
    options = {"dataset_dir": dataset, "output_dir": output, "spatial_size": "[16,16,16]", "max_epochs": 2}
    # in bfloat16 on CPU, oneDNN 3 computes wrong gradients where a level is 2 voxels wide, as here
    options |= {"feature_maps": 4, "discriminator_feature_maps": 4, "device": "cpu", "amp": "none"}
    process = start_bundle("tumor3d", *[str(part) for k, v in options.items() for part in (f"--{k}", v)])
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said[-4000:]
    return TinyRun(dataset, output)


@contextmanager
def workflow(bundle: str, config: str | tuple[str, ...], **options: object) -> Iterator[object]:
    """A bundle's config (with its overlays), ready to ``run()`` here, as ``python -m monai.bundle run`` makes it."""
    import torch
    from monai.bundle import ConfigWorkflow

    hook, threads, folder = sys.excepthook, torch.get_num_threads(), ROOT / "bundles" / bundle
    torch.set_num_threads(1)  # as start_bundle: sums come out the same
    with scripts_of(bundle):
        made = ConfigWorkflow(
            [str(folder / "configs" / f"{name}.json") for name in ([config] if isinstance(config, str) else config)],
            meta_file=str(folder / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="inference",
            run_id="run",
            **options,
        )
        made.initialize()
        try:
            yield made
        finally:
            sys.excepthook = hook
            torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bundle_workflow() -> Callable[..., object]:
    """Context that gives a bundle's config as a workflow; see :func:`workflow`."""
    return workflow

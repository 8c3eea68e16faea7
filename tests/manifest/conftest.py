"""Small folders in every layout that the index knows, made of real NIfTI and MetaImage files of 8x8x8 voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

SHAPE = (8, 8, 8)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SEQUENCES = ("t1", "t1ce", "t2", "flair")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Each test has a cache of its own."""
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path_factory.mktemp("home")))


def brain(seed: int = 0, dtype: type = np.int16) -> np.ndarray:
    """Positive voxels in the middle, zero on the border."""
    volume = np.zeros(SHAPE, dtype)
    volume[1:-1, 1:-1, 1:-1] = np.random.default_rng(seed).integers(10, 1000, (6, 6, 6))
    return volume


def tumor(values=(1, 2, 4)) -> np.ndarray:
    """A label in the middle with one slab of each value."""
    label = np.zeros(SHAPE, np.uint8)
    for i, value in enumerate(values):
        label[2:5, 2:5, 2 + i] = value
    return label


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write an array as .nii, .nii.gz or .mha."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mha":
        sitk.WriteImage(sitk.GetImageFromArray(array.T), str(path))
    else:
        nib.save(nib.Nifti1Image(array, affine), path)
    return path


def brats(root: Path, ids, values=(1, 2, 4), suffix=".nii.gz", separator="_", names=None) -> list[Path]:
    """Subjects as BraTS publishes them from 2018 on; ``names`` maps t1, ..., seg to other words."""
    for seed, subject in enumerate(ids):
        name = Path(subject).name
        for kind in (*SEQUENCES, "seg"):
            array = tumor(values) if kind == "seg" else brain(seed)
            word = (names or {}).get(kind, kind)
            save(root / subject / f"{name}{separator}{word}{suffix}", array)
    return [root / subject for subject in ids]


def brats2021(root: Path, n: int = 3) -> list[Path]:
    return brats(root, [f"BraTS2021_{i:05d}" for i in range(n)])


def brats2023(root: Path, ids, values=(1, 2, 3)) -> list[Path]:
    names = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
    return brats(root, ids, values=values, separator="-", names=names)


def brats2015(root: Path, subjects) -> None:
    for seed, subject in enumerate(subjects):
        words = {"MR_T1": brain(seed), "MR_T1c": brain(seed), "MR_T2": brain(seed), "MR_Flair": brain(seed)}
        for i, (word, array) in enumerate(words.items()):
            name = f"VSD.Brain.XX.O.{word}.{54000 + 10 * seed + i}"
            save(root / subject / name / f"{name}.mha", array)
        name = f"VSD.Brain_3more.XX.O.OT.{54005 + 10 * seed}"
        save(root / subject / name / f"{name}.mha", tumor((1, 2, 3, 4)))


def decathlon(root: Path, n: int = 3) -> None:
    for i in range(1, n + 1):
        image = np.stack([brain(10 * i + channel) for channel in range(4)], axis=-1)
        save(root / "imagesTr" / f"BRATS_{i:03d}.nii.gz", image)
        save(root / "labelsTr" / f"BRATS_{i:03d}.nii.gz", tumor((1, 2, 3)))
        (root / "imagesTr" / f"._BRATS_{i:03d}.nii.gz").write_bytes(b"macOS")


@pytest.fixture
def make():
    """The makers above, under one name."""

    class Make:
        pass

    for maker in (brain, tumor, save, brats, brats2021, brats2023, brats2015, decathlon):
        setattr(Make, maker.__name__, staticmethod(maker))
    Make.affine = AFFINE
    return Make

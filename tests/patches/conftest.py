"""Small breast MRI of plain shapes, written in the layout, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrsynth.files import write_csv
from mrsynth.manifest.breasts import SEQUENCES

SHAPE, SPACING = (96, 96, 8), (3.4, 3.4, 6.0)
AFFINE = np.diag([-3.4, -3.4, 6.0, 1.0])
"""LPS."""


def torso_and_breasts(hanging: float = 1.0, breasts: bool = True) -> np.ndarray:
    """A body of fat, bool `(X, Y, Z)`: an elliptic torso from row 40 on, and two breasts before it."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    body = ((x - 47.5) / 42) ** 2 + ((y - 66) / 26) ** 2 < 1
    for middle in (24, 71):
        mound = ((x - middle) / 18) ** 2 + ((y - 44) / (32 * hanging)) ** 2 + ((z - 3.5) / 5) ** 2 < 1
        body |= mound & breasts
    return body


def examination(lesions: dict[int, tuple[slice, slice, slice]], seed: int = 0) -> dict[str, np.ndarray]:
    """Volumes of one woman by column: fat 800, lesions dark before contrast and brighter at each time after it."""
    random = np.random.default_rng(seed)
    body = torso_and_breasts(random.uniform(0.9, 1.1))
    label = np.zeros(SHAPE, np.int16)
    for number, box in lesions.items():
        label[box] = number
    volumes = {}
    for number, sequence in enumerate(SEQUENCES):
        signal = np.where(body, 800.0, 0) + 40 * np.sin(np.arange(SHAPE[0]) / 5)[:, None, None] * body
        signal[label > 0] = 250 + 120 * number
        noise = np.hypot(*random.normal(0, 8, (2, *SHAPE)))
        volumes[sequence] = np.rint(signal + noise).astype(np.int16)
    return {**volumes, "label": label}


BOXES = {1: (slice(20, 26), slice(25, 31), slice(2, 5)), 2: (slice(70, 73), slice(20, 26), slice(4, 6))}
"""Two lesions: one of 6x6 voxels on three slices, one of 3x6 on two."""


def write_cohort(folder: Path, women: dict[str, dict[int, str]], boxes: dict = BOXES) -> Path:
    """Write women, each with lesions of the classes given, and the tables."""
    rows, lesions = [], []
    for seed, (name, classes) in enumerate(women.items()):
        (folder / name).mkdir(parents=True)
        row = {"subject": name}
        for column, volume in examination({n: boxes[n] for n in classes}, seed).items():
            row[column] = f"{name}/{column}.nii.gz" if column != "label" or classes else ""
            if row[column]:
                nib.save(nib.Nifti1Image(volume, AFFINE), folder / row[column])
        rows.append(row)
        lesions += [{"subject": name, "lesion": number, "class": kind} for number, kind in classes.items()]
    write_csv(folder / "subjects.csv", rows)
    write_csv(folder / "lesions.csv", lesions)
    return folder


WOMEN: dict[str, dict[int, str]] = {
    "A": {1: "benign", 2: "malignant"},
    "B": {1: "malignant"},
    "C": {},
    "D": {1: "benign", 2: "malignant"},
}


@pytest.fixture(scope="session")
def women(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four women, all classes among them; read-only by agreement."""
    return write_cohort(tmp_path_factory.mktemp("women"), WOMEN)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """The writer of a cohort of one's own, ``write({"A": {1: "benign"}})``."""
    return lambda women, **options: write_cohort(tmp_path / "data", women, **options)


@pytest.fixture
def shapes() -> Callable[..., np.ndarray]:
    """The maker of a body."""
    return torso_and_breasts

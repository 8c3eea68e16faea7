"""What is wrong with a subject's files, found by reading all of them.

Facts that depend on the files alone (``SubjectFacts``) are kept apart from the judgement of label values,
which depends on the dataset's card, so that the facts can be cached.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from isal import igzip, igzip_lib

from mrsynth.conventions import SEQUENCES

AFFINE_TOLERANCE = 1e-3
"""Largest difference (mm, or mm a voxel) between the affines of one subject's files."""

MOST_OUTSIDE = 0.5
"""A label with a larger share of its voxels outside the brain belongs to something else."""


class UnreadableFile(Exception):
    """A file that cannot be read as an image; the message says why."""


@dataclass
class SubjectFacts:
    """What reading a subject's files has shown.

    Attributes:
        problems: reasons not to use it, each naming its file; empty if it is sound.
        values: label values that occur, 0 left out, sorted.
        tumour: number of labelled voxels.
        outside: number of those where every sequence is zero.
    """

    problems: list[str] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    tumour: int = 0
    outside: int = 0


def check_subject(files: Mapping[str, Path]) -> SubjectFacts:
    """Read all files of a subject and check them against each other.

    Args:
        files: ``label`` (a 3D file) and either the four sequences (3D files each) or ``image`` (one 4D file
            whose last axis is the sequence).
    """
    facts = SubjectFacts()
    label = _read(files["label"], facts, "label")
    where = None
    if label is not None:
        where = _check_label(files["label"], label[0], facts)
    lit = np.zeros(facts.tumour, dtype=bool)  # labelled voxels at which some sequence is not zero
    reference = (files["label"], *label) if label is not None else None
    for kind, path in files.items():
        if kind == "label":
            continue
        image = _read(path, facts, kind)
        if image is None:
            continue
        voxels, affine = image
        if kind == "image":
            if voxels.ndim != 4 or voxels.shape[3] != len(SEQUENCES):
                facts.problems.append(f"{path}: shape {voxels.shape}, where a 4D file (x, y, z, 4) was expected")
                continue
            volumes = [voxels[..., i] for i in range(voxels.shape[3])]
        else:
            volumes = [voxels]
        for i, volume in enumerate(volumes):
            _check_volume(f"{path}, channel {i}" if kind == "image" else f"{path}", volume, facts)
        if reference is None:
            reference = (path, volumes[0], affine)
        elif difference := _grid_difference(volumes[0], affine, reference[1], reference[2]):
            facts.problems.append(f"{path} and {reference[0].name} are on different grids: {difference}")
        elif where is not None:
            for volume in volumes:
                lit |= volume.ravel("F")[where] != 0
    if where is not None and not facts.problems:
        facts.outside = int(np.count_nonzero(~lit))
        if facts.outside > MOST_OUTSIDE * facts.tumour:
            facts.problems.append(
                f"{files['label']}: {facts.outside} of {facts.tumour} labelled voxels lie outside the brain, "
                "so it is probably another subject's label or has lost its position"
            )
    return facts


def affine_of(image: sitk.Image) -> np.ndarray:
    """RAS affine (4x4) of a SimpleITK image, which speaks LPS; the identity where it is not three-dimensional."""
    affine = np.eye(4)
    if image.GetDimension() == 3:
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return affine


MOST_HEADER = 1 << 20
"""Bytes from the start of a file that surely hold its header and extensions."""


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of a .nii, .nii.gz or .mha file, axes x, y, z (and sequence), and its affine of shape (4, 4).

    The file is read to its end, so a truncated one does not pass. Integers stay integers unless the header
    scales them. The affine is RAS, in millimetres.

    Raises:
        UnreadableFile: it cannot be read.
    """
    try:
        if path.name.lower().endswith(".mha"):
            image = sitk.ReadImage(str(path))
            return sitk.GetArrayFromImage(image).T, affine_of(image)
        data = path.read_bytes()
        packed = data[:2] == b"\x1f\x8b"
        if packed != path.name.lower().endswith(".gz"):
            said, true = ("uncompressed", "gzip-compressed") if packed else ("gzip-compressed", "uncompressed")
            raise UnreadableFile(f"named as {said} but is {true}" if data else "empty file")
        # igzip inflates several times faster than zlib, and lets other threads run
        data = igzip.decompress(data) if packed else data
        nifti = nib.Nifti1Image.from_stream(io.BytesIO(memoryview(data)[:MOST_HEADER]))
        return _voxels(nifti.dataobj, data), np.asarray(nifti.affine, dtype=float)
    except EOFError as error:
        raise UnreadableFile("truncated, the compressed stream ends too early") from error
    except (igzip.BadGzipFile, igzip_lib.IsalError) as error:  # type: ignore[misc]  # wrong stub
        raise UnreadableFile(f"damaged, it does not decompress ({error})") from error
    except MemoryError:
        raise
    except (OSError, RuntimeError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise UnreadableFile(f"truncated or not an image ({' '.join(str(error).split())[:200]})") from error
    except nib.spatialimages.HeaderDataError as error:
        raise UnreadableFile(f"its header is not NIfTI ({error})") from error


def _voxels(proxy: Any, data: bytes) -> np.ndarray:
    """The voxels of an inflated NIfTI file, without a copy where they need no scaling.

    Args:
        proxy: the ``ArrayProxy`` that nibabel made of the file's beginning.
        data: the whole file.
    """
    count = int(np.prod(proxy.shape))
    if len(data) < proxy.offset + count * proxy.dtype.itemsize:
        raise ValueError(f"the file ends before its {count} voxels")
    voxels = np.frombuffer(data, proxy.dtype, count, proxy.offset).reshape(proxy.shape, order="F")
    if proxy.slope == 1 and proxy.inter == 0:
        return voxels
    return voxels * np.float32(proxy.slope) + np.float32(proxy.inter)


def _read(path: Path, facts: SubjectFacts, kind: str) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        voxels, affine = read_volume(path)
    except UnreadableFile as error:
        facts.problems.append(f"{path}: {error}")
        return None
    if kind != "image" and voxels.ndim != 3:
        facts.problems.append(f"{path}: shape {voxels.shape}, where a 3D file was expected")
        return None
    return voxels, affine


def _check_volume(name: str, volume: np.ndarray, facts: SubjectFacts) -> None:
    if volume.dtype.kind not in "iufb":
        facts.problems.append(f"{name}: voxels of type {volume.dtype}, where numbers were expected")
    elif volume.dtype.kind == "f" and not np.isfinite(volume).all():
        n = int(np.count_nonzero(~np.isfinite(volume)))
        facts.problems.append(f"{name}: {n} voxels are NaN or infinite")
    elif not volume.any():
        facts.problems.append(f"{name}: all voxels are zero")


def _check_label(path: Path, label: np.ndarray, facts: SubjectFacts) -> np.ndarray | None:
    """Note values and size of the label; return the places of its voxels (in F order), None if it is no label."""
    if label.dtype.kind not in "iufb":
        facts.problems.append(f"{path}: voxels of type {label.dtype}, where numbers were expected")
        return None
    voxels = label.ravel("F")  # the order of NIfTI and MetaImage files, so no copy
    where = np.flatnonzero(voxels)
    inside = voxels[where]
    if inside.dtype.kind == "f" and not (np.isfinite(inside).all() and np.array_equal(inside, np.rint(inside))):
        facts.problems.append(f"{path}: label values are not whole numbers")
        return None
    if not inside.size:
        facts.problems.append(f"{path}: the label is empty, no voxel is tumour")
        return None
    facts.values = [int(value) for value in np.unique(inside)]
    facts.tumour = int(inside.size)
    return where


def _grid_difference(a: np.ndarray, affine_a: np.ndarray, b: np.ndarray, affine_b: np.ndarray) -> str:
    """How two grids differ; empty if they do not."""
    if a.shape != b.shape:
        return f"shape {a.shape} against {b.shape}"
    if not np.allclose(affine_a, affine_b, rtol=0, atol=AFFINE_TOLERANCE):
        return f"affine {np.round(affine_a, 3).tolist()} against {np.round(affine_b, 3).tolist()}"
    return ""

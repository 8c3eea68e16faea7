"""Checks of a subject's files, by reading all of them.

Facts that depend on the files alone (``SubjectFacts``) are kept apart from the judgment of label values,
which depends on the dataset's card, so that the facts can be cached.
"""

from __future__ import annotations

import io
import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from isal import igzip, igzip_lib

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.manifest.background import NoBackground, zero_background
from mrsynth.manifest.fingerprints import fingerprint_of

AFFINE_TOLERANCE = 1e-3
"""Largest difference (mm, or mm a voxel) between the affines of one subject's files."""

MOST_OUTSIDE = 0.5
"""A label with a larger share of its voxels outside the brain belongs to something else."""


class UnreadableFile(UserError):
    """A file that cannot be read as an image; ``found`` says why."""

    def __init__(self, found: str, path: Path) -> None:
        super().__init__("a readable image", found, path, "fetch the file again, or leave the subject out")

    def __reduce__(self) -> tuple:
        return type(self), (self.found, self.where)


@dataclass
class SubjectFacts:
    """The findings of :func:`check_subject`.

    Attributes:
        problems: reasons not to use it, each naming its file; empty if it is sound.
        values: label values that occur, 0 left out, sorted.
        tumor: number of labeled voxels.
        outside: number of those where every sequence is background.
        fingerprint: of the images; see :mod:`mrsynth.manifest.fingerprints`. Empty if they have problems.
    """

    problems: list[str] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    tumor: int = 0
    outside: int = 0
    fingerprint: str = ""


def check_subject(files: Mapping[str, Path], channels: Sequence[int] | None = None) -> SubjectFacts:
    """Read all files of a subject and check them against each other.

    Args:
        files: either the four sequences (3D files each) or ``image`` (one 4D file whose last axis is the sequence),
            and ``label`` (a 3D file) where there is one.
        channels: those of a 4D file that are t1, t1ce, t2, flair.
    """
    facts = SubjectFacts()
    label = _read(files["label"], facts, "label") if "label" in files else None
    where = None
    if label is not None:
        where = _check_label(files["label"], label[0], facts)
    lit = np.zeros(facts.tumor, dtype=bool)  # labeled voxels at which some sequence shows brain
    reference = (files["label"], *label) if label is not None else None
    sound: dict[str, np.ndarray] = {}
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
            order = SEQUENCES if channels is None else [SEQUENCES[channels.index(i)] for i in range(len(SEQUENCES))]
            volumes = {sequence: voxels[..., i] for i, sequence in enumerate(order)}
        else:
            volumes = {kind: voxels}
        for i, (sequence, volume) in enumerate(volumes.items()):
            name = f"{path}, channel {i}" if kind == "image" else f"{path}"
            volumes[sequence] = _check_volume(name, volume, facts)
        if reference is None:
            reference = (path, voxels[..., 0] if kind == "image" else voxels, affine)
        elif difference := _grid_difference(next(iter(volumes.values())), affine, reference[1], reference[2]):
            facts.problems.append(f"{path} and {reference[0].name} are on different grids: {difference}")
        elif where is not None:
            for volume in volumes.values():
                lit |= volume.ravel("F")[where] != 0
        sound |= volumes
    if where is not None and not facts.problems:
        facts.outside = int(np.count_nonzero(~lit))
        if facts.outside > MOST_OUTSIDE * facts.tumor:
            facts.problems.append(
                f"{files['label']}: {facts.outside} of {facts.tumor} labeled voxels lie outside the brain, "
                "so it is probably another subject's label or has lost its position"
            )
    if not facts.problems:
        facts.fingerprint = fingerprint_of(sound[sequence] for sequence in SEQUENCES)
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


def read_volume(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of a .nii, .nii.gz or .mha file, axes x, y, z (and sequence), and its affine of shape (4, 4).

    The file is read to its end, so a truncated one does not pass. Integers stay integers unless the header
    scales them. Axes of length 1 after the third are dropped. The affine is RAS, in millimeters: the sform, or the
    qform where there is no sform. Where they disagree by more than a voxel, a warning says so, once per file.

    Raises:
        UnreadableFile: it cannot be read.
    """
    path = Path(path)
    try:
        if path.name.lower().endswith(".mha"):
            image = sitk.ReadImage(str(path))
            return sitk.GetArrayFromImage(image).T, affine_of(image)
        data = path.read_bytes()
        packed = data[:2] == b"\x1f\x8b"
        if packed != path.name.lower().endswith(".gz"):
            said, true = ("uncompressed", "gzip-compressed") if packed else ("gzip-compressed", "uncompressed")
            raise UnreadableFile(f"named as {said} but is {true}" if data else "empty file", path)
        # igzip inflates several times faster than zlib, and lets other threads run
        data = igzip.decompress(data) if packed else data
        nifti = nib.Nifti1Image.from_stream(io.BytesIO(memoryview(data)[:MOST_HEADER]))
        _warn_of_two_positions(nifti, path)
        return _without_single_axes(_voxels(nifti.dataobj, data)), np.asarray(nifti.affine, dtype=float)
    except EOFError as error:
        raise UnreadableFile("truncated, the compressed stream ends too early", path) from error
    except (igzip.BadGzipFile, igzip_lib.IsalError) as error:  # type: ignore[misc]  # wrong stub
        raise UnreadableFile(f"damaged, it does not decompress ({error})", path) from error
    except (MemoryError, UnreadableFile):
        raise
    except (OSError, RuntimeError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise UnreadableFile(f"truncated or not an image ({' '.join(str(error).split())[:200]})", path) from error
    except nib.spatialimages.HeaderDataError as error:
        raise UnreadableFile(f"its header is not NIfTI ({error})", path) from error


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


def _without_single_axes(voxels: np.ndarray) -> np.ndarray:
    """``(X, Y, Z, 1)`` as ``(X, Y, Z)``, and ``(X, Y, Z, 1, C)`` as ``(X, Y, Z, C)``."""
    return voxels.reshape(*voxels.shape[:3], *(n for n in voxels.shape[3:] if n > 1), order="F")


def _warn_of_two_positions(nifti: nib.Nifti1Image, path: Path) -> None:
    """Warn of a header whose sform and qform put some corner of the volume more than a voxel apart."""
    (sform, has_sform), (qform, has_qform) = nifti.get_sform(coded=True), nifti.get_qform(coded=True)
    if not (has_sform and has_qform):
        return
    corners = np.array([*itertools.product(*((0, n - 1) for n in (*nifti.shape, 1, 1)[:3]))])
    apart = np.linalg.norm(nib.affines.apply_affine(sform, corners) - nib.affines.apply_affine(qform, corners), axis=1)
    if apart.max() > max(nib.affines.voxel_sizes(sform)):
        warnings.warn(
            f"{path}: sform and qform differ by up to {apart.max():.1f} mm; the sform is used. "
            "If it is wrong, copy the qform over it with another tool",
            stacklevel=3,
        )


def _read(path: Path, facts: SubjectFacts, kind: str) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        voxels, affine = read_volume(path)
    except UnreadableFile as error:
        facts.problems.append(f"{path}: {error.found}")
        return None
    if kind != "image" and voxels.ndim != 3:
        facts.problems.append(f"{path}: shape {voxels.shape}, where a 3D file was expected")
        return None
    return voxels, affine


def _check_volume(name: str, volume: np.ndarray, facts: SubjectFacts) -> np.ndarray:
    """The volume with background 0, or as it is where it has a problem, which is noted."""
    try:
        volume = zero_background(volume)
    except NoBackground as error:
        facts.problems.append(f"{name}: {error}")
    else:
        if not volume.any():
            facts.problems.append(f"{name}: all voxels are zero, or of one value")
    return volume


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
        facts.problems.append(f"{path}: the label is empty, no voxel is tumor")
        return None
    facts.values = [int(value) for value in np.unique(inside)]
    facts.tumor = int(inside.size)
    return where


def _grid_difference(a: np.ndarray, affine_a: np.ndarray, b: np.ndarray, affine_b: np.ndarray) -> str:
    """How two grids differ; empty if they do not."""
    if a.shape != b.shape:
        return f"shape {a.shape} against {b.shape}"
    if not np.allclose(affine_a, affine_b, rtol=0, atol=AFFINE_TOLERANCE):
        return f"affine {np.round(affine_a, 3).tolist()} against {np.round(affine_b, 3).tolist()}"
    return ""

"""Writing NIfTI files as datasets publish them: a subject's own header, the same bytes for the same voxels."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
from isal import igzip

from mrsynth.files import atomic_path

FREE_TEXT = ("descrip", "aux_file", "db_name", "data_type", "intent_name")
"""Header fields in which scanners and sites leave notes; a written file carries none of them."""


def header_of(path: str | os.PathLike) -> nib.Nifti1Header | None:
    """Header of a NIfTI file without its free text; None for another format."""
    if not str(path).endswith((".nii", ".nii.gz")):
        return None
    header = nib.Nifti1Image.from_filename(path).header.copy()
    for field in FREE_TEXT:
        header[field] = b""
    header.extensions.clear()  # DICOM remarks, comments: whatever a site wrote there
    header["cal_min"] = header["cal_max"] = 0
    return header


def write_nifti(
    path: str | os.PathLike, voxels: np.ndarray, affine: np.ndarray, header: nib.Nifti1Header | None = None
) -> None:
    """Write `(X, Y, Z)` voxels, or `(X, Y, Z, C)`, in their own type as ``.nii.gz``, atomically.

    Args:
        path: ending in ``.nii.gz``.
        voxels: integers or floats.
        affine: RAS, 4x4.
        header: units and codes of the coordinates are taken from it; millimeters and "scanner" when None.

    Raises:
        UserError: the folder cannot be written, or the disk is full.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from mrsynth.transforms import read_volume, write_nifti
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_nifti(f"{folder}/image.nii.gz", np.ones((4, 4, 4), np.int16), np.diag([-1.0, -1, 1, 1]))
        ...     voxels, affine = read_volume(f"{folder}/image.nii.gz")
        >>> voxels.shape, affine.diagonal().tolist()
        ((4, 4, 4), [-1.0, -1.0, 1.0, 1.0])
    """
    image = nib.Nifti1Image(voxels, np.asarray(affine, float), header)
    image.set_data_dtype(voxels.dtype)
    if header is None:
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
        image.header.set_xyzt_units("mm")
    # no file name and no time in the gzip header: same voxels, same bytes
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as raw,
        igzip.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as stream,
    ):
        stream.write(image.to_bytes())

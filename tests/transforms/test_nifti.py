"""Written files: another file's geometry, none of its notes, the same bytes each time."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from mrsynth.transforms import header_of, write_nifti

AFFINE = np.array([[-1.0, 0, 0, 0.5], [0, -1.0, 0, 239], [0, 0, 1.2, -3], [0, 0, 0, 1]])


@pytest.fixture
def source(tmp_path):
    """A recipient's file with other codes than the defaults, scaled floats, and notes."""
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), AFFINE)
    image.set_sform(AFFINE, code=4)
    image.set_qform(AFFINE, code=2)
    image.header["descrip"] = b"scanner 7, J. Doe"
    image.header["cal_max"] = 17
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "source.nii.gz")
    return tmp_path / "source.nii.gz"


def test_geometry_is_the_recipients_and_notes_are_gone(source, tmp_path):
    write_nifti(tmp_path / "new.nii.gz", np.full((4, 5, 6), 9, np.int16), AFFINE, header_of(source))
    old, new = nib.load(source), nib.load(tmp_path / "new.nii.gz")
    assert np.array_equal(old.affine, new.affine)
    for form in ("get_sform", "get_qform"):
        ours, theirs = (getattr(image, form)(coded=True) for image in (new, old))
        assert ours[1] == theirs[1] and np.array_equal(ours[0], theirs[0])
    assert new.header.get_xyzt_units() == old.header.get_xyzt_units()
    assert new.get_data_dtype() == np.int16 and (np.asarray(new.dataobj) == 9).all()
    assert new.header["descrip"].item() == b"" and new.header["cal_max"] == 0


def test_a_four_dimensional_recipient_gives_three_dimensions(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 4), np.int16), AFFINE), tmp_path / "source.nii.gz")
    header = header_of(tmp_path / "source.nii.gz")
    write_nifti(tmp_path / "new.nii.gz", np.ones((4, 5, 6), np.int16), AFFINE, header)
    assert nib.load(tmp_path / "new.nii.gz").shape == (4, 5, 6)


def test_without_a_recipients_header_the_affine_is_kept(tmp_path):
    assert header_of("brain.mha") is None
    write_nifti(tmp_path / "new.nii.gz", np.ones((4, 5, 6), np.uint8), AFFINE)
    assert np.allclose(nib.load(tmp_path / "new.nii.gz").affine, AFFINE)


def test_the_same_voxels_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", np.arange(120, dtype=np.int16).reshape(4, 5, 6), AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_header_extensions_are_not_carried_over(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"who and where"))
    nib.save(image, tmp_path / "scan.nii.gz")
    write_nifti(tmp_path / "made.nii.gz", np.zeros((4, 4, 4), np.int16), np.eye(4), header_of(tmp_path / "scan.nii.gz"))
    assert not nib.load(tmp_path / "made.nii.gz").header.extensions

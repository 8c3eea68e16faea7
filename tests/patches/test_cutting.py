"""One woman's images on the common grid and scale, and where patches are cut from them: Haarburger 2019, section 3."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrsynth.manifest.breasts import SEQUENCES, read_cohort
from mrsynth.patches.cutting import cut, healthy_centers, lesion_centers, read_examination

SIZE = (96, 96, 8)


@pytest.fixture
def item(write):
    """The datalist item of a woman of one's own, with a benign and a malignant lesion."""
    folder = write({"A": {1: "benign", 2: "malignant"}})
    return read_cohort(folder, validation=0, test=0).sections["training"][0]


def rewrite(path: str, change, affine=None) -> None:
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    nib.save(nib.Nifti1Image(change(voxels), image.affine if affine is None else affine), path)


def test_intensities_are_on_one_line_for_t1_and_another_for_t2(item):
    seen = read_examination(item, SEQUENCES, SIZE)
    files = [np.asarray(nib.load(path).dataobj).astype(float) for path in item["image"]]
    assert seen.channels.shape == (7, *SIZE) and seen.channels.dtype == np.int16
    for number, series in enumerate(("t2", *["t1"] * 5)):
        low, high = seen.windows[series]
        assert low == 0
        expected = np.clip(np.rint(files[number] * 1023 / high), 0, 1023)
        assert np.abs(seen.channels[number] - expected).max() <= 1
    t1 = seen.channels[1:6]
    assert t1.min() >= 0 and t1.max() == 1023 and (t1 == 1023).mean() < 1e-3
    np.testing.assert_array_equal(seen.channels[6], seen.channels[2] - seen.channels[1])
    assert seen.channels[6].min() < 0 < seen.channels[6].max()


def test_negative_values_are_moved_up(item):
    rewrite(item["image"][3], lambda voxels: voxels - 500)
    seen = read_examination(item, SEQUENCES, SIZE)
    assert seen.windows["t1"][0] < -400 and seen.windows["t2"][0] == 0
    assert seen.channels.min(axis=(1, 2, 3))[1:6].min() == 0


def test_a_common_grid_over_the_same_field_of_view(item):
    seen, fine = (read_examination(item, SEQUENCES, size) for size in (SIZE, (192, 192, 16)))
    assert fine.channels.shape == (7, 192, 192, 16)
    blocks = fine.channels.reshape(7, 96, 2, 96, 2, 8, 2).mean(axis=(2, 4, 6))
    for channel in range(6):
        assert np.corrcoef(blocks[channel].ravel(), seen.channels[channel].ravel())[0, 1] > 0.99
    # labels by nearest neighbor
    np.testing.assert_array_equal(fine.lesions[::2, ::2, ::2], seen.lesions)
    assert set(np.unique(fine.lesions)) == {0, 1, 2}


def test_slices_that_become_one_are_all_seen_in_it(item):
    def fat(brighter: int) -> np.ndarray:
        """Of the two slices that eight become, once slice 0 alone is brighter, by the line of the whole."""
        rewrite(item["image"][0], lambda voxels: voxels + (np.arange(8) == 0) * (voxels > 500) * np.int16(brighter))
        seen = read_examination(item, SEQUENCES, (96, 96, 2))
        values = seen.channels[0] * seen.windows["t2"][1] / 1023
        return np.median(values[40:56, 60:80], axis=(0, 1))

    before, after = fat(0), fat(400)
    assert 50 < after[0] - before[0] < 150 and abs(after[1] - before[1]) < 10


def test_a_lesion_between_the_voxels_of_a_coarse_grid_is_kept(write):
    """Of eight slices the nearest to three are 1, 4 and 6."""
    folder = write(
        {"A": {1: "benign", 2: "malignant"}}, boxes={1: np.s_[20:26, 25:31, 3:4], 2: np.s_[70:73, 20:26, 4:6]}
    )
    thin = read_cohort(folder, validation=0, test=0).sections["training"][0]
    centers = lesion_centers(read_examination(thin, SEQUENCES, (96, 96, 3)).lesions)
    assert centers[0] == (1, 22, 28, 1) and {number for number, *_ in centers} == {1, 2}


def test_a_sequence_that_is_neither_t1_nor_t2_has_its_own_line(item):
    seen = read_examination({**item, "image": item["image"][:3]}, ("adc", "t1_pre", "t1_post1"), SIZE)
    assert set(seen.windows) == {"adc", "t1"}
    assert seen.channels[0].min() >= 0 and seen.channels[0].max() == 1023


def test_the_header_says_which_way_is_left(item, tmp_path):
    """The same woman stored head first, from left to right, slices first: the same patches."""
    before = read_examination(item, SEQUENCES, SIZE)
    for path in (*item["image"], item["label"]):
        image = nib.load(path)
        turned = nib.as_closest_canonical(image)  # RAS
        order = nib.orientations.ornt_transform(
            nib.io_orientation(turned.affine), nib.orientations.axcodes2ornt(("S", "L", "A"))
        )
        nib.save(turned.as_reoriented(order), path)
    after = read_examination(item, SEQUENCES, SIZE)
    np.testing.assert_array_equal(after.channels, before.channels)
    np.testing.assert_array_equal(after.lesions, before.lesions)
    np.testing.assert_array_equal(after.breasts, before.breasts)


def test_a_center_on_every_slice_that_a_lesion_crosses():
    lesions = np.zeros((40, 30, 6), np.int32)
    lesions[4:7, 10:13, 1:4] = 2
    lesions[8, 20, 3] = 7
    assert lesion_centers(lesions) == [(2, 5, 11, 1), (2, 5, 11, 2), (2, 5, 11, 3), (7, 8, 20, 3)]
    lesions[6:9, 10:13, 3] = 2  # it leans to one side there
    assert lesion_centers(lesions)[2] == (2, 6, 11, 3)
    assert lesion_centers(np.zeros((4, 4, 4), np.int32)) == []


def test_a_patch_is_seen_as_a_radiologist_sees_it():
    channels = np.arange(2 * 20 * 30 * 3).reshape(2, 20, 30, 3)
    patch = cut(channels, 10, 15, 1, 8)
    assert patch.shape == (2, 8, 8)
    for row, column in ((0, 0), (4, 4), (7, 2)):
        np.testing.assert_array_equal(patch[:, row, column], channels[:, 6 + column, 11 + row, 1])


@pytest.mark.parametrize(("column", "row"), [(0, 15), (19, 15), (10, 0), (10, 29), (0, 0)])
def test_a_patch_at_the_border_is_filled_up_with_background(column, row):
    channels = np.random.default_rng(0).integers(1, 1024, (2, 20, 30, 3)).astype(np.int16)
    padded = np.pad(channels, ((0, 0), (8, 8), (8, 8), (0, 0)))
    patch = cut(channels, column, row, 2, 8)
    np.testing.assert_array_equal(patch, padded[:, column + 4 : column + 12, row + 4 : row + 12, 2].transpose(0, 2, 1))
    assert (patch == 0).any() and (patch > 0).any() and patch.dtype == np.int16


def test_healthy_places_are_in_the_breasts_and_clear_of_findings(item):
    seen = read_examination(item, SEQUENCES, SIZE)
    clear = 32
    places = healthy_centers(seen, 400, clear, np.random.default_rng(0))
    assert len(places) == len(set(places)) == 400
    near = 0
    for x, y, z in places:
        assert seen.breasts[x, y, z]
        box = seen.lesions[max(x - 16, 0) : x + 16, max(y - 16, 0) : y + 16, z]
        assert not box.any()
        near += seen.lesions[:, :, z].any()
    assert near > 50  # slices with a lesion are not left out
    assert healthy_centers(seen, 400, clear, np.random.default_rng(0)) == places
    assert healthy_centers(seen, 400, clear, np.random.default_rng(1)) != places
    every = healthy_centers(seen, 10**6, clear, np.random.default_rng(0))
    assert len(every) < seen.breasts.sum() and set(places) <= set(every)


# refusals --------------------------------------------------------------------------------------------------


def test_lesions_without_a_class_and_classes_without_a_lesion(item, refused):
    with refused(found="lesion 2 of A has no class"):
        read_examination({**item, "lesions": {"1": "benign"}}, SEQUENCES, SIZE)
    with refused(found="lesion 3 of A has a class and no voxel"):
        read_examination({**item, "lesions": {**item["lesions"], "3": "benign"}}, SEQUENCES, SIZE)
    rewrite(item["label"], lambda voxels: voxels * np.float32(0.5))
    with refused(found="not whole numbers"):
        read_examination(item, SEQUENCES, SIZE)


def test_grids_that_differ(item, refused):
    rewrite(item["image"][0], lambda voxels: voxels[:, :, :-1])
    with refused(expected="t2.nii.gz", found="(96, 96, 8)", do="resample"):
        read_examination(item, SEQUENCES, SIZE)
    with refused(where="t1_post1.nii.gz"):
        rewrite(item["image"][2], lambda voxels: voxels, np.diag([-3.4, -3.4, 5.0, 1]))
        read_examination({**item, "image": item["image"][1:]}, SEQUENCES[1:], SIZE)


def test_files_that_cannot_be_used(item, refused):
    Path(item["image"][4]).write_bytes(b"no image")
    with refused(where="t1_post3.nii.gz", expected="a readable image"):
        read_examination(item, SEQUENCES, SIZE)
    nib.save(nib.Nifti1Image(np.full(SIZE, np.nan, np.float32), np.diag([-3.4, -3.4, 6, 1])), item["image"][4])
    with refused(found="NaN"):
        read_examination(item, SEQUENCES, SIZE)
    nib.save(nib.Nifti1Image(np.zeros((*SIZE, 2), np.int16), np.diag([-3.4, -3.4, 6, 1])), item["image"][4])
    with refused(expected="a volume (X, Y, Z)"):
        read_examination(item, SEQUENCES, SIZE)


def test_lesions_in_the_same_voxel_of_a_coarse_grid(write, refused):
    folder = write(
        {"A": {1: "benign", 2: "malignant"}}, boxes={1: np.s_[20:21, 25:26, 2:5], 2: np.s_[21:22, 25:26, 2:5]}
    )
    near = read_cohort(folder, validation=0, test=0).sections["training"][0]
    with refused(found="of A shares all of its voxels with others", do="--size"):
        read_examination(near, SEQUENCES, (12, 12, 8))


def test_no_breasts_in_the_image(item, refused):
    for path in item["image"]:
        rewrite(path, lambda voxels: voxels[:, ::-1])
    with refused(found="no breast", where="t1_pre.nii.gz"):
        read_examination(item, SEQUENCES, SIZE)

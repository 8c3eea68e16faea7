"""Slices of volumes: which, in what order, how they lie, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.images import CutSlicesd


def item(shape=(12, 14, 10), spacing=1.0, tumor=(slice(3, 5), slice(4, 6), slice(2, 4)), affine_sign=(-1, -1, 1)):
    """A subject whose voxels say where they are: channel c is c / 10 plus the position along Z."""
    image = np.full((4, *shape), -1.0, np.float32)
    inside = (slice(1, -1),) * 3
    for channel in range(4):
        ramp = np.broadcast_to(np.linspace(-0.5, 0.5, shape[2]), shape)
        image[channel][inside] = (ramp + channel / 10)[inside]
    label = np.zeros((1, *shape), np.uint8)
    label[0][tumor] = 4
    affine = torch.diag(torch.tensor([*(s * spacing for s in affine_sign), 1.0]))
    brain = (image[:1] > -1).astype(np.uint8)
    volumes = {"image": image, "brain": brain, "label": label}
    return {"subject": "A", **{k: MetaTensor(torch.from_numpy(v), affine=affine) for k, v in volumes.items()}}


@pytest.mark.parametrize(("plane", "rows", "columns"), [("sagittal", 10, 14), ("coronal", 10, 12), ("axial", 14, 12)])
def test_each_plane_is_cut_upright_and_the_background_is_exactly_minus_one(plane, rows, columns):
    subject = item()
    original = subject["image"].numpy().copy()
    cut = CutSlicesd(plane, None, [rows, columns])(subject)
    axis = ("sagittal", "coronal", "axial").index(plane)
    assert cut["slices"].shape == (original.shape[1 + axis], 4, rows, columns) and cut["slices"].dtype == torch.float16
    assert not {"image", "brain", "label"} & set(cut)
    middle = cut["slices"][original.shape[1 + axis] // 2, 0].float().numpy()
    assert (middle[0] == -1).all() and (middle[:, 0] == -1).all()
    if plane != "axial":  # the vertex, where Z is greatest, is on top
        assert middle[1, 5] > middle[-2, 5]


def test_numbers_are_millimeters_on_a_grid_of_1_mm_so_that_a_coarser_one_gives_the_same_places():
    fine = CutSlicesd("sagittal", [4, 7], [8, 8])(item())
    assert fine["numbers"] == [4, 5, 6, 7]
    coarse = CutSlicesd("sagittal", [4, 7], [8, 8])(item(spacing=2.0))
    assert coarse["numbers"] == [2, 3]


def test_keep_and_tumor_say_what_the_label_says():
    every = CutSlicesd("axial", None, [8, 8])(item())
    assert [n for n, shown in zip(every["numbers"], every["tumor"], strict=True) if shown] == [2, 3]
    assert CutSlicesd("axial", None, [8, 8], keep="tumor")(item())["numbers"] == [2, 3]
    healthy = CutSlicesd("axial", None, [8, 8], keep="healthy")(item())
    assert healthy["numbers"] == [0, 1, 4, 5, 6, 7, 8, 9] and not any(healthy["tumor"])
    without = item()
    without.pop("label")
    assert not any(CutSlicesd("axial", None, [8, 8])(without)["tumor"])


def test_the_best_block_holds_the_tumor_and_as_much_brain_as_goes_with_it():
    assert CutSlicesd("axial", None, [8, 8], best=4)(item())["numbers"] == [1, 2, 3, 4]
    assert CutSlicesd("axial", [3, 9], [8, 8], best=2)(item())["numbers"] == [3, 4]


def test_sequences_come_in_the_order_asked_for():
    cut = CutSlicesd("axial", [5, 5], [14, 12], ["flair", "t1"])(item())["slices"].float()
    inside = cut[:, :, 7, 6]
    assert inside[0, 0] - inside[0, 1] == pytest.approx(0.3, abs=2e-3)


def test_resizing_keeps_the_range_and_the_background():
    cut = CutSlicesd("axial", None, [5, 7])(item())["slices"].float()
    assert cut.min() == -1 and cut.max() <= 1
    assert set(cut[0].unique().tolist()) == {-1.0}  # a slice without brain


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("oblique", None, [8, 8]), {"expected": "sagittal", "found": "'oblique'"}),
        (("axial", [5, 3], [8, 8]), {"where": "slices"}),
        (("axial", None, [8]), {"where": "size"}),
        (("axial", None, [8, 8], ["t3"]), {"found": "t3", "where": "sequences"}),
        (("axial", None, [8, 8], ["t1"], 0), {"where": "best"}),
        (("axial", None, [8, 8], ["t1"], None, "some"), {"expected": "keep", "found": "'some'"}),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(refused, arguments, fragments):
    with refused(**fragments):
        CutSlicesd(*arguments)


def test_slices_outside_the_volume_and_too_few_of_them_name_the_subject(refused):
    with refused(expected="slices 4 to 10", found="10 slices", where="A", do="up to 9"):
        CutSlicesd("axial", [4, 10], [8, 8])(item())
    with refused(expected="at least 11", found="10", where="A"):
        CutSlicesd("axial", None, [8, 8], best=11)(item())

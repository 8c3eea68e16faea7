"""The generator's tumor in the recipient's MRI, and images that are written in the recipient's own scale."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.manifest import load_datalist
from mrsynth.synthesis import (
    InpaintingWeightd,
    OwnScaled,
    RestoreImaged,
    SubjectWriter,
    own_scale,
    parents_in,
    to_int16,
)
from mrsynth.transforms import soften, write_nifti

SIDE = 16
AFFINE = torch.diag(torch.tensor([-2.0, -2.0, 2.0, 1.0], dtype=torch.float64))


def cube(low: int, high: int, value: int) -> MetaTensor:
    label = torch.zeros(1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    label[:, low:high, 5:9, 5:9] = value
    return MetaTensor(label, affine=AFFINE)


def item() -> dict:
    """Tumors of 4 voxels at either end of a brain that fills all but the first slices."""
    brain = torch.ones(1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    brain[:, :, :, :2] = 0
    noise = torch.Generator().manual_seed(0)
    own, pred = (torch.rand(4, SIDE, SIDE, SIDE, generator=noise) * 2 - 1 for _ in range(2))
    return {
        "image": cube(0, 0, 0),
        "brain": MetaTensor(brain, affine=AFFINE),
        "native_brain": MetaTensor(brain, affine=AFFINE),
        "native": {"shape": torch.tensor([SIDE] * 3), "affine": AFFINE},
        "donor_label": cube(1, 5, 4),
        "own_label": cube(11, 15, 2),
        "own_image": MetaTensor(own, affine=AFFINE),
        "pred": pred,
    }


@pytest.mark.parametrize("grid", ["native", "training"])
@pytest.mark.parametrize("own_tumor", ["replace", "keep"])
def test_the_recipients_far_away_and_the_generators_on_the_tumor(grid, own_tumor):
    data = InpaintingWeightd(own_tumor, blend=2.0)(item())
    image = RestoreImaged(grid)(data)["pred"].numpy()
    brain = data["brain"].numpy()[0] > 0
    theirs, mine = (to_int16(data[key].numpy(), brain) for key in ("own_image", "pred"))
    donor, own = (data[key].numpy()[0] > 0 for key in ("donor_label", "own_label"))
    inpainted = donor | own if own_tumor == "replace" else donor
    assert np.array_equal(image[:, inpainted & brain], mine[:, inpainted & brain])
    far = soften(inpainted, AFFINE.numpy(), 2.0) == 0
    assert far.mean() > 0.5 and np.array_equal(image[:, far], theirs[:, far])
    if own_tumor == "keep":
        assert np.array_equal(image[:, own], theirs[:, own])
    edge = ~far & ~inpainted & brain
    assert edge.any()
    between = (image >= np.minimum(theirs, mine)) & (image <= np.maximum(theirs, mine))
    assert between[:, edge].all() and (image != theirs)[:, edge].any() and (image != mine)[:, edge].any()
    assert not image[:, ~brain].any() and image[:, brain].min() >= 1


def test_what_is_kept_stays_in_the_label_and_what_is_replaced_does_not():
    data = item()
    data["own_label"][0, 4] = 2  # under the donor's tumor as well
    kept = InpaintingWeightd("keep")(data)["label"].numpy()
    expected = np.where(data["donor_label"] > 0, data["donor_label"], data["own_label"])
    assert np.array_equal(kept, expected) and set(np.unique(kept)) == {0, 2, 4}
    assert "label" not in InpaintingWeightd("replace")(data)


def test_without_softness_the_edge_is_hard():
    weight = InpaintingWeightd(blend=0)(item())["generated"]
    assert set(torch.unique(weight.as_tensor()).tolist()) == {0.0, 1.0}


def test_other_values_are_refused(refused):
    with refused(found="forget", where="own_tumor"):
        InpaintingWeightd("forget")
    with refused(found="-2", where="blend"):
        InpaintingWeightd(blend=-2)


def test_in_the_own_scale_the_background_is_zero_and_the_brain_is_not():
    brain = torch.zeros(1, 8, 8, 8)
    brain[:, 2:] = 1
    image = torch.linspace(-0.4, 900.4, 4 * 8**3).reshape(4, 8, 8, 8) * brain
    image[0] = 50 * torch.rand(8, 8, 8) * brain[0]
    made = OwnScaled()({"image": MetaTensor(image, affine=AFFINE), "brain": MetaTensor(brain)})["image"]
    assert made.dtype == torch.int16 and torch.equal(made.affine, AFFINE)
    inside = brain.expand(4, -1, -1, -1) > 0
    assert not made[~inside].any() and (made[inside] >= 1).all()
    assert (made - image)[image >= 1].abs().max() <= 0.5


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 300.0), (0.0, 1e6)])
def test_a_scale_that_whole_numbers_do_not_hold_is_refused(refused, low, high):
    image = low + (high - low) * torch.rand(4, 8, 8, 8)
    with refused(expected="int16", where="S3", do="without normalization"):
        OwnScaled()({"image": MetaTensor(image), "brain": torch.ones(1, 8, 8, 8), "subject": "S3"})


def test_without_weights_a_subject_descends_from_its_parents_alone(tmp_path):
    recipient = tmp_path / "A_t1.nii.gz"
    write_nifti(recipient, np.ones((SIDE,) * 3, np.int16), AFFINE.numpy())
    parents = parents_in({"training": [{"subject": name} for name in "ABC"]}, "training", None)
    writer = SubjectWriter(tmp_path, None, parents, {}, count=1)
    facts = {"recipient": "A", "donor": "B", "kept": 1.0, "place": 0, "tries": 1}
    data = {"number": 0, "recipient_file": str(recipient), "native_label": cube(1, 5, 4), "label": cube(1, 15, 2)}
    image = MetaTensor(torch.full((4, SIDE, SIDE, SIDE), 7, dtype=torch.int16), affine=AFFINE)
    folder = writer.write({**data, "transplant": facts}, image)
    writer.finish()
    (item,) = load_datalist(tmp_path / "synthetic" / "datalist.json")["training"]
    assert item["derived_from"] == ["A", "B"]
    sidecar = json.loads((folder / f"{folder.name}.json").read_text())
    assert sidecar["training_subjects"] == [] and sidecar["made_by"]["weights"] is None
    assert sidecar["intensities"] == own_scale()
    assert writer.complete() == {0: 0}


def test_the_items_own_label_is_written(tmp_path):
    import nibabel as nib

    recipient = tmp_path / "A_t1.nii.gz"
    write_nifti(recipient, np.ones((SIDE,) * 3, np.int16), AFFINE.numpy())
    image = MetaTensor(torch.full((4, SIDE, SIDE, SIDE), 7, dtype=torch.int16), affine=AFFINE)
    facts = {"recipient": "A", "donor": "B", "kept": 1.0, "place": 0, "tries": 1}
    common = {"recipient_file": str(recipient), "native_label": cube(1, 5, 4), "transplant": facts}
    writer = SubjectWriter(tmp_path, None, [{"subject": "A"}, {"subject": "B"}], {}, count=2)
    for number, (extra, expected) in enumerate([({}, cube(1, 5, 4)), ({"label": cube(1, 15, 2)}, cube(1, 15, 2))]):
        folder = writer.write({**common, **extra, "number": number}, image)
        assert np.array_equal(nib.load(folder / f"{folder.name}_seg.nii.gz").dataobj, expected.numpy()[0])

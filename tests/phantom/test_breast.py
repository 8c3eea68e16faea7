"""What a phantom breast MRI promises: header, contrast, lesions that look and enhance as theirs do, whole folders."""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mrsynth.files import sha256
from mrsynth.manifest import load_datalist
from mrsynth.manifest.breasts import SEQUENCES, breast_datalist
from mrsynth.phantom import breast as module
from mrsynth.phantom import cohort as cohorts
from mrsynth.phantom import default_breast_cohort, make_breast_cohort
from mrsynth.phantom.breast import make_breast_subject
from mrsynth.phantom.breast_anatomy import Anatomy
from mrsynth.phantom.breast_contrast import TIMES
from mrsynth.phantom.breast_lesions import (
    BENIGN,
    CURVE_SHARES,
    CURVES,
    DIAMETER_MM,
    MALIGNANT,
    PATIENTS,
    Lesion,
    LesionPlan,
    draw_plans,
    places,
)

SEED, MATRIX = 0, 96


@lru_cache(maxsize=8)
def subject(index: int, matrix: int = MATRIX):
    return make_breast_subject(SEED, index, matrix)


@lru_cache(maxsize=4)
def woman(index: int) -> Anatomy:
    return Anatomy(np.random.default_rng([SEED, index, module._STREAM]))


@lru_cache(maxsize=4)
def tissue(index: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Flat indices of the voxels before the chest muscles, 4 mm and more below the skin; what is in them; how deep."""
    anatomy = woman(index)
    at = anatomy.positions(anatomy.slab(MATRIX))
    skin, torso = anatomy.outline(at)
    at, depth = at.reshape(3, -1), -skin.ravel()
    before = -anatomy.under_fat(at, torso.ravel())
    where = np.flatnonzero((depth > 4) & (before > 4) & (at[1] < anatomy.half_depth))
    sharp = np.full(len(where), 0.8, np.float32)
    return where, anatomy.parenchyma(at[:, where], depth[where], before[where], sharp), depth[where]


def test_images_are_axial_and_of_the_same_field_of_view_at_every_matrix():
    for matrix in (64, MATRIX):
        images, mask, affine, _ = make_breast_subject(SEED, 2, 64) if matrix == 64 else subject(2)
        assert images.shape == (len(SEQUENCES), matrix, matrix, 32) and images.dtype == np.int16
        assert mask.shape == images.shape[1:] and mask.dtype == np.uint8
        assert nib.aff2axcodes(affine) == ("L", "P", "S")
        np.testing.assert_allclose(nib.affines.voxel_sizes(affine), [332.8 / matrix, 332.8 / matrix, 4.5])
        corner = affine @ [-0.5, -0.5, -0.5, 1]
        np.testing.assert_allclose(corner[[0, 2]], [332.8 / 2, -72])
        assert (images >= 0).all()


def test_same_seed_same_voxels_other_seed_others():
    images, mask, _, lesions = subject(1)
    again = make_breast_subject(SEED, 1, MATRIX)
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(mask, again[1])
    assert lesions == again[3]
    for other in (make_breast_subject(SEED + 1, 1, MATRIX)[0], subject(2)[0]):
        assert np.corrcoef(other[1].ravel(), images[1].ravel())[0, 1] < 0.97


def test_same_woman_at_every_matrix():
    fine, fine_mask, _, lesions = subject(1, 2 * MATRIX)
    coarse, coarse_mask, _, same = subject(1)
    assert lesions == same
    blocks = fine.reshape(6, MATRIX, 2, MATRIX, 2, 32).mean(axis=(2, 4))
    for channel in range(6):
        assert np.corrcoef(blocks[channel].ravel(), coarse[channel].ravel())[0, 1] > 0.98
    for lesion in lesions:
        here, there = (np.argwhere(mask == lesion["lesion"]).mean(0) for mask in (fine_mask, coarse_mask))
        np.testing.assert_allclose((here[:2] + 0.5) / 2, there[:2] + 0.5, atol=1)


def test_fat_is_bright_and_only_fat_does_not_enhance():
    images = subject(1)[0].reshape(6, -1).astype(float)
    where, share, _ = tissue(1)
    lean = sum(share[name] for name in ("gland", "ligament", "vessel", "cyst", "skin", "nipple"))
    away = ndimage.distance_transform_edt(subject(1)[1] == 0, sampling=(3.5, 3.5, 4.5)).ravel()[where] > 12
    fat, gland = where[away & (lean < 0.02)], where[away & (share["gland"] > 0.95)]
    assert len(fat) > 1000 and len(gland) > 50
    t2, pre, *posts = (tuple(np.median(image[part]) for part in (fat, gland)) for image in images)
    assert t2[0] > 1.2 * t2[1] and pre[0] > 1.4 * pre[1]
    assert all(abs(post[0] / pre[0] - 1) < 0.02 for post in posts)
    rise = [post[1] / pre[1] - 1 for post in posts]
    assert rise[0] > 0.03 and rise[-1] > rise[0]  # the parenchyma's own enhancement, slow


def test_density_is_what_was_drawn():
    for index in (0, 1, 2):
        anatomy = woman(index)
        _, depth, before, level = anatomy.candidates
        assert (level > 0).mean() == pytest.approx(anatomy.density, abs=0.01)
        # glandular tissue is neither in the skin nor on the muscle
        assert (level[(depth < 3)] > 0).mean() < 0.3 * anatomy.density
        assert (level[(before < 2)] > 0).mean() < 0.3 * anatomy.density


def test_women_differ():
    densities = [Anatomy(np.random.default_rng([5, index])).density for index in range(6)]
    reaches = [woman(index).breasts[0].reach for index in range(3)]
    assert max(densities) > 2 * min(densities) and max(reaches) - min(reaches) > 3


# lesions ---------------------------------------------------------------------------------------------------


def cohort_plans(count: int = 1500) -> list[list[LesionPlan]]:
    return [draw_plans(np.random.default_rng([SEED, index]), index, SEED) for index in range(count)]


def test_lesions_are_as_many_and_as_large_as_in_women():
    women = cohort_plans()
    worst = Counter("none" if not plans else max(plan.type for plan in plans) for plans in women)
    for name, share in PATIENTS.items():
        assert worst[name] / len(women) == pytest.approx(share, abs=0.005)
    assert {len(plans) for plans in women} == {0, 1, 2, 3}
    for start in range(0, 200, 20):  # also in a small cohort
        some = [max((plan.type for plan in plans), default="none") for plans in women[start : start + 20]]
        assert min(Counter(some)[name] for name in PATIENTS) >= 1
    for name, (median, _, least, most) in DIAMETER_MM.items():
        sizes = np.array([plan.diameter for plans in women for plan in plans if plan.type == name])
        assert least <= sizes.min() and sizes.max() <= most
        assert np.median(sizes) == pytest.approx(median, rel=0.12)


def test_curves_occur_as_often_as_in_the_literature():
    every = [plan for plans in cohort_plans() for plan in plans if plan.kind != "lymph node"]
    for name, shares in CURVE_SHARES.items():
        mine = Counter(plan.curve for plan in every if plan.type == name)
        for curve, share in zip(CURVES, shares, strict=True):
            assert mine[curve] / sum(mine.values()) == pytest.approx(share, abs=0.05)


def lesion(kind: str = "fibroadenoma", curve: str = "persistent", diameter: float = 14, seed: int = 0) -> Lesion:
    kinds = {"fibroadenoma": BENIGN, "lymph node": BENIGN, "focus": BENIGN}
    plan = LesionPlan(kinds.get(kind, MALIGNANT), kind, curve, diameter, 0.5, seed)
    return Lesion(plan, np.zeros(3), np.array([0, -60.0, 0]))


@pytest.mark.parametrize("kind", ["fibroadenoma", "spiculated"])
@pytest.mark.parametrize("seed", range(12))
def test_curves_are_those_of_radiology(kind, seed):
    """Against the peak of the first minutes the signal rises, stays within a tenth, or falls by a tenth and more."""
    change = {}
    for curve in CURVES:
        made = lesion(kind, curve, seed=seed)
        signal = 1 + made.values["uptake"] * made.curve(np.array(TIMES))
        assert signal.min() > 1.15
        change[curve] = signal[-1] / signal[:2].max() - 1
    assert change["persistent"] > 0.1
    assert abs(change["plateau"]) < 0.1
    assert change["wash-out"] < -0.1


def ray_lengths(made: Lesion) -> np.ndarray:
    """Distance of the margin, spicules included, from the center in 400 directions."""
    direction = np.random.default_rng(1).normal(size=(3, 400))
    direction /= np.linalg.norm(direction, axis=0)
    steps = np.arange(0.25, made.reach, 0.25)
    at = (direction[:, :, None] * steps).reshape(3, -1).astype(np.float32)
    inside = (made.level(at)[1] < 0).reshape(400, -1)
    return 0.25 * inside.sum(1)


def test_malignant_margins_are_spiculated_and_benign_ones_smooth():
    for seed in range(4):
        smooth, rough = (ray_lengths(lesion(kind, seed=seed)) for kind in ("focus", "spiculated"))
        assert rough.std() / rough.mean() > 2 * smooth.std() / smooth.mean()
        assert rough.max() > 1.5 * np.median(rough)


def test_rims_enhance_and_dead_centers_do_not():
    rims = [made for made in (lesion("smooth", "plateau", 24, seed) for seed in range(20)) if made.values["rim"]]
    assert 4 < len(rims) < 16
    for made in rims:
        at = np.random.default_rng(0).uniform(-11, 11, (3, 4000)).astype(np.float32)
        within, _, signals = made.paint(at, TIMES, np.zeros(7, np.float32))
        depth = -made.level(at)[0]
        uptake = signals[3] - signals[2]
        assert uptake[(depth > 0) & (depth < 2)].mean() > 1.3 * uptake[depth > 8].mean()
        assert within[depth > 1].min() == 1 and within[depth < -1].max() == 0


def test_lesions_lie_in_the_breast_apart_from_each_other():
    for index in range(8):
        anatomy, plans = woman(index), draw_plans(np.random.default_rng([SEED, index, module._STREAM + 1]), index, SEED)
        centers = places(anatomy, plans)
        for number, (plan, center) in enumerate(zip(plans, centers, strict=True)):
            skin, torso = anatomy.outline(center[:, None])
            assert -skin[0] > plan.diameter / 2 and -anatomy.under_fat(center[:, None], torso)[0] > plan.diameter / 2
            for other, there in zip(plans[:number], centers[:number], strict=True):
                assert np.linalg.norm(center - there) > (plan.diameter + other.diameter) / 2 + 4


def test_the_mask_holds_each_lesion_and_it_enhances():
    seen = 0
    for index in (0, 1, 4):
        images, mask, _, lesions = subject(index)
        assert sorted(set(np.unique(mask)) - {0}) == [entry["lesion"] for entry in lesions]
        for entry in lesions:
            here = mask == entry["lesion"]
            volume = here.sum() * (332.8 / MATRIX) ** 2 * 4.5
            if entry["kind"] != "non-mass" and entry["diameter_mm"] > 9:
                assert (6 * volume / np.pi) ** (1 / 3) == pytest.approx(entry["diameter_mm"], rel=0.3)
            pre, post = (images[channel][here].mean() for channel in (1, 2))
            assert post > 1.15 * pre
            seen += 1
    assert seen >= 4


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"index": -1}, {"seed": 0.5}, {"matrix": 63}, {"matrix": 1024}, {"matrix": 99.5}]
)
def test_refuses(wrong, refused):
    with refused(where=next(iter(wrong)), found=repr(next(iter(wrong.values())))):
        make_breast_subject(**({"seed": 0, "index": 0, "matrix": 64} | wrong))


# cohorts ---------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return make_breast_cohort(tmp_path_factory.mktemp("breasts") / "data", subjects=3, seed=SEED, matrix=64, workers=2)


def test_layout(cohort):
    assert sorted(os.listdir(cohort)) == [
        *(f"Breast_{index:05d}" for index in range(3)), "cohort.json", "lesions.csv", "subjects.csv",
    ]  # fmt: skip
    image, mask, affine, lesions = make_breast_subject(SEED, 1, 64)
    folder = cohort / "Breast_00001"
    for part, expected in zip((*SEQUENCES, "lesions"), [*image, mask], strict=True):
        nifti = nib.load(folder / f"Breast_00001_{part}.nii.gz")
        np.testing.assert_array_equal(np.asarray(nifti.dataobj), expected)
        np.testing.assert_allclose(nifti.affine, affine, atol=1e-4)
    assert json.loads((folder / "Breast_00001.json").read_text())["lesions"] == lesions


def test_the_datalist_holds_everyone_once_with_the_classes_of_her_lesions(cohort):
    content = breast_datalist(cohort, validation=1, test=1)
    parts = load_datalist(content)
    items = {item["subject"]: item for part in parts.values() for item in part}
    assert sorted(items) == [f"Breast_{index:05d}" for index in range(3)]
    assert [len(parts[section]) for section in ("training", "validation", "test")] == [1, 1, 1]
    for index, item in enumerate(items[name] for name in sorted(items)):
        lesions = make_breast_subject(SEED, index, 64)[3]
        assert item["lesions"] == {str(entry["lesion"]): entry["class"] for entry in lesions}
        assert [Path(name).name for name in item["image"]] == [f"{item['subject']}_{s}.nii.gz" for s in SEQUENCES]


def test_worker_count_does_not_matter(tmp_path, cohort):
    """The fixture was made by two children, this one in this process."""
    alone = make_breast_cohort(tmp_path / "alone", subjects=3, seed=SEED, matrix=64, workers=1)
    assert len(contents(cohort)) == 3 * 8 + 3
    assert contents(alone) == contents(cohort)


def test_extended_and_completed_without_touching_what_is_there(tmp_path, cohort):
    folder = make_breast_cohort(tmp_path / "data", subjects=1, seed=SEED, matrix=64)
    first = folder / "Breast_00000/Breast_00000_t2.nii.gz"
    stamp = first.stat().st_mtime_ns
    make_breast_cohort(folder, subjects=2, seed=SEED, matrix=64)
    (folder / "Breast_00001/Breast_00001_t2.nii.gz").unlink()
    (folder / "subjects.csv").unlink()  # as if it had been stopped before the end
    make_breast_cohort(folder, subjects=3, seed=SEED, matrix=64, workers=2)
    assert contents(folder) == contents(cohort)
    assert first.stat().st_mtime_ns == stamp
    assert not list(tmp_path.rglob(".tmp-*"))


def test_refuses_a_folder_in_use(tmp_path, cohort, refused):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("irreplaceable")
    (tmp_path / "file").write_text("a file")
    for folder, found in ((tmp_path / "mine", "other files"), (tmp_path / "file", "a file")):
        with refused(found=found):
            make_breast_cohort(folder, subjects=1, matrix=64)
    others = ({"seed": 4}, "seed 0 instead of 4"), ({"subjects": 2}, "more than the 2"), ({"matrix": 128}, "spacing_mm")
    for other, found in others:
        with refused(found=found):
            make_breast_cohort(cohort, **({"subjects": 3, "seed": SEED, "matrix": 64} | other))
    with refused(expected="file that can be written"):
        make_breast_cohort(tmp_path / "file" / "data", subjects=1, matrix=64)
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


@pytest.mark.parametrize("wrong", [{"subjects": 0}, {"subjects": 1.5}, {"seed": -1}, {"matrix": 8}, {"workers": 0}])
def test_refuses_parameters(tmp_path, wrong, refused):
    with refused(where=next(iter(wrong))):
        make_breast_cohort(tmp_path / "data", **({"subjects": 1, "matrix": 64} | wrong))
    assert not list(tmp_path.iterdir())


def test_failure_leaves_no_half_subject(tmp_path, monkeypatch):
    def write(path, volume, affine):
        if "post3" in path.name:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"whole")

    monkeypatch.setattr(cohorts, "write_nifti", write)
    with pytest.raises(ValueError, match="space"):
        make_breast_cohort(tmp_path / "data", subjects=1, matrix=64)
    assert os.listdir(tmp_path / "data") == ["cohort.json"]


def test_default_cohort_is_made_once(tmp_path, monkeypatch, refused):
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path))
    folder = default_breast_cohort(1, seed=SEED, matrix=64)
    assert tmp_path in folder.parents
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert default_breast_cohort(1, seed=SEED, matrix=64) == folder
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path / "home"))
    with refused(do="MRSYNTH_HOME"):
        default_breast_cohort(1, matrix=64)

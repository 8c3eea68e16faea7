"""Measures have the values they must have where these are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.metrics import (
    BrainSSIM,
    contrast,
    diversity,
    feature_names,
    fidelity,
    mean_sd,
    shell,
    ssim_map,
    tumor_features,
)


def images(seed: int = 0, shape=(4, 12, 12, 12)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32))


WHOLE = {"all": torch.ones(12, 12, 12, dtype=torch.bool)}


def test_identical_images_are_perfect():
    found = fidelity(images(), images(), WHOLE)["all"]
    assert torch.equal(found["mae"], torch.zeros(4))
    assert torch.isposinf(found["psnr"]).all()
    assert torch.allclose(found["ssim"], torch.ones(4), atol=1e-5)


def test_a_constant_error_has_its_own_mae_and_psnr():
    found = fidelity(images() + 0.2, images(), WHOLE)["all"]
    assert torch.allclose(found["mae"], torch.full((4,), 0.2), atol=1e-6)
    assert torch.allclose(found["psnr"], torch.full((4,), 20.0), atol=1e-4)  # 20 log10(2 / 0.2)


def test_only_the_region_counts():
    region = torch.zeros(12, 12, 12, dtype=torch.bool)
    region[:4] = True
    fake = images().clone()
    fake[:, 8:] += 1  # farther from the region than SSIM's window reaches
    found = fidelity(fake, images(), {"part": region, "nowhere": torch.zeros_like(region)})
    assert (found["part"]["mae"] == 0).all() and torch.allclose(found["part"]["ssim"], torch.ones(4), atol=1e-5)
    assert torch.isnan(found["nowhere"]["mae"]).all()


def test_ssim_is_a_map_on_the_same_grid_and_falls_with_noise():
    real = images(0, (1, 4, 12, 12, 12))
    means = [ssim_map(real + level * images(1, tuple(real.shape)), real).mean() for level in (0, 0.2, 1.0)]
    assert ssim_map(real, real).shape == real.shape and means[0] > means[1] > means[2]


def test_brain_ssim_looks_inside_the_brain_alone():
    real = images()
    real[:, :6] = -1
    fake = real.clone()
    fake[:, :2] = 0.7  # background, and beyond the reach of a window centered in the brain
    metric = BrainSSIM()
    metric([MetaTensor(fake)], [MetaTensor(real)])
    assert metric.aggregate().item() == pytest.approx(1.0, abs=1e-5)


def test_mean_and_spread_skip_what_is_not_there():
    assert mean_sd([1.0, 3.0, float("nan")]) == {"mean": 2.0, "sd": pytest.approx(2**0.5), "n": 2}
    assert mean_sd([5.0]) == {"mean": 5.0, "sd": None, "n": 1}
    assert mean_sd([])["mean"] is None


def ball(radius: float, shape=(20, 20, 20)) -> np.ndarray:
    return np.sqrt(((np.indices(shape) - 9.5) ** 2).sum(axis=0)) < radius


def test_a_shell_surrounds_the_lesion_in_millimeters():
    lesion, tissue = ball(3), ball(9)
    around = shell(lesion, tissue, (2.0, 2.0, 2.0), width=4.0)
    assert around.any() and not (around & lesion).any() and not (around & ~tissue).any()
    assert not (around & ~ball(5.5)).any()  # 4 mm are 2 voxels
    assert not shell(np.zeros_like(lesion), tissue, (1, 1, 1)).any()


def test_contrast_is_the_difference_of_means_and_nan_where_too_small():
    lesion, tissue = ball(3), ball(9)
    image = np.where(lesion, 0.7, 0.2)
    around = shell(lesion, tissue, (1, 1, 1))
    assert contrast(image, lesion, around) == pytest.approx(0.5)
    assert contrast(-image, lesion, around) == pytest.approx(-0.5)
    assert np.isnan(contrast(image, np.zeros_like(lesion), around))


def features(seed: int, spread: float) -> np.ndarray:
    """Features of six subjects whose tumors differ by ``spread``."""
    random, rows = np.random.default_rng(seed), []
    label = np.select([ball(2), ball(4), ball(6)], [1, 4, 2], 0)
    for _ in range(6):
        image = random.normal(0, 0.05, (4, 20, 20, 20))
        for value in (1, 2, 4):
            image[:, label == value] += spread * random.normal(0, 1, (4, 1))
        rows.append(tumor_features(image, label))
    return np.stack(rows)


def test_diversity_is_one_for_the_same_and_small_for_a_collapsed_generator():
    real = features(0, 0.5)
    same, collapsed = diversity(real, real), diversity(real, features(1, 0.05))
    assert same["sd_ratio"] == pytest.approx(1) and same["distance"]["ratio"] == pytest.approx(1)
    assert collapsed["distance"]["ratio"] < 0.3
    assert collapsed["features"]["enhancing t1ce mean"]["ratio"] < 0.3
    assert collapsed["subjects"] == {"real": 6, "synthetic": 6}


def test_features_have_names_and_absent_parts_are_not_numbers():
    image, label = np.ones((4, 5, 5, 5)), np.zeros((5, 5, 5))
    label[0] = 2
    found = dict(zip(feature_names(), tumor_features(image, label), strict=True))
    assert found["edema t1 mean"] == 1 and found["edema t1 texture"] == 0
    assert np.isnan(found["enhancing t1ce mean"]) and np.isnan(found["core flair texture"])


def test_a_single_subject_has_no_diversity():
    found = diversity(features(0, 0.5)[:1], features(1, 0.5)[:1])
    assert found["sd_ratio"] is None and found["distance"]["ratio"] is None

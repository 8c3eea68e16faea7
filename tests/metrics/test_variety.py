"""MS-SSIM of random pairs: what is alike has 1, what differs less, at every size that carries the window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric

from mrsynth.errors import UserError
from mrsynth.metrics.variety import WEIGHTS, _pairs, ms_ssim_variety, scales_for


def images(count: int = 6, size: tuple[int, ...] = (64, 64), seed: int = 0) -> torch.Tensor:
    """Blurred noise in [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, *(s // 4 for s in size), generator=random) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=size)


@pytest.mark.parametrize(
    ("size", "scales"), [(11, 1), (21, 1), (22, 2), (43, 2), (44, 3), (64, 3), (98, 3), (99, 4), (176, 5), (240, 5)]
)
def test_the_scales_are_as_many_as_monai_takes(size, scales):
    assert scales_for((size, 300)) == scales
    pair = images(2, (size, 300))
    MultiScaleSSIMMetric(2, data_range=2.0, weights=WEIGHTS[:scales])(pair[:1], pair[1:])
    if scales < len(WEIGHTS):
        with pytest.raises((ValueError, RuntimeError)):
            MultiScaleSSIMMetric(2, data_range=2.0, weights=WEIGHTS[: scales + 1])(pair[:1], pair[1:])
    assert ms_ssim_variety(pair)["scales"] == scales


def test_at_its_own_size_it_is_monais_with_its_defaults():
    pair = 0.3 * images(2, (180, 200)) + 0.5 * images(1, (180, 200), seed=1)
    theirs = MultiScaleSSIMMetric(2, data_range=2.0)(pair[:1], pair[1:])
    assert ms_ssim_variety(pair)["mean"] == pytest.approx(float(theirs) ** (1 / sum(WEIGHTS)), rel=1e-4)


def test_images_that_are_all_the_same_have_one():
    same = images(1).expand(5, -1, -1, -1)
    found = ms_ssim_variety(same)
    assert found["mean"] == pytest.approx(1, abs=1e-5) and found["sd"] == pytest.approx(0, abs=1e-5)
    assert (found["pairs"], found["images"], found["window"]) == (10, 5, 11)


def test_the_more_they_differ_the_lower():
    common, own = images(1, seed=9), images(8)
    means = [ms_ssim_variety((1 - part) * common + part * own)["mean"] for part in (0.1, 0.4, 0.8)]
    assert 1 > means[0] > means[1] > means[2] >= 0


@pytest.mark.parametrize("count", [2, 3, 8, 9])
def test_all_pairs_are_there_once(count):
    drawn = _pairs(count, 100, np.random.default_rng(0))
    assert {frozenset(pair) for pair in drawn.tolist()} == {frozenset((i, j)) for i in range(count) for j in range(i)}
    assert len(drawn) == count * (count - 1) // 2


def test_pairs_are_drawn_by_the_seed_and_differ():
    drawn = _pairs(1000, 300, np.random.default_rng(0))
    assert len({frozenset(pair) for pair in drawn.tolist()}) == 300 and (drawn[:, 0] != drawn[:, 1]).all()
    assert drawn.min() < 30 and drawn.max() > 970 and drawn.max() < 1000
    found = ms_ssim_variety(images(9), pairs=4, seed=1)
    assert found["pairs"] == 4 and found == ms_ssim_variety(images(9), pairs=4, seed=1)
    assert found["mean"] != ms_ssim_variety(images(9), pairs=4, seed=2)["mean"]


def test_a_data_set_is_read_only_where_it_is_drawn():
    class Lazy:
        def __init__(self):
            self.read = []

        def __len__(self):
            return 100

        def __getitem__(self, index):
            self.read.append(index)
            return (images(1) + 0.5 * images(1, seed=index + 1))[0].numpy()

    lazy = Lazy()
    assert 0 < ms_ssim_variety(lazy, pairs=3)["mean"] < 1
    assert len(lazy.read) == 6 and max(lazy.read) < 100


def test_volumes_and_channels():
    volumes = images(1, (24, 32, 40)) + 0.5 * images(3, (24, 32, 40), seed=1)
    found = ms_ssim_variety(volumes)
    assert found["scales"] == 2 and 0 < found["mean"] < 1
    gray = images(1) + 0.5 * images(3, seed=1)
    found, colors = ms_ssim_variety(gray), ms_ssim_variety(gray.repeat(1, 3, 1, 1))
    assert found["mean"] > 0.1 and colors["mean"] == pytest.approx(found["mean"], abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ms_ssim_variety(images(1)), "1 images"),
        (lambda: ms_ssim_variety([]), "0 images"),
        (lambda: ms_ssim_variety(images(3), pairs=0), "0 pairs"),
        (lambda: ms_ssim_variety(images(3, (40, 8))), "at least 11 pixels[^$]*40 x 8"),
        (lambda: ms_ssim_variety([*images(2), *images(1, (64, 32))]), r"\(1, 64, 64\) and \(1, 64, 32\)|images of one"),
        (lambda: ms_ssim_variety(images(3) * float("nan")), "NaN"),
        (lambda: ms_ssim_variety(images(3)[:, 0]), "N, C, H, W"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()

"""A set of images against another, between two anchors; and the validation of a training."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from mrsynth.metrics import ClassificationAccuracyScore, RealismValidator, realism, realism_table
from mrsynth.metrics.realism import ON_FEATURES, ON_IMAGES, PAIRS, NoiseImages, standardized


class Means:
    """Features that can be worked out: the means of the image's four quarters, and of its channels."""

    name, dimensions, standardize = "means of quarters", 5, False

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        quarters = torch.nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
        return torch.cat([quarters, images.std(dim=(1, 2, 3))[:, None]], dim=1)


def pictures(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Smooth blobs whose brightness differs."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 4, 4, generator=random) * 0.2 + shift
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear").clamp(-1, 1)


@pytest.fixture(scope="module")
def measured() -> dict:
    return realism(pictures(200, 0), pictures(150, 1), Means(), draws=3, count=80, seed=4)


def test_images_of_one_distribution_are_as_near_as_the_halves_of_the_real_ones(measured):
    frechet, c2st = measured["measures"]["frechet"], measured["measures"]["c2st"]
    assert frechet["synthetic"]["mean"] < 3 * frechet["half of real"]["mean"]
    assert frechet["noise"]["mean"] > 5 * frechet["half of real"]["mean"]
    assert abs(c2st["synthetic"]["mean"] - 0.5) < 0.15 and c2st["noise"]["mean"] > 0.7
    assert abs(measured["measures"]["nn_fake"]["synthetic"]["mean"] - 0.5) < 0.15


def test_others_lie_between_the_anchors():
    shifted = realism(pictures(200, 0), pictures(150, 1, shift=0.06), Means(), draws=2, count=80)["measures"]["frechet"]
    assert 3 * shifted["half of real"]["mean"] < shifted["synthetic"]["mean"] < shifted["noise"]["mean"]


def test_a_result_says_what_it_rests_on_and_is_the_same_again(measured):
    again = realism(pictures(200, 0), pictures(150, 1), Means(), draws=3, count=80, seed=4)
    assert again == measured
    assert measured["count"] == 80 and measured["draws"] == 3 and not measured["few"]
    assert all(set(by) == set(PAIRS) and by["noise"]["n"] == 3 for by in measured["measures"].values())
    said = realism_table(measured)
    for word in ("means of quarters", "80 images", "200 real", "150 synthetic", "seed 4", "half of real", "noise"):
        assert word in said


def test_few_images_are_said_to_be_few_and_are_no_error():
    few = realism(pictures(60, 0), pictures(25, 1), lambda_features(64), draws=1)
    assert few["few"] and few["count"] == 25
    assert "rank 24" in realism_table(few) and "by extrapolation" in realism_table(few)


def test_very_few_images_are_measured_without_an_extrapolation():
    few = realism(pictures(24, 0), pictures(12, 1), Means(), draws=2)
    assert few["frechet_extrapolated"] is None and few["count"] == 12 and realism_table(few)


def drawn_by(monkeypatch, fake_images: int, real_images: int, **options) -> tuple[dict, list]:
    """A result, and for each draw the features of the real and the synthetic images that its main figure compares."""
    seen = []

    def measures(real, fake, seed):
        seen.append((real, fake))
        return {name: float(seed) for name in ON_FEATURES}

    monkeypatch.setattr(import_module("mrsynth.metrics.realism"), "feature_measures", measures)
    result = realism(pictures(real_images, 0), pictures(fake_images, 1), Means(), **options)
    return result, seen[::3]


def rows(features: torch.Tensor) -> set[tuple]:
    return {tuple(row) for row in features.tolist()}


def test_no_draw_shares_an_image_where_there_are_enough_for_all(monkeypatch):
    result, draws = drawn_by(monkeypatch, 60, 100, draws=3, count=20)
    for which in (0, 1):
        sets = [rows(draw[which]) for draw in draws]
        assert [len(images) for images in sets] == [20, 20, 20] and len(set().union(*sets)) == 60
    assert result["shared"] == {"real": False, "fake": False} and "share" not in realism_table(result)


def test_draws_that_share_images_are_named_in_the_result(monkeypatch):
    result, draws = drawn_by(monkeypatch, 30, 100, draws=3, count=30)
    assert all(rows(fake) == rows(draws[0][1]) for _, fake in draws)
    assert result["shared"] == {"real": False, "fake": True}
    assert "draws share synthetic images" in realism_table(result)


def test_the_halves_of_few_real_images_do_not_limit_the_main_figure(monkeypatch):
    result, draws = drawn_by(monkeypatch, 90, 50, draws=2, count=40)
    assert [(len(real), len(fake)) for real, fake in draws] == [(40, 40), (40, 40)]
    assert (result["count"], result["count_half"]) == (40, 25)
    assert "half of real: draws of 25 images" in realism_table(result)


def lambda_features(size: int):
    """Features that are pixels."""

    class Pixels(Means):
        name, dimensions = "pixels", size

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)

    return Pixels()


def test_blank_images_are_measured_all_the_same():
    blank = realism(pictures(60, 0), torch.full((30, 1, 32, 32), -1.0), Means(), draws=1)
    assert blank["measures"]["checkerboard"]["half of real"]["mean"] is not None
    assert blank["measures"]["c2st"]["synthetic"]["mean"] > 0.9


@pytest.mark.parametrize(
    ("real", "fake", "options", "fragments"),
    [
        (pictures(19, 0), pictures(30, 1), {}, {"expected": "20 real", "found": "19"}),
        (pictures(40, 0), pictures(9, 1), {}, {"expected": "10 fake", "found": "9"}),
        (pictures(40, 0), pictures(30, 1)[:, :, :16], {}, {"found": "(1, 16, 32)"}),
        (pictures(40, 0), pictures(30, 1), {"draws": 0}, {"where": "draws"}),
    ],
)
def test_what_cannot_be_compared_is_refused(refused, real, fake, options, fragments):
    with refused(**fragments):
        realism(real, fake, Means(), **options)


def test_noise_has_the_moments_asked_for_and_is_read_one_by_one():
    noise = NoiseImages(50, (1, 32, 32), -0.2, 0.1, 3)
    values = torch.stack([noise[i] for i in range(50)])
    assert values.mean() == pytest.approx(-0.2, abs=0.01) and values.std() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(noise[7], NoiseImages(50, (1, 32, 32), -0.2, 0.1, 3)[7])
    with pytest.raises(IndexError):
        noise[50]


def test_standardising_is_by_the_real_ones():
    real, fake = torch.randn(100, 3) * 5 + 2, torch.zeros(10, 3)
    real[:, 1] = 7
    of_real, of_fake = standardized(real, fake)
    assert of_real.shape == (100, 2) and torch.allclose(of_real.std(dim=0), torch.ones(2), atol=1e-4)
    assert np.allclose(of_fake[0], [(0 - real[:, i].mean()) / real[:, i].std() for i in (0, 2)], atol=1e-4)


class ImageSource:
    """Real images by class, as the validator asks for them."""

    def __init__(self, *images: torch.Tensor) -> None:
        self.images = images

    def sample(self, count: int, seed: int, of_class: int) -> torch.Tensor:
        return self.images[of_class][:count]


def test_validation_measures_each_class_and_falls_as_images_get_better(capsys):
    real = ImageSource(pictures(60, 0), pictures(60, 1, 0.4))
    worse = RealismValidator(lambda c, n: pictures(n, 5, 0.8), real, ["no tumor", "t1, tumor"], Means())
    better = RealismValidator(lambda c, n: pictures(n, 5, 0.4 * c), real, ["no tumor", "t1, tumor"], Means())
    for validator in (worse, better):
        validator.run(1)
    found = better.state.metrics
    by_class = {"val_frechet_no_tumor", "val_frechet_t1_tumor"}
    assert set(found) == {f"val_{name}" for name in ON_FEATURES | ON_IMAGES} | by_class
    assert found["val_frechet"] == pytest.approx((found["val_frechet_no_tumor"] + found["val_frechet_t1_tumor"]) / 2)
    assert found["val_frechet"] < worse.state.metrics["val_frechet"] / 5
    said = capsys.readouterr().out
    assert said.count(f"by {Means().name}") == 2 and "no tumor: noise" in said and "(30 images)" in said


def test_validation_takes_few_images_and_any_layout():
    def make(of_class, count):
        return pictures(count, 5).repeat(1, 3, 1, 1).to(memory_format=torch.channels_last)

    for count, names in ((8, {"val_frechet", "val_ms_ssim", "val_checkerboard"}), (12, None)):
        validator = RealismValidator(make, ImageSource(pictures(count, 0).repeat(1, 3, 1, 1)), ["image"], Means())
        validator.run(1)
        assert names is None or set(validator.state.metrics) == names
    assert "val_precision" in validator.state.metrics


def test_validation_by_features_of_several_units_is_by_standardized_ones():
    class Units(Means):
        standardize = True

        def __call__(self, images):
            return super().__call__(images) * 1000

    found = []
    for features in (Units(), Means()):
        features.standardize = True
        validator = RealismValidator(
            lambda c, n: pictures(n, 5, 0.8), ImageSource(pictures(60, 0)), ["image"], features
        )
        validator.run(1)
        found.append(validator.state.metrics["val_frechet"])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def classes(count: int, seed: int, bright: float) -> list[torch.Tensor]:
    """Noise; with a square in the middle; with a square in a corner. Two channels of 16 x 16."""
    random = torch.Generator().manual_seed(seed)
    found = [0.3 * torch.randn(count, 2, 16, 16, generator=random) for _ in range(3)]
    found[1][:, 1, 6:10, 6:10] += bright
    found[2][:, 0, :4, :4] += bright
    return found


@pytest.mark.slow
def test_obedient_images_are_named_as_often_as_real_ones_and_others_by_chance():
    training, real = classes(100, 0, 0.8), classes(60, 1, 0.8)
    ask = ClassificationAccuracyScore(iterations=40, draws=2, count=70)
    obedient = ask(training, real, classes(50, 2, 0.8))
    assert obedient["classifier"]["training"] == [70] * 3 and obedient["fake"]["n"] == [50] * 3
    accuracy = {name: obedient[name]["accuracy"]["mean"] for name in ("real", "fake")}
    assert accuracy["real"] > 0.7 and abs(accuracy["fake"] - accuracy["real"]) < 0.15
    assert obedient["p_value"] < 1e-6 and obedient["fake"]["accuracy"]["n"] == 2
    assert all(sum(row) == pytest.approx(1) for row in obedient["fake"]["confusion"])
    deaf = ask(training, real, classes(50, 3, 0.0))
    assert abs(deaf["fake"]["accuracy"]["mean"] - 1 / 3) < 0.12 and deaf["p_value"] > 0.01
    assert deaf["real"] == obedient["real"]  # the same seed, the same classifiers


def test_a_class_is_told_by_the_middle_alone_where_that_is_asked_for():
    training, real = classes(100, 0, 0.8), classes(60, 1, 0.8)
    found = ClassificationAccuracyScore(iterations=40, draws=1, center=0.5)(training, real, real)["real"]["confusion"]
    assert found[1][1] > 0.9 and abs(found[0][2] - found[2][2]) < 0.2  # what lies in a corner is not seen


def test_a_class_without_images_is_refused(refused):
    with refused(expected="some of each", where="fake"):
        ClassificationAccuracyScore()(
            classes(5, 0, 1), classes(5, 1, 1), [*classes(5, 2, 1)[:2], torch.empty(0, 2, 16, 16)]
        )


@pytest.mark.parametrize("wrong", [{"center": 0.0}, {"center": 1.5}, {"iterations": 0}, {"draws": 0}, {"count": 0}])
def test_a_classifier_of_nothing_is_refused(refused, wrong):
    with refused(where=next(iter(wrong))):
        ClassificationAccuracyScore(**wrong)


def test_nothing_to_compare_with_is_refused(refused):
    with refused(expected="real images of each class", found="'b'", where="validation_images"):
        RealismValidator(lambda c, n: pictures(n, 5), ImageSource(pictures(20, 0), torch.empty(0)), ["a", "b"], Means())

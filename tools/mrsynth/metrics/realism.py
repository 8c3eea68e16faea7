"""Realism and diversity of synthetic images: all measures over several draws, between two anchors.

A Fréchet distance alone says little, since it depends on the features, the number of images and the data. Each result
therefore states its features, the number of images and the seed, and gives mean and standard deviation over draws
(Haarburger 2019, section 4.1: ten). Two anchors are measured in the same way: one half of the real images against the
other (the best possible value), and noise against real images (a generator that has learned nothing).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from mrsynth.errors import UserError
from mrsynth.files import slug
from mrsynth.metrics.checkerboard import LEAST_SIZE, NOTHING, PowerSpectrum, checkerboard_energy
from mrsynth.metrics.features import Features
from mrsynth.metrics.frechet import frechet_distance, frechet_extrapolated
from mrsynth.metrics.kernel import kernel_distance
from mrsynth.metrics.neighbors import density_coverage, nearest_neighbor_accuracy, precision_recall
from mrsynth.metrics.summary import mean_sd, mean_sd_text
from mrsynth.metrics.two_sample import classifier_two_sample_test
from mrsynth.metrics.variety import WINDOW, ms_ssim_variety

logger = logging.getLogger(__name__)

PAIRS = ("synthetic", "half of real", "noise")
"""What is compared with real images: the synthetic images and the two anchors."""

ON_FEATURES = {
    "frechet": "Fréchet distance, lower is better",
    "kernel": "kernel distance, lower is better",
    "precision": "precision, higher is better",
    "recall": "recall, higher is better",
    "density": "density, higher is better",
    "coverage": "coverage, higher is better",
    "nn_real": "1-NN accuracy on real images, best at 0.5",
    "nn_fake": "1-NN accuracy on fake images, best at 0.5",
    "c2st": "accuracy of a classifier, best at 0.5",
}
"""Measures of two sets of features."""

ON_IMAGES = {
    "ms_ssim": "MS-SSIM of two images, best at that of real ones",
    "checkerboard": "checkerboard energy, best at that of real ones",
}
"""Measures of one set of images."""

LEAST_IMAGES = 10
"""Images of a set."""

EXTRAPOLATED = 20
"""Images of a set from which the Fréchet distance is extrapolated."""


class ImageSequence(Protocol):
    """Images by number: a tensor `(N, C, H, W)`, or anything with a length that gives `(C, H, W)`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> torch.Tensor: ...


def feature_measures(real: torch.Tensor, fake: torch.Tensor, seed: int) -> dict[str, float]:
    """The measures of :data:`ON_FEATURES`.

    Args:
        real: features `(N, D)`.
        fake: likewise, `(N, D)`.
        seed: of the classifier's split and the kernel's subsets.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer images than features: said once, in the result
        distance = frechet_distance(real, fake)
    around, dense = precision_recall(real, fake), density_coverage(real, fake)
    neighbors = nearest_neighbor_accuracy(real, fake)
    return {
        "frechet": distance,
        "kernel": kernel_distance(real, fake, subsets=10, seed=seed)["mean"],
        "precision": around["precision"],
        "recall": around["recall"],
        "density": dense["density"],
        "coverage": dense["coverage"],
        "nn_real": neighbors["accuracy_real"],
        "nn_fake": neighbors["accuracy_fake"],
        "c2st": float(classifier_two_sample_test(real, fake, seed=seed)["accuracy"]),
    }


def image_measures(images: ImageSequence, seed: int) -> dict[str, float]:
    """The measures of :data:`ON_IMAGES`; those for which the images are too small, constant, or volumes, are left
    out."""
    shape, found = images[0].shape[1:], {}
    if min(shape) >= WINDOW:
        pairs = 100 if len(shape) == 2 else 10  # one of volumes takes seconds
        found["ms_ssim"] = ms_ssim_variety(images, pairs=pairs, seed=seed)["mean"]  # type: ignore[arg-type]
    if min(shape) >= LEAST_SIZE and len(shape) == 2:
        spectrum = PowerSpectrum()
        spectrum.update(batches(images))
        if float(spectrum.power.mean()) > NOTHING:
            found["checkerboard"] = float(checkerboard_energy(spectrum)["energy"])  # type: ignore[arg-type]
    return found


class ImageSubset:
    """The images of ``images`` with the given ``numbers``, read on demand."""

    def __init__(self, images: ImageSequence, numbers: np.ndarray) -> None:
        self.images, self.numbers = images, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[int(self.numbers[index])]


class NoiseImages:
    """Images of normal noise, each a function of ``seed`` and its number, cut to [-1, 1].

    Args:
        count: images.
        shape: of one, `(C, H, W)`.
        mean, sd: of the noise.
        seed: of the noise.
    """

    def __init__(self, count: int, shape: Sequence[int], mean: float, sd: float, seed: int) -> None:
        self.count, self.shape, self.mean, self.sd, self.seed = count, tuple(shape), mean, sd, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        if not 0 <= index < self.count:
            raise IndexError(index)
        noise = np.random.default_rng([self.seed, index]).standard_normal(self.shape, dtype=np.float32)
        return torch.from_numpy(self.mean + self.sd * noise).float().clamp(-1, 1)


def batches(images: ImageSequence, size: int = 64) -> Iterator[torch.Tensor]:
    """``images`` in order, `(n, C, H, W)`."""
    for first in range(0, len(images), size):
        yield torch.stack([images[i] for i in range(first, min(first + size, len(images)))])


def features_of(images: ImageSequence, features: Features) -> tuple[torch.Tensor, float, float]:
    """Features `(N, D)` of images that are read batch by batch, and the mean and standard deviation of their pixels."""
    found, moments = [], []
    for batch in batches(images, 64 if len(images[0].shape) == 3 else 1):  # volumes one by one
        found.append(features(batch))
        moments += [[image.mean(), image.square().mean()] for image in batch.double()]
    mean, square = np.mean(moments, axis=0)
    return torch.cat(found), float(mean), float(np.sqrt(max(square - mean**2, 0)))


def realism(
    real: ImageSequence,
    fake: ImageSequence,
    features: Features,
    *,
    draws: int = 10,
    count: int | None = 1000,
    seed: int = 0,
    progress: Callable[[Any], Any] = iter,
) -> dict[str, Any]:
    """All measures of ``fake`` against ``real``, with their anchors.

    A draw takes ``count`` different images of each set. Draws of a set share no images where it has ``draws`` times
    ``count`` of them (Haarburger 2019, section 4.1: "10 different sets of real and fake samples"). Otherwise each draw
    takes its images from the whole set, so that draws share images and the spread over draws is too small: 0 where each
    draw takes the same images. The result says which applies.

    The anchor "half of real" compares two disjoint halves. Where there are fewer than 2 x ``count`` real images, its
    draws are smaller than those of the other pairs, and its Fréchet distance is somewhat greater than at ``count``.

    Args:
        real: images in [-1, 1], `(N, C, H, W)` or anything with a length that gives `(C, H, W)` by number.
        fake: likewise.
        features: of the images.
        draws: how often the images are drawn.
        count: images of each set in a draw; all of the smaller set where it has fewer. None takes all.
        seed: of all draws.
        progress: wraps the draws, such as ``tqdm``.

    Returns:
        ``features`` (name), ``dimensions``, ``real`` and ``fake`` (images there are), ``count`` (in a draw),
        ``count_half`` (the same of "half of real"), ``draws``, ``shared``: whether draws share ``real`` and ``fake``
        images, ``seed``; ``measures``: by name, then by :data:`PAIRS`, ``mean``, ``sd`` and ``n``;
        ``frechet_extrapolated``, the limit of the distance for many images (None of fewer than 20); ``few``: whether
        there are fewer images than features.

    Raises:
        UserError: too few images, no draws, or sizes that differ.
    """
    if draws < 1:
        raise UserError("at least one draw", str(draws), "draws", "give draws=1 or more")
    for name, images in (("real", real), ("fake", fake)):
        need = 2 * LEAST_IMAGES if name == "real" else LEAST_IMAGES
        if len(images) < need:
            raise UserError(f"at least {need} {name} images", str(len(images)), name, f"give {need} images or more")
    if real[0].shape != fake[0].shape:
        raise UserError(
            f"fake images of the real ones' channels and size, {tuple(real[0].shape)}",
            str(tuple(fake[0].shape)),
            "fake",
            "resize the fake images to the real ones' size, and give them the same channels",
        )
    taken = min(count or len(real), len(real), len(fake))
    half = min(taken, len(real) // 2)
    of_real, mean, sd = features_of(real, features)
    of_fake = features_of(fake, features)[0]
    noise = NoiseImages(taken, real[0].shape, mean, sd, seed)
    of_noise = features_of(noise, features)[0]
    if features.standardize:
        of_real, of_fake, of_noise = standardized(of_real, of_fake, of_noise)
    found: dict[str, dict[str, list[float]]] = {name: {pair: [] for pair in PAIRS} for name in ON_FEATURES | ON_IMAGES}
    for draw in progress(range(draws)):
        of_draw, chosen = drawn(len(real), taken, draws, draw, seed), drawn(len(fake), taken, draws, draw, seed + 1)
        order = np.random.default_rng([seed, draw]).permutation(len(real))
        one, other = order[:half], order[half : 2 * half]
        pairs: dict[str, tuple[torch.Tensor, torch.Tensor, ImageSequence]] = {
            "synthetic": (of_real[of_draw], of_fake[chosen], ImageSubset(fake, chosen)),
            "half of real": (of_real[one], of_real[other], ImageSubset(real, other)),
            "noise": (of_real[of_draw], of_noise, noise),
        }
        for pair, (reference, compared, images) in pairs.items():
            values = feature_measures(reference, compared, seed + draw) | image_measures(images, seed + draw)
            for name, value in values.items():
                found[name][pair].append(value)
    measures = {
        name: {pair: mean_sd(values) for pair, values in by.items()} for name, by in found.items() if any(by.values())
    }
    return {
        "features": features.name,
        "dimensions": of_real.shape[1],
        "real": len(real),
        "fake": len(fake),
        "count": taken,
        "count_half": half,
        "draws": draws,
        "shared": {name: share(len(images), taken, draws) for name, images in (("real", real), ("fake", fake))},
        "seed": seed,
        "few": taken <= of_real.shape[1],
        "measures": measures,
        "frechet_extrapolated": frechet_extrapolated(of_real, of_fake, seed=seed)
        if min(len(real), len(fake)) >= EXTRAPOLATED
        else None,
    }


def share(available: int, taken: int, draws: int) -> bool:
    """Whether draws of ``taken`` images share some, because ``available`` is too small for all draws."""
    return draws * taken > available


def drawn(available: int, taken: int, draws: int, draw: int, seed: int) -> np.ndarray:
    """Numbers of the images of one draw: ``taken`` of ``available``, no image in two draws where there are enough."""
    if share(available, taken, draws):
        return np.random.default_rng([seed, draw]).permutation(available)[:taken]
    return np.random.default_rng(seed).permutation(available)[draw * taken : (draw + 1) * taken]


def standardized(real: torch.Tensor, *others: torch.Tensor) -> list[torch.Tensor]:
    """Features shifted and scaled by the real ones' mean and standard deviation; those that do not vary are dropped."""
    mean, sd = real.mean(dim=0), real.std(dim=0)
    varies = sd > 1e-12
    return [((rows - mean) / sd)[:, varies] for rows in (real, *others)]


def realism_table(result: Mapping[str, Any], title: str = "") -> str:
    """The result of :func:`realism` as a table for the screen.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import Features, realism, realism_table
        >>> pixels = Features("16 pixels", 16, lambda images: images.flatten(1))
        >>> images = torch.rand(80, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        >>> table = realism_table(realism(images[:40], images[40:], pixels, draws=2, count=10))
        >>> print(table.splitlines()[1][:55].strip())
        Fréchet distance, lower is better
    """
    lines = [title] if title else []
    lines += [f"{'':52}" + "".join(f"{pair:>18}" for pair in PAIRS)]
    for name, words in (ON_FEATURES | ON_IMAGES).items():
        if name in result["measures"]:
            by = result["measures"][name]
            lines.append(f"  {words:50}" + "".join(f"{mean_sd_text(by[pair]):>18}" for pair in PAIRS))
    lines.append(
        f"mean (sd) over {result['draws']} draws of {result['count']} images of each set, of {result['real']} real and "
        f"{result['fake']} synthetic; seed {result['seed']}"
    )
    if result["count_half"] < result["count"]:
        lines.append(f"half of real: draws of {result['count_half']} images, half of the {result['real']} real ones")
    if result["draws"] > 1 and (names := [name for name in ("real", "fake") if result["shared"][name]]):
        kinds = " and ".join({"real": "real", "fake": "synthetic"}[name] for name in names)
        lines.append(f"draws share {kinds} images, of which there are too few for all draws: the sd is too small")
    lines.append(f"features: {result['features']}")
    if result["few"]:
        rank, towards = result["count"] - 1, result["frechet_extrapolated"]
        lines.append(
            f"fewer images than the {result['dimensions']} features: covariances have rank {rank} at most, and the "
            "Fréchet distance is greater than with many images"
            + (f" ({towards['extrapolated']:.1f} by extrapolation)" if towards else "")
        )
    return "\n".join(lines)


class ImageSource(Protocol):
    """Real images by class, such as :class:`mrsynth.images.ImageDataset`."""

    def sample(self, count: int, seed: int, of_class: int) -> torch.Tensor:
        """Up to ``count`` images of a class, `(N, C, H, W)`."""


class RealismValidator:
    """Validation of a training: the measures of synthetic images against real ones, class by class.

    It stands where :func:`mrsynth.training.run_handlers` expects an evaluator: ``run(epoch)``, then ``state.metrics``:
    the mean over the classes of each measure (of fewer than ten real images the distance alone), and of several classes
    each one's Fréchet distance. The key metric is the mean distance; Haarburger 2019 chose the epoch by the lowest
    (table 2). There are as many synthetic images as real ones, and the noise is the same each time. The anchors of the
    distance are printed once.

    Args:
        make: gives ``count`` images of a class by its number, `(count, C, H, W)` in [-1, 1].
        real: ``real.sample(count, seed, number)`` gives real images `(N, C, H, W)` of a class by its number.
        classes: their names.
        features: of the images.
        count: synthetic images of each class; as many as the real ones where these are fewer.
        seed: of the real images, of the anchors, and of what is drawn inside a measure.
        also_best: further files of weights, and the metric of each, whose best epoch they are of.

    Raises:
        UserError: a class without real images.
    """

    better = "lower"

    def __init__(
        self,
        make: Callable[[int, int], torch.Tensor],
        real: ImageSource,
        classes: Sequence[str],
        features: Features,
        count: int = 500,
        seed: int = 0,
        also_best: Mapping[str, str] | None = None,
    ) -> None:
        self.make, self.classes, self.features, self.seed = make, list(classes), features, seed
        self.also_best = dict(also_best or {})
        self.images = [real.sample(count, seed, number) for number in range(len(self.classes))]
        if empty := [name for name, images in zip(classes, self.images, strict=True) if not len(images)]:
            raise UserError(
                "real images of each class",
                f"none of {empty}",
                "validation_images",
                "give --validation_images 10 or more, or a split with more validation subjects",
            )
        self.real = [features(images) for images in self.images]
        self.state = ValidatorState()
        self.said = False

    def run(self, epoch: int) -> None:
        """Compute the measures."""
        if not self.said:
            logger.info(f"\n{self.anchors()}")
            self.said = True
        found: dict[str, list[float]] = {}
        for number, real in enumerate(self.real):
            fake = self.make(number, len(real))
            values = self._measures(real, self.features(fake)) | image_measures(fake, self.seed)
            for name, value in values.items():
                found.setdefault(name, []).append(value)
        metrics = {f"val_{name}": float(np.mean(values)) for name, values in found.items()}
        if len(self.classes) > 1:
            for name, value in zip(self.classes, found["frechet"], strict=True):
                metrics[class_distance(name)] = value
        self.state.metrics = metrics

    def anchors(self) -> str:
        """The Fréchet distances of the anchors for each class, as text: noise, and one half of the real images against
        the other.
        """
        lines = [f"Fréchet distance by {self.features.name}; the anchors of each class:"]
        for name, images, real in zip(self.classes, self.images, self.real, strict=True):
            noise = NoiseImages(len(images), images.shape[1:], float(images.mean()), float(images.std()), self.seed)
            far = self._measures(real, features_of(noise, self.features)[0])["frechet"]
            line = f"  {name}: noise {far:.1f} ({len(real)} images)"
            if (half := len(real) // 2) >= LEAST_IMAGES:
                shuffled = real[torch.from_numpy(np.random.default_rng(self.seed).permutation(len(real)))]
                near = self._measures(shuffled[:half], shuffled[half : 2 * half])["frechet"]
                line += f", half of real against the other {near:.1f} ({half} images)"
            lines.append(line)
        return "\n".join(lines)

    def _measures(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
        if self.features.standardize:
            real, fake = standardized(real, fake)
        if len(real) < LEAST_IMAGES:
            return {"frechet": frechet_distance(real, fake)}
        return feature_measures(real, fake, self.seed)


class ValidatorState:
    """The part of an evaluator's state that a run reads."""

    key_metric_name = "val_frechet"

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}


def class_distance(name: str) -> str:
    """The metric of :class:`RealismValidator` that is the distance of the class ``name`` alone."""
    return f"{ValidatorState.key_metric_name}_{slug(name)}"

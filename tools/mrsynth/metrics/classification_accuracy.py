"""Classification accuracy score: does a classifier that is trained on real images recognize the class of synthetic
ones?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DenseNet
from monai.transforms import CenterSpatialCrop
from monai.utils import convert_to_tensor
from scipy.stats import binomtest
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from mrsynth.errors import UserError
from mrsynth.metrics.summary import mean_sd
from mrsynth.representation import ShowsParameters

SIDE = 64
"""Pixels along each edge of what the classifier sees."""

BATCH = 48


class ClassificationAccuracyScore(ShowsParameters):
    """Balanced accuracy of a network trained on real images, on real ones that it has not seen and on synthetic ones.

    Haarburger 2019 makes patches of a class to train such a classifier (section 1). From 0 to 1; chance is 1 / classes.
    Synthetic images that reach the accuracy on real ones show their class as clearly as real images do. An accuracy
    above that on real images means that they are typical of their class, and less varied than real ones.

    The network is a small DenseNet of all channels, from scratch: AdamW with one cycle of the learning rate, classes
    drawn equally, each batch in one of the eight orientations of a square. It is trained ``draws`` times, each time
    with other weights and draws.

    Args:
        center: central share of each side that the classifier sees.
        iterations: of a training, of 48 images each.
        draws: trainings.
        count: images of a class that are used, at most, of each set.
        seed: of all draws.
        device: for the network.

    Raises:
        UserError: no iterations, draws or images, or a center of nothing.
    """

    def __init__(
        self,
        center: float = 1.0,
        iterations: int = 500,
        draws: int = 3,
        count: int = 1000,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < center <= 1:
            raise UserError(
                "0 < center <= 1", str(center), "center", "give a number such as 0.5; 1.0 is the whole image"
            )
        for name, number in (("iterations", iterations), ("draws", draws), ("count", count)):
            if number < 1:
                raise UserError(f"{name} of the classifier: at least 1", str(number), name, f"give {name}=1 or more")
        self.center, self.iterations, self.draws, self.count = center, iterations, draws, count
        self.seed, self.device = seed, torch.device(device)

    def __call__(
        self,
        training: Sequence[torch.Tensor],
        real: Sequence[torch.Tensor],
        fake: Sequence[torch.Tensor],
        progress: Callable[[Any], Any] = iter,
    ) -> dict[str, Any]:
        """Train the classifier and apply it.

        Args:
            training: by class, images `(N, C, H, W)` in [-1, 1].
            real: likewise, of other subjects.
            fake: likewise, of images made as that class.
            progress: wraps the draws, such as ``tqdm``.

        Returns:
            ``real`` and ``fake``: each ``accuracy`` (``mean``, ``sd`` and ``n`` over the draws of the mean over the
            classes), ``confusion`` (rows: the true class or the one asked for; columns: the answer; shares of the row,
            means over the draws) and ``n`` by class; ``chance``; ``p_value`` of as many right answers on synthetic
            images by chance (one-sided binomial, the largest of the draws); ``classifier``: how it was trained.

        Raises:
            UserError: fewer than two classes, or a class without images.
        """
        sets = {"training": training, "real": real, "fake": fake}
        for name, by_class in sets.items():
            if len(by_class) < 2 or len(by_class) != len(training) or any(not len(images) for images in by_class):
                raise UserError(
                    "images of two classes or more, some of each",
                    f"{[len(images) for images in by_class]} images",
                    name,
                    "give images of each class",
                )
        seen = {name: [_seen(x[: self.count], self.center) for x in by_class] for name, by_class in sets.items()}
        counts = {name: [len(images) for images in by_class] for name, by_class in seen.items()}
        chance, answers = 1 / len(training), {"real": [], "fake": []}  # type: ignore[var-annotated]
        for draw in progress(range(self.draws)):
            with torch.random.fork_rng():
                torch.manual_seed(self.seed + draw)
                network = _train(seen["training"], self.iterations, self.device)
            for name in answers:
                answers[name].append(np.stack([_answers(network, images, self.device) for images in seen[name]]))
        tests = [binomtest(int(n.trace()), int(n.sum()), chance, alternative="greater") for n in answers["fake"]]
        result: dict[str, Any] = {"chance": chance, "p_value": max(float(test.pvalue) for test in tests)}
        for name, draws in answers.items():
            confusions = np.stack([numbers / numbers.sum(axis=1, keepdims=True) for numbers in draws])
            accuracy = mean_sd(np.trace(confusions, axis1=1, axis2=2) / len(training))
            result[name] = {"accuracy": accuracy, "confusion": confusions.mean(axis=0).tolist(), "n": counts[name]}
        result["classifier"] = {
            "network": "DenseNet",
            "side": SIDE,
            "center": self.center,
            "iterations": self.iterations,
            "batch_size": BATCH,
            "training": counts["training"],
            "draws": self.draws,
            "seed": self.seed,
        }
        return result


def _seen(images: torch.Tensor, center: float) -> torch.Tensor:
    """The middle of each image, :data:`SIDE` pixels along each edge."""
    size = [max(1, round(center * side)) for side in images.shape[2:]]
    crop = CenterSpatialCrop([-1, *size])  # which takes the images for channels
    middle = convert_to_tensor(crop(images.float()))
    return F.interpolate(middle, size=(SIDE, SIDE), mode="bilinear", antialias=True)


def _train(sets: Sequence[torch.Tensor], iterations: int, device: torch.device) -> nn.Module:
    counts = [len(images) for images in sets]
    classes = torch.repeat_interleave(torch.arange(len(sets)), torch.tensor(counts))
    equally = WeightedRandomSampler([1 / counts[number] for number in classes.tolist()], iterations * BATCH)
    network = DenseNet(2, sets[0].shape[1], len(sets), 16, 8, (2, 2, 2, 2), dropout_prob=0.2).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, iterations)
    for images, truth in DataLoader(TensorDataset(torch.cat(list(sets)), classes), BATCH, sampler=equally):
        turns, mirrored = torch.randint(0, 4, ()), torch.rand(()) < 0.5
        shown = torch.rot90(images.mT if mirrored else images, int(turns), (2, 3))
        loss = F.cross_entropy(network(shown.to(device)), truth.to(device), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def _answers(network: nn.Module, images: torch.Tensor, device: torch.device) -> np.ndarray:
    """How many images each class is the answer for, `(classes,)`."""
    logits = torch.cat([network(part.to(device)).cpu() for part in images.split(BATCH)])
    return torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1]).numpy()

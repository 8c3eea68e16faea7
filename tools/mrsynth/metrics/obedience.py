"""Whether images are of the class they were made as: a classifier of real images is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DenseNet
from scipy.stats import binomtest
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from mrsynth.errors import UserError

SIDE = 64
"""Pixels along each edge of what the classifier sees."""

BATCH = 48


def class_obedience(
    training: Sequence[torch.Tensor],
    real: Sequence[torch.Tensor],
    fake: Sequence[torch.Tensor],
    *,
    centre: float = 1.0,
    iterations: int = 500,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[Any], Any] = iter,
) -> dict[str, Any]:
    """Balanced accuracy of a network trained on real images, on real ones that it has not seen and on synthetic ones.

    Haarburger 2019 made patches of a class for the sake of such a classifier (section 1). From 0 to 1, chance being
    1 / classes; synthetic images are as obedient as can be told where they reach the accuracy on real ones, and typical
    of their class, rather than as varied as real ones, where they surpass it.

    The network is a small DenseNet of all channels, from scratch: AdamW with one cycle of the learning rate, classes
    drawn equally, each batch in one of the eight orientations of a square.

    Args:
        training: by class, images `(N, C, H, W)` in [-1, 1] of the training subjects.
        real: likewise, of other subjects.
        fake: likewise, of images made as that class.
        centre: share of each side, about the middle, that makes the class; the rest is not seen.
        iterations: of the training.
        seed: of weights and draws.
        device: for the network.
        progress: wraps the iterations, such as ``tqdm``.

    Returns:
        ``real`` and ``fake``: each ``accuracy`` (the mean over the classes), ``confusion`` (rows: the true class or the
        one asked for; columns: the answer; shares of the row) and ``n`` by class; ``chance``; ``p_value`` of as many
        right answers on synthetic images by chance (one-sided binomial); ``classifier``: how it was trained.

    Raises:
        UserError: fewer than two classes, or a class without images; no iterations, or a centre of nothing.
    """
    for name, sets in (("training", training), ("real", real), ("fake", fake)):
        if len(sets) < 2 or len(sets) != len(training) or any(not len(images) for images in sets):
            raise UserError(
                "images of two classes or more, some of each",
                f"{[len(images) for images in sets]} images",
                name,
                "give images of each class",
            )
    if not 0 < centre <= 1 or iterations < 1:
        raise UserError("0 < centre <= 1, and iterations", f"{centre}, {iterations}", "class_obedience", "correct it")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _train([_seen(images, centre) for images in training], iterations, torch.device(device), progress)
    result: dict[str, Any] = {"chance": 1 / len(training)}
    right = asked = 0
    for name, sets in (("real", real), ("fake", fake)):
        confusion, counts = [], []
        for number, images in enumerate(sets):
            answers = _answers(network, _seen(images, centre), device)
            confusion.append([float((answers == other).mean()) for other in range(len(sets))])
            counts.append(len(images))
            if name == "fake":
                right, asked = right + int((answers == number).sum()), asked + len(images)
        accuracy = float(np.mean([row[number] for number, row in enumerate(confusion)]))
        result[name] = {"accuracy": accuracy, "confusion": confusion, "n": counts}
    result["p_value"] = float(binomtest(right, asked, 1 / len(training), alternative="greater").pvalue)
    result["classifier"] = {"network": "DenseNet", "iterations": iterations, "seed": seed, "centre": centre}
    return result


def _seen(images: torch.Tensor, centre: float) -> torch.Tensor:
    """The middle of each image, :data:`SIDE` pixels along each edge."""
    size = [max(1, round(centre * side)) for side in images.shape[2:]]
    first = [(side - wanted) // 2 for side, wanted in zip(images.shape[2:], size, strict=True)]
    middle = images[:, :, first[0] : first[0] + size[0], first[1] : first[1] + size[1]].float()
    return F.interpolate(middle, size=(SIDE, SIDE), mode="bilinear", antialias=True)


def _train(
    sets: Sequence[torch.Tensor], iterations: int, device: torch.device, progress: Callable[[Any], Any]
) -> nn.Module:
    counts = [len(images) for images in sets]
    classes = torch.repeat_interleave(torch.arange(len(sets)), torch.tensor(counts))
    equally = WeightedRandomSampler([1 / counts[number] for number in classes.tolist()], iterations * BATCH)
    batches = DataLoader(TensorDataset(torch.cat(list(sets)), classes), BATCH, sampler=equally)
    network = DenseNet(2, sets[0].shape[1], len(sets), 16, 8, (2, 2, 2, 2), dropout_prob=0.2).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, iterations)
    for images, truth in progress(batches):
        turns, mirrored = torch.randint(0, 4, ()), torch.rand(()) < 0.5
        shown = torch.rot90(images.mT if mirrored else images, int(turns), (2, 3))
        loss = F.cross_entropy(network(shown.to(device)), truth.to(device), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def _answers(network: nn.Module, images: torch.Tensor, device: torch.device | str) -> np.ndarray:
    return torch.cat([network(part.to(device)).argmax(dim=1).cpu() for part in images.split(BATCH)]).numpy()

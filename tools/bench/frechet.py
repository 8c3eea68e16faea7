"""Fréchet distance against MONAI's FIDMetric on the same features, in one run.

    python tools/bench/frechet.py [--width 2048] [--images 4096,1000] [--repeats 1]

From two matrices of features to the distance. With more images than features the covariances have full rank; with
1000, as in Haarburger 2019, they have not. The two take turns, and the ratio of the medians is printed, in elapsed time
and in processor time (which a busy machine changes less). MONAI's needs scipy below 1.18.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import fire
import torch
from monai.metrics import FIDMetric

from mrsynth.metrics.frechet import frechet_distance


def features(images: int, count: int, seed: int) -> torch.Tensor:
    """Features whose spread falls from direction to direction, float32 `(images, count)`, positive as a ReLU's."""
    random = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, count + 1) ** -0.5
    mixing = torch.linalg.qr(torch.randn(count, count, generator=torch.Generator().manual_seed(0)))[0]
    return (torch.randn(images, count, generator=random) * spread @ mixing + 0.02 * seed).relu()


def timed(distance: Callable, one: torch.Tensor, other: torch.Tensor) -> tuple[float, float, float]:
    """The distance of two sets, the seconds that passed, and those of the processor."""
    start, processor = time.perf_counter(), time.process_time()
    value = float(distance(one, other))
    return value, time.perf_counter() - start, time.process_time() - processor


def main(width: int = 2048, images: int | tuple[int, ...] = (4096, 1000), repeats: int = 1) -> None:
    """Print the comparison.

    Args:
        width: features of an image.
        images: images of each set; several numbers, as many comparisons.
        repeats: of each comparison.
    """
    warnings.simplefilter("ignore")  # few images are meant
    for count in (images,) if isinstance(images, int) else images:
        real, fake = (features(count, width, seed) for seed in (1, 2))
        monai = FIDMetric()
        rows = [(*timed(frechet_distance, real, fake), *timed(monai, fake, real)) for _ in range(repeats)]
        ours, wall, cpu, theirs, their_wall, their_cpu = (
            statistics.median(column) for column in zip(*rows, strict=True)
        )
        print(f"{count} images, {width} features")
        print(f"  mrsynth    {ours:.6f}  {wall:7.2f} s, {cpu:7.2f} s of processor time")
        print(f"  FIDMetric  {theirs:.6f}  {their_wall:7.2f} s, {their_cpu:7.2f} s of processor time")
        print(f"  ratio      {wall / their_wall:.3f} elapsed, {cpu / their_cpu:.3f} of processor time", flush=True)


if __name__ == "__main__":
    fire.Fire(main)

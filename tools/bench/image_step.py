"""One iteration of an image bundle's game against a bare PyTorch loop of the same networks; and what the loader takes.

    python tools/bench/image_step.py [--bundle brain2d|breast2d|flair2d|all] [--steps 100] [--images 512]

DCGAN's game, both players once a step, in float32, at the bundle's own batch and sizes, without moving average. Batches
come from slices of noise in memory-mapped files, as from the cache; the loader's share is the time that a batch takes
to come, against that of a whole step. Two processes take turns; the median of the paired ratios is printed. Both keep
the memory that they have freed, as a GPU's allocator does: glibc's hands it back to the kernel now and then, and pays
for it again page by page: a tenth of such a step or more, depending on which object dies last (``--keep False``).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import fire
import numpy as np
import torch
from monai.data import DataLoader
from torch.nn import functional as F
from turns import answer, report, take_turns

KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""What makes glibc keep the memory that was freed."""

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
BATCH = {"brain2d": 64, "breast2d": 64, "flair2d": 8}
LATENT = {"brain2d": 100, "breast2d": 103, "flair2d": 128}
SHAPE = {"brain2d": (1, 64, 64), "breast2d": (7, 64, 64), "flair2d": (3, 256, 256)}


def networks(bundle: str) -> tuple:
    """Generator, discriminator and their optimizers, the same in both processes, at the width of ``train.json``."""
    sys.path.insert(0, str(BUNDLES / bundle))
    from mrsynth.adversarial import AugmentedDiscriminator
    from scripts import networks

    torch.manual_seed(0)
    if bundle == "brain2d":
        pair = networks.Generator([64, 64], width=0.5, upsampling="resize"), networks.Discriminator([64, 64], width=0.5)
    elif bundle == "breast2d":
        pair = networks.Generator(width=0.125), networks.Discriminator(width=0.125)
    else:
        pair = networks.Generator(dropout=0.0, width=0.25, upsampling="resize"), networks.Discriminator(width=0.25)
    if bundle != "flair2d":  # whose discriminator sees images as they are
        pair = pair[0], AugmentedDiscriminator(pair[1], 8)
    pair = tuple(network.to(memory_format=torch.channels_last) for network in pair)
    adam = [torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in pair]
    return (*pair, *adam)


def batches(bundle: str, images: int) -> Iterator[dict]:
    """Batches without end, of ``images`` images in a memory-mapped file."""
    from mrsynth.images import ImageDataset, Stack
    from mrsynth.training import ClassSampler, SeededSampler

    channels, *size = SHAPE[bundle]
    stored = 1 if bundle == "flair2d" else channels
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        noise = np.random.default_rng(0).uniform(-1, 1, (images, stored, *size)).astype(np.float16)
        np.save(file, noise)
        stack = torch.from_numpy(np.load(file, mmap_mode="c"))
        breast = bundle == "breast2d"  # which draws its three classes equally and mirrors
        classes = [number % 3 for number in range(images)]
        dataset = ImageDataset([Stack("A", stack, classes, [""] * images)], flip=breast, repeat=channels // stored)
        sampler = ClassSampler(classes) if breast else SeededSampler(images)
        loader = DataLoader(dataset, batch_size=BATCH[bundle], sampler=sampler, drop_last=True)
        while True:
            yield from loader


def bare(bundle: str, images: int) -> Iterator[None]:
    """The loop as one would write it without a framework."""
    generator, discriminator, step_g, step_d = networks(bundle)
    for batch in batches(bundle, images):
        real = batch["image"]
        fake = generator(torch.randn(len(real), LATENT[bundle]))
        step_d.zero_grad()
        loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
        loss.backward()
        step_d.step()
        discriminator.requires_grad_(False)
        step_g.zero_grad()
        second = F.softplus(-discriminator(fake)).mean()
        second.backward()
        step_g.step()
        discriminator.requires_grad_(True)
        _ = loss.item() + second.item()
        yield


def ours(bundle: str, images: int) -> Iterator[None]:
    """The engine, one iteration a step."""
    from mrsynth.adversarial import LatentRound, NonSaturating, TwoPlayerTrainer

    trainer = TwoPlayerTrainer("cpu", 1, [None], *networks(bundle), NonSaturating(), LatentRound(LATENT[bundle]))
    for batch in batches(bundle, images):
        trainer.state.iteration += 1
        trainer._iteration(trainer, batch)
        yield


def loading(bundle: str, images: int) -> float:
    """Seconds that a batch takes to come."""
    came, taken = batches(bundle, images), []
    for _ in range(20):
        start = time.perf_counter()
        next(came)
        taken.append(time.perf_counter() - start)
    return median(taken[2:])


def main(bundle: str = "all", steps: int = 100, images: int = 512, keep: bool = True) -> None:
    """Print the comparison.

    Args:
        bundle: one of them, or all.
        steps: timed steps of each, after three that are not counted.
        images: in the file.
        keep: keep freed memory, in both.
    """
    for name in BATCH if bundle == "all" else [bundle]:
        ways = {way: [sys.executable, __file__, "worker", way, name, str(images)] for way in ("ours", "bare")}
        rows = take_turns(ways, steps, 3, KEEP if keep else None)
        report(rows, name, "a step")
        step = median(seconds for seconds, _ in rows["ours"])
        wait = loading(name, images)
        print(f"{name}, the loader: {wait * 1000:.1f} ms a batch, {wait / step:.1%} of a step", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "worker":
        answer({"bare": bare, "ours": ours}[sys.argv[2]](sys.argv[3], int(sys.argv[4])))
    else:
        fire.Fire(main)

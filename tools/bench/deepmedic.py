"""DeepMedic against the same network written plainly in PyTorch, in time and peak memory: training and inference.

    python tools/bench/deepmedic.py [--what training|inference|both] [--steps 6] [--batch 10] [--volumes 1] [--tile 48]

Training is per segment of 37^3 voxels at batch 10, forward, backward and step, the penalty included. Inference is per
volume of 240x240x155 inside its brain mask: the bundle's tiles against a plain loop over those of 45^3, each on its
own, in float32; both pass over tiles without brain. The subject is a real one where ``MRSYNTH_TEST_DATA`` names a BraTS
folder, else a phantom. Two processes take turns, so that a noisy machine slows both alike; medians are printed, and the
ratio ours / plain.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fire
import torch
from monai.transforms import Compose
from torch import nn
from torch.nn import functional as F
from turns import answer, report, take_turns

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "deepmedic"
FACTORS = (1, 3, 5)


def network() -> nn.Module:
    """The bundle's network."""
    sys.path.insert(0, str(BUNDLE))
    from scripts.networks import DeepMedic

    torch.manual_seed(0)
    return DeepMedic()


def plain_network() -> nn.Module:
    """The same with torch's own batch norm, PReLU and dropout."""

    def swap(module: nn.Module) -> None:
        for name, child in module.named_children():
            kind = type(child).__name__
            if kind == "WindowBatchNorm3d":
                setattr(module, name, nn.BatchNorm3d(len(child.weight)))
            elif kind == "ChannelPReLU":
                setattr(module, name, nn.PReLU(len(child.weight), init=0.01))
            elif kind == "FastDropout":
                setattr(module, name, nn.Dropout(child.p))
            swap(child)

    made = network()
    swap(made)
    return made


def segments(batch: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Inputs of the three pathways, and class indices of what comes out."""
    torch.manual_seed(1)
    return [torch.randn(batch, 4, n, n, n) for n in (37, 23, 21)], torch.randint(0, 4, (batch, 1, 21, 21, 21))


def train_plain(batch: int) -> Iterator[None]:
    """The loop as one would write it, in float32; one step each time, after a first that makes everything."""
    made, (inputs, target) = plain_network(), segments(batch)
    rms = torch.optim.RMSprop(made.parameters(), lr=1e-3, alpha=0.9, eps=1e-2, momentum=0.6)
    weights = [p for p in made.parameters() if p.dim() == 5]
    yield
    while True:
        rms.zero_grad()
        logits = made(inputs[0], inputs[1:])
        penalty = 1e-6 * sum(w.abs().sum() for w in weights) + 1e-4 * sum(w.square().sum() for w in weights)
        loss = F.cross_entropy(logits, target[:, 0]) + penalty
        loss.backward()
        rms.step()
        loss.item()
        yield


def train_ours(batch: int) -> Iterator[None]:
    """The bundle's network, loss and optimizer in the trainer."""
    made = network().to(memory_format=torch.channels_last_3d)
    from mrsynth.training import Precision, SegmentationTrainer
    from scripts.optimizer import DeepMedicRMSprop, SegmentationLoss
    from scripts.segments import prepare_batch

    inputs, target = segments(batch)
    data = {"image": inputs[0], "context_3": inputs[1], "context_5": inputs[2], "label": target}
    trainer = SegmentationTrainer(
        "cpu",
        1,
        [None],
        made,
        DeepMedicRMSprop(made.parameters()),
        SegmentationLoss(made),
        prepare_batch=prepare_batch,
        precision=Precision("auto", "cpu"),
    )
    yield
    while True:
        trainer.state.iteration += 1
        trainer._iteration(trainer, data)
        yield


def volume() -> torch.Tensor:
    """A subject's preprocessed image `(1, 4, 240, 240, 155)`."""
    from mrsynth.manifest import resolve_datalist
    from mrsynth.phantom import default_cohort
    from mrsynth.segmentation import preprocessing

    folder = os.environ.get("MRSYNTH_TEST_DATA") or default_cohort(subjects=1, spacing=1.0)
    split = {"seed": 0, "validation": 0.0, "test": 0.0}
    item = next(item for part in resolve_datalist(str(folder), None, **split).values() for item in part)
    return Compose(preprocessing(None, "none"))(item)["image"].as_tensor()[None]


@torch.no_grad()
def segment_plainly(made: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Labels of a volume: a loop over the tiles of 45^3 that hold some of the mask, in float32."""
    padded, labels = F.pad(image, [80] * 6), torch.zeros(image.shape[2:], dtype=torch.uint8)
    brain = (image[0] != 0).any(0)
    box = [brain.amax(dim=d).nonzero().flatten() for d in ((1, 2), (0, 2), (0, 1))]
    for corner in itertools.product(*(range(int(b[0]), int(b[-1]) + 1, 29) for b in box)):
        tile = tuple(slice(c, c + 29) for c in corner)
        if not brain[tile].any():
            continue
        parts = []
        for factor in FACTORS:
            first, count = 80 + factor // 2 - 8 * factor, -(-29 // factor) + 16
            x, y, z = (slice(first + c, first + c + count * factor, factor) for c in corner)
            parts.append(padded[:, :, x, y, z])
        found = made(parts[0], parts[1:])[0].argmax(0)
        room = labels[tile]
        room.copy_(found[: room.shape[0], : room.shape[1], : room.shape[2]])
    return labels


def infer_plain(tile: int) -> Iterator[None]:
    """The loop as one would write it."""
    made, image = plain_network().eval(), volume()
    yield
    while True:
        segment_plainly(made, image)
        yield


def infer_ours(tile: int) -> Iterator[None]:
    """The bundle's inferer."""
    made, image = network().to(memory_format=torch.channels_last_3d).eval(), volume()
    from scripts.inference import TiledInferer

    inferer = TiledInferer(tile)
    yield
    while True:
        inferer(image, made).argmax(1)
        yield


WAYS: dict[str, Callable[[int], Iterator[None]]] = {
    "train_plain": train_plain,
    "train_ours": train_ours,
    "infer_plain": infer_plain,
    "infer_ours": infer_ours,
}


def main(what: str = "both", steps: int = 6, batch: int = 10, volumes: int = 1, tile: int = 48) -> None:
    """Print the comparison.

    Args:
        what: ``training``, ``inference`` or ``both``.
        steps: timed training steps of each, after two turns that are not counted: making the network, and one step.
        batch: segments a step.
        volumes: how often the volume is segmented by each.
        tile: of the bundle's inferer.
    """
    command = [sys.executable, __file__, "worker"]
    if what in ("training", "both"):
        ways = {way: [*command, f"train_{way}", str(batch)] for way in ("ours", "plain")}
        report(take_turns(ways, steps, 2), "training", "a segment", batch)
    if what in ("inference", "both"):
        ways = {way: [*command, f"infer_{way}", str(tile)] for way in ("ours", "plain")}
        report(take_turns(ways, volumes, 1), "inference", "a volume")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "worker":
        answer(WAYS[sys.argv[2]](int(sys.argv[3])))
    else:
        fire.Fire(main)

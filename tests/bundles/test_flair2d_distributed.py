"""The poster's own networks in two processes: the gradients are those of one process on the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.bundles.two_processes import left_by, torchrun
from tests.conftest import scripts_of

pytestmark = pytest.mark.slow

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "flair2d"

PLAYERS = '''
"""Tables I and II at full width, without noise or dropout, batch norm as at inference, and rounding out of the way."""
import os, sys
import torch
from torch import nn
from mrsynth.adversarial import LatentRound, TwoPlayerTrainer, Wasserstein
from mrsynth.training import rank, start, stop

torch.set_default_dtype(torch.float64)
sys.path.insert(0, BUNDLE)
from scripts.networks import Discriminator, Generator

def images():
    return torch.rand(4, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1

def held(network, given):
    """Take the statistics of one batch, and hold them even where a trainer asks for training."""
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(given)
    for norm in norms:
        norm.eval().train = lambda mode=True: None
    return network

def players():
    torch.manual_seed(0)
    generator, discriminator = Generator(dropout=0.0), Discriminator(noise=0.0)
    return held(generator, torch.randn(4, 128)), held(discriminator, images())
'''

GAME = """
start()
generator, discriminator = players()
still = [torch.optim.SGD(network.parameters(), lr=0.0) for network in (generator, discriminator)]
share = {"image": images()[2 * rank() : 2 * rank() + 2]}
TwoPlayerTrainer("cpu", 1, [share], generator, discriminator, *still, Wasserstein(), LatentRound(128), seed=7).run()
gradients = {"generator": generator, "discriminator": discriminator}
gradients = {name: [p.grad for p in network.parameters()] for name, network in gradients.items()}
torch.save(gradients, f"{sys.argv[1]}/rank{rank()}.pt")
stop()
os._exit(0)  # now and then torch's threads abort while Python shuts down, which is not what is tested here
"""


def whole_batch() -> dict[str, list[torch.Tensor]]:
    """The gradients in one process on all four images, written out without the trainer."""
    from mrsynth.training import seed_everything

    made: dict = {}
    with scripts_of("flair2d"):
        exec(f"BUNDLE = {str(BUNDLE)!r}\n{PLAYERS}", made)
    generator, discriminator = made["players"]()
    latent = []
    for rank in (0, 1):
        seed_everything(7, rank, 0)
        latent.append(torch.randn(2, 128))
    fake = generator(torch.cat(latent))
    loss = discriminator(fake.detach()).mean() - discriminator(made["images"]()).mean()
    discriminators = torch.autograd.grad(loss, list(discriminator.parameters()))
    generators = torch.autograd.grad(-discriminator(fake).mean(), list(generator.parameters()))
    return {"generator": list(generators), "discriminator": list(discriminators)}


@pytest.fixture
def double() -> Iterator[None]:
    """Numbers of 64 bits for the time of a test."""
    yield
    torch.set_default_dtype(torch.float32)


def test_the_gradient_of_two_processes_is_that_of_one(tmp_path, double):
    (tmp_path / "game.py").write_text(f"BUNDLE = {str(BUNDLE)!r}\n{PLAYERS}{GAME}")
    torchrun("game.py", str(tmp_path), folder=tmp_path)
    expected = whole_batch()
    for rank in (0, 1):
        found = left_by(tmp_path, rank)
        for player, wanted in expected.items():
            assert torch.stack([gradient.norm() for gradient in wanted]).norm() > 0.01, player
            for gradient, other in zip(found[player], wanted, strict=True):
                assert (gradient - other).norm() <= 1e-6 * other.norm()


def test_the_poster_trains_in_two_processes_at_full_width(subjects_dir, tmp_path):
    files = str([str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "paper", "multi_gpu_train")])
    small = {"best": "2", "batch_size": "2", "max_epochs": "1", "validate_every": "0", "montage_every": "2"}
    given = {"config_file": files, "dataset_dir": str(subjects_dir), "output_dir": str(tmp_path)} | small
    options = [part for key, value in given.items() for part in (f"--{key}", value)]
    torchrun("-m", "monai.bundle", "run", "training", *options, folder=tmp_path)
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert weights["linear.weight"].shape == (16384, 128)
    assert all(torch.isfinite(value).all() for value in weights.values())

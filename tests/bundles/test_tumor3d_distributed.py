"""Two processes train as one: other subjects, equal weights, and the gradient of the whole batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.bundles.two_processes import left_by, torchrun

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "tumor3d" / "configs"


@pytest.fixture(scope="module")
def trained(subjects_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run of two epochs in two processes, each of which also left what it held at the end."""
    output = tmp_path_factory.mktemp("distributed")
    run = json.loads((CONFIGS / "multi_gpu_train.json").read_text())["run"]
    networks = {"network": "@network", "discriminator": "@discriminator", "ema": "@ema.ema_model"}
    left = ", ".join(f"'{name}': {symbol}.state_dict()" for name, symbol in networks.items())
    left += ", 'seen': [@train#dataset.data[d.number]['subject'] for d in @train#sampler]"
    leave = f"$torch.save({{{left}}}, '{output}/rank%d.pt' % mrsynth.training.rank())"
    (output / "look.json").write_text(json.dumps({"run": [*run[:-1], leave, run[-1]]}))
    configs = [str(CONFIGS / "train.json"), str(CONFIGS / "multi_gpu_train.json"), str(output / "look.json")]
    options = {
        "config_file": str(configs),
        "dataset_dir": str(subjects_dir),
        "output_dir": str(output),
        "spatial_size": "[24,24,16]",
        "feature_maps": "4",
        "discriminator_feature_maps": "4",
        "min_kept": "0.5",
        "max_epochs": "2",
        "validate_every": "1",
        "montage_every": "2",
    }
    flags = [x for k, v in options.items() for x in (f"--{k}", v)]
    said = torchrun("-m", "monai.bundle", "run", "training", *flags, folder=output)
    return output, said


def test_the_processes_see_different_subjects(trained):
    first, second = (left_by(trained[0], rank)["seen"] for rank in (0, 1))
    assert len(first) == len(second) == 2  # of four
    assert len({*first, *second}) == 4


def test_the_processes_end_with_equal_weights(trained):
    first, second = (left_by(trained[0], rank) for rank in (0, 1))
    for player in ("network", "discriminator", "ema"):
        assert all(torch.equal(first[player][key], second[player][key]) for key in first[player]), player


def test_one_process_writes_and_speaks_for_both(trained):
    output, said = trained
    checkpoint = torch.load(output / "models" / "checkpoint.pt", weights_only=True)
    assert checkpoint["run"]["epoch"] == 2 and checkpoint["run"]["epoch_length"] == 2
    network = left_by(output, 1)["network"]
    assert all(torch.equal(checkpoint["objects"]["network"][key], network[key]) for key in network)
    assert said.count("Made:") == 1
    assert (output / "models" / "model.pt").is_file()
    assert len(list((output / "logs" / "montage").glob("*.png"))) == 1


PLAYERS = '''
"""A game of two moves on four subjects, shared by two processes; the optimizers stand still."""
import os, sys
import torch
from torch import nn
from mrsynth.adversarial import GradientPenalty, L1, TransplantRound, TwoPlayerTrainer, Wasserstein
from mrsynth.networks import add_spectral_norm
from mrsynth.training import rank, start, stop

class Voxels(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(inputs, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, outputs, 1))

    def forward(self, *parts):
        return self.layers(torch.cat(parts, dim=1))

def players():
    torch.manual_seed(0)
    return Voxels(5, 4), add_spectral_norm(Voxels(9, 1))

def subjects():
    noise = torch.Generator().manual_seed(1)
    draw = lambda c: torch.rand(4, c, 4, 4, 4, generator=noise)
    label = lambda: (draw(1) > 0.7).to(torch.uint8)
    conditions = {"own_condition": draw(5), "fused_condition": draw(5)}
    return {"image": draw(4), **conditions, "label": label(), "transplanted": label()}
'''

GAME = (
    PLAYERS
    + """
start()
generator, discriminator = players()
share = {key: value[2 * rank() : 2 * rank() + 2] for key, value in subjects().items()}
trainer = TwoPlayerTrainer(
    "cpu", 1, [share], generator, discriminator,
    torch.optim.SGD(generator.parameters(), lr=0.0), torch.optim.SGD(discriminator.parameters(), lr=0.0),
    Wasserstein(), TransplantRound(own_label=True), constraint=GradientPenalty(10.0), terms=[L1(20.0)],
    accumulation=int(sys.argv[2]), seed=7,
)
trainer.run()
gradients = [[p.grad for p in network.parameters()] for network in (generator, discriminator)]
torch.save(gradients, f"{sys.argv[1]}/gradients{rank()}.pt")
stop()
os._exit(0)  # now and then torch's threads abort while Python shuts down, which is not what is tested here
"""
)


def whole_batch(accumulation: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The same gradients in one process on all four subjects, written out without the trainer."""
    from mrsynth.adversarial import L1, TransplantRound
    from mrsynth.networks import power_iteration
    from mrsynth.training import seed_everything

    made: dict = {}
    exec(PLAYERS, made)
    generator, discriminator = made["players"]()
    discriminator.train()
    power_iteration(discriminator)
    shown = TransplantRound(own_label=True)(made["subjects"](), torch.device("cpu"))
    fake = generator(shown.generator_input)
    own = fake[:4].detach()  # the penalty looks between each real image and the fake of its own label
    shares = []
    for rank in (0, 1):
        seed_everything(7, rank, 0)
        shares += [torch.rand(2 // accumulation, 1, 1, 1, 1) for _ in range(accumulation)]
    share = torch.cat(shares)
    between = (share * shown.real + (1 - share) * own).requires_grad_()
    slope = torch.autograd.grad(discriminator(between, shown.real_condition).sum(), between, create_graph=True)[0]
    penalty = 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
    loss = (
        discriminator(fake.detach(), shown.fake_condition).mean()
        - discriminator(shown.real, shown.real_condition).mean()
    )
    discriminators = torch.autograd.grad(loss + penalty, list(discriminator.parameters()), allow_unused=True)
    loss = 20 * L1(1.0)(shown, fake) - discriminator(fake, shown.fake_condition).mean()
    return list(torch.autograd.grad(loss, list(generator.parameters()))), list(discriminators)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_gradient_is_that_of_the_whole_batch_penalty_included(tmp_path, accumulation):
    (tmp_path / "game.py").write_text(GAME)
    torchrun("game.py", str(tmp_path), str(accumulation), folder=tmp_path)
    expected = whole_batch(accumulation)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"gradients{rank}.pt", weights_only=True)
        for player, wanted in zip(found, expected, strict=True):
            assert max(gradient.norm() for gradient in player) > 0.1
            for gradient, other in zip(player, wanted, strict=True):
                other = torch.zeros_like(gradient) if other is None else other  # the last bias has no part in the loss
                assert (gradient - other).norm() <= 1e-6 * other.norm().clamp(min=1)

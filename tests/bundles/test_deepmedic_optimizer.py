"""DeepMedic's optimizer and penalty against their formulas in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def optimizer(deepmedic):
    return deepmedic.optimizer


def test_steps_follow_the_formula(optimizer):
    gradients = [0.5, -2.0, 0.001, 0.0, 3.0]
    weight = nn.Parameter(torch.tensor([1.5, 1.5], dtype=torch.float64))
    unused = nn.Parameter(torch.ones(1))
    rms = optimizer.DeepMedicRMSprop([weight, unused], lr=0.01, rho=0.8, epsilon=1e-3, momentum=0.6)
    w, s, v = 1.5, 0.0, 0.0
    for g in gradients:
        weight.grad = torch.tensor([g, -g], dtype=torch.float64)
        rms.step()
        s = 0.8 * s + 0.2 * g * g
        d = 0.01 * g / math.sqrt(s + 1e-3)
        v = 0.6 * v - d
        w = w + 0.6 * v - d
        assert weight.tolist() == pytest.approx([w, 3 - w], rel=1e-12)
    assert unused.item() == 1


def test_a_saved_state_goes_on_as_if_nothing_had_been(optimizer, tmp_path):
    def run(steps: int, after: int | None = None) -> torch.Tensor:
        torch.manual_seed(0)
        network = nn.Linear(3, 2)
        rms = optimizer.DeepMedicRMSprop(network.parameters())
        for step in range(steps):
            if step == after:
                torch.save({"network": network.state_dict(), "optimizer": rms.state_dict()}, tmp_path / "state.pt")
                content = torch.load(tmp_path / "state.pt", weights_only=True)
                network = nn.Linear(3, 2)
                rms = optimizer.DeepMedicRMSprop(network.parameters(), lr=7.0)
                network.load_state_dict(content["network"])
                rms.load_state_dict(content["optimizer"])
            rms.zero_grad()
            network(torch.full((1, 3), float(step))).square().sum().backward()
            rms.step()
        return network.weight.detach()

    assert torch.equal(run(6), run(6, after=3))


def test_the_learning_rate_is_halved_at_its_epochs_however_long_the_training(optimizer, refused):
    weight = nn.Parameter(torch.ones(1))

    def rates(iterations: int) -> list[float]:
        rms = optimizer.DeepMedicRMSprop([weight], lr=1.0)
        schedule, seen = optimizer.halving(rms, [2, 3], 4, iterations), []
        for _ in range(iterations):
            seen.append(rms.param_groups[0]["lr"])
            weight.grad = torch.ones(1)
            rms.step()
            schedule.step()
        return seen

    assert rates(4) == [1.0, 1.0, 0.5, 0.25]
    assert rates(8) == [1.0] * 4 + [0.5] * 2 + [0.25] * 2
    with refused(where="max_epochs"):
        optimizer.halving(optimizer.DeepMedicRMSprop([weight]), [2], 0, 8)


@pytest.mark.parametrize("setting", [{"lr": -1}, {"rho": 1.0}, {"epsilon": 0}, {"momentum": 1.0}])
def test_settings_out_of_range_are_refused(optimizer, refused, setting):
    with refused(do="in these ranges"):
        optimizer.DeepMedicRMSprop([nn.Parameter(torch.ones(1))], **setting)


def test_the_penalty_is_on_the_weights_of_convolutions_alone(optimizer):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 3, 1, bias=True), nn.BatchNorm3d(3), nn.Conv3d(3, 4, 1, bias=True))
    loss = optimizer.SegmentationLoss(network, l1=0.25, l2=0.5)
    weights = [network[0].weight.detach(), network[2].weight.detach()]
    image, target = torch.randn(2, 2, 3, 3, 3), torch.randint(0, 4, (2, 1, 3, 3, 3), dtype=torch.uint8)
    logits = network(image)
    expected = nn.functional.cross_entropy(logits, target[:, 0].long()).item()
    expected += sum(0.25 * w.abs().sum().item() + 0.5 * w.square().sum().item() for w in weights)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    loss.penalty().backward()
    for convolution, weight in zip((network[0], network[2]), weights, strict=True):
        torch.testing.assert_close(convolution.weight.grad, 0.25 * weight.sign() + weight)
        assert convolution.bias.grad is None
    assert list(loss.parameters()) == [] and loss.state_dict() == {}

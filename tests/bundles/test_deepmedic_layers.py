"""DeepMedic's batch norm against a computation by hand, and its PReLU and dropout against torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F


@pytest.fixture(scope="module")
def layers(deepmedic):
    return deepmedic.layers


def batches(number: int, channels: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, 4, 4, 4, generator=generator) * (1 + i) + i for i in range(number)]


@pytest.mark.parametrize("number", [1, 3, 7])
def test_evaluation_takes_the_mean_of_the_last_batches(layers, number):
    norm, data = layers.WindowBatchNorm3d(3, window=4), batches(number)
    for batch in data:
        norm(batch)
    last = data[-4:]
    mean = sum(b.mean(dim=(0, 2, 3, 4)) for b in last) / len(last)
    variance = sum(b.var(dim=(0, 2, 3, 4), unbiased=False) for b in last) / len(last)
    image = torch.randn(1, 3, 5, 5, 5)
    expected = (image - mean.view(-1, 1, 1, 1)) / (variance.view(-1, 1, 1, 1) + norm.eps).sqrt()
    torch.testing.assert_close(norm.eval()(image), expected)


def test_before_the_first_batch_evaluation_changes_nothing(layers):
    image = torch.randn(1, 3, 5, 5, 5)
    torch.testing.assert_close(layers.WindowBatchNorm3d(3).eval()(image), image, rtol=1e-4, atol=1e-5)


def test_training_normalizes_by_the_batch_as_torch_does(layers):
    ours, theirs, batch = layers.WindowBatchNorm3d(3), nn.BatchNorm3d(3), batches(1)[0]
    torch.testing.assert_close(ours(batch), theirs(batch))


def test_the_statistics_are_in_the_state_and_evaluation_does_not_touch_them(layers):
    norm, data = layers.WindowBatchNorm3d(3, window=4), batches(8)
    for batch in data[:6]:
        norm(batch)
    other = layers.WindowBatchNorm3d(3, window=4)
    other.load_state_dict(copy.deepcopy(norm.state_dict()))
    other.eval()(data[0])
    for module in (norm, other):
        for batch in data[6:]:
            module.train()(batch)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
def test_prelu_is_torchs(layers, dtype, memory):
    torch.manual_seed(0)
    image = torch.randn(2, 5, 4, 6, 7).to(dtype).to(memory_format=memory)
    upstream, results = torch.randn_like(image), []
    for kind in (layers.ChannelPReLU(5), nn.PReLU(5, init=0.01).to(dtype)):
        with torch.no_grad():
            kind.weight.copy_(torch.linspace(-0.5, 0.7, 5))
        x = image.clone().requires_grad_()
        y = kind(x)
        y.backward(upstream)
        results.append((y.detach(), x.grad, kind.weight.grad.float()))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][2], results[1][2], rtol=0.02, atol=1e-4 if dtype == torch.float32 else 0.2)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_drops_the_share_that_it_is_told_and_keeps_the_mean(layers, p):
    torch.manual_seed(0)
    x = torch.ones(2, 8, 21, 21, 21).to(memory_format=torch.channels_last_3d).requires_grad_()
    y = layers.FastDropout(p)(x)
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=0.01)
    assert float(y.detach()[y.detach() > 0][0]) == pytest.approx(1 / (1 - p), rel=1e-3)
    # neighbors fall independently of each other
    dropped = (y.detach() == 0).float()
    for axis in range(1, 5):
        a, b = dropped.narrow(axis, 0, dropped.shape[axis] - 1), dropped.narrow(axis, 1, dropped.shape[axis] - 1)
        assert float((a * b).mean()) == pytest.approx(p * p, abs=0.01)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_is_drawn_from_torchs_generator_and_rests_in_evaluation(layers):
    dropout, x = layers.FastDropout(0.5), torch.ones(1, 4, 6, 6, 6)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dropout(x))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(dropout.eval()(x), x) and torch.equal(layers.FastDropout(0.0)(x), x)


def test_scripted_layers_compute_the_same(layers):
    image = torch.randn(2, 3, 5, 5, 5).to(memory_format=torch.channels_last_3d)
    for layer in (layers.WindowBatchNorm3d(3), layers.ChannelPReLU(3)):
        torch.testing.assert_close(torch.jit.script(copy.deepcopy(layer))(image), layer(image))
    assert (
        float((torch.jit.script(layers.FastDropout(0.5))(F.pad(image, [9] * 6, value=1.0)) == 0).float().mean()) > 0.4
    )

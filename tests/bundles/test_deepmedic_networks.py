"""DeepMedic's network against the published numbers, and both ways to call it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

SMALL = {"feature_maps": (3,) * 8, "head": (9, 9)}


@pytest.fixture(scope="module")
def networks(deepmedic):
    return deepmedic.networks


@pytest.fixture(scope="module")
def pathways(deepmedic):
    return deepmedic.pathways


def small(networks, **options) -> nn.Module:
    torch.manual_seed(0)
    return networks.DeepMedic(**{**SMALL, **options}).eval()


def segments(pathways, output: int, batch: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 4, n, n, n, generator=generator) for n in pathways.segment_sizes(output, (1, 3, 5))]


@pytest.mark.parametrize(("channels", "classes", "expected"), [(2, 5, 2008901), (4, 5, 2013767), (4, 4, 2013516)])
def test_it_has_the_published_number_of_parameters(networks, channels, classes, expected):
    with torch.device("meta"):
        network = networks.DeepMedic(channels, classes)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_segments_have_the_published_sizes(networks, pathways):
    assert pathways.segment_sizes(21, (1, 3, 5)) == [37, 23, 21]
    assert pathways.segment_sizes(29, (1, 3, 5)) == [45, 26, 22]
    with torch.device("meta"):
        network = networks.DeepMedic()
        for side in (21, 29):
            normal, *context = (torch.zeros(2, 4, n, n, n) for n in pathways.segment_sizes(side, (1, 3, 5)))
            assert network(normal, context).shape == (2, 4, side, side, side)
        assert network(torch.zeros(1, 4, 105, 106, 113)).shape == (1, 4, 21, 22, 29)


def test_weights_start_as_he_proposes_and_slopes_at_a_hundredth(networks):
    torch.manual_seed(0)
    network = networks.DeepMedic()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d):
            assert module.bias is None, name
            weight = module.weight.detach()
            if weight.numel() > 5000:
                assert float(weight.std() * (weight[0].numel() / 2) ** 0.5) == pytest.approx(1, abs=0.05), name
        if isinstance(module, nn.PReLU):
            assert (module.weight == 0.01).all()
    # the first layer of a pathway: a bias for each sequence, nothing else before the convolution
    assert all(p.layers[0].bias.shape == (4,) and not hasattr(p.layers[0], "norm") for p in network.pathways)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)][-3:] == [0.0, 0.5, 0.5]


def covered(gradient: torch.Tensor) -> list[tuple[int, int]]:
    """First and last voxel along each axis that a gradient `(1, C, X, Y, Z)` reaches; it must fill the box."""
    hit = gradient[0].abs().sum(0) > 0
    box = [hit.amax(dim=[a for a in range(3) if a != axis]).nonzero().flatten() for axis in range(3)]
    assert int(hit.sum()) == len(box[0]) * len(box[1]) * len(box[2])
    return [(int(b[0]), int(b[-1])) for b in box]


def test_a_voxel_of_a_pathway_sees_17_cubed_of_its_own_grid(networks, pathways):
    network = small(networks)
    for pathway in network.pathways:
        image = torch.randn(1, 4, 21, 21, 21, requires_grad=True)
        pathway(image)[0, :, 2, 3, 0].sum().backward()
        assert covered(image.grad) == [(2, 18), (3, 19), (0, 16)]


def test_a_voxel_that_comes_out_sees_17_cubed_of_each_coarser_grid_and_one_more_around_of_the_normal(
    networks, pathways
):
    network, inputs = small(networks), [s.requires_grad_() for s in segments(pathways, 15)]
    # the middle of the groups of three and of five: the head's 3x3x3 convolution stays inside them
    network(inputs[0], inputs[1:])[0, :, 7, 7, 7].sum().backward()
    normal, by_three, by_five = (covered(s.grad)[0] for s in inputs)
    assert normal == (6, 24)
    assert by_three == (2, 18) and by_five == (1, 17)
    assert all(len(set(covered(s.grad))) == 1 for s in inputs)


def test_coarse_voxels_stand_for_those_that_they_are_the_middle_of(networks, pathways):
    # a block in which each voxel holds its place: what a pathway is given must lie around what it stands for
    side, margin = 15, pathways.block_margin((1, 3, 5))
    assert margin == 42
    place = torch.arange(side + 2 * margin).float() - margin
    block = place.view(1, 1, -1, 1, 1).expand(1, 4, -1, side + 2 * margin, side + 2 * margin)
    for factor, segment in zip((1, 3, 5), small(networks).split(block), strict=True):
        along = segment[0, 0, :, 0, 0]
        seen_by_the_first = along[:17]
        assert float(seen_by_the_first.mean()) == factor // 2
        assert (along.diff() == factor).all()


def test_a_block_comes_out_as_its_segments_do(networks, deepmedic):
    network = small(networks)
    block = torch.randn(2, 4, 101, 99, 104, generator=torch.Generator().manual_seed(2))
    sides, margin = (17, 15, 20), deepmedic.pathways.block_margin((1, 3, 5))
    along = deepmedic.pathways.pathway_range
    parts = [block[(..., *(slice(*along(n, f, margin)) for n in sides))] for f in (1, 3, 5)]
    with torch.no_grad():
        torch.testing.assert_close(network(block), network(parts[0], parts[1:]), rtol=0, atol=1e-5)


def test_each_residual_layer_adds_the_input_of_the_layer_before(networks):
    pathway = small(networks, feature_maps=(2, 2, 3, 3, 3, 3, 4, 4), head=(12, 12)).pathways[0]
    image = torch.randn(1, 4, 21, 21, 21)
    seen: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(pathway.layers, 1):
        layer.register_forward_hook(lambda m, x, y, number=number: seen.update({number: x[0].detach()}))
    with torch.no_grad():
        for number in (4, 6, 8):
            pathway.layers[number - 1].convolution.weight.zero_()
        seen[9] = pathway(image)
    for number in (4, 6, 8):
        came, added = seen[number + 1], seen[number - 1][:, :, 2:-2, 2:-2, 2:-2]
        assert torch.equal(came[:, : added.shape[1]], added)
        assert (came[:, added.shape[1] :] == 0).all()


def test_the_head_adds_what_comes_together_to_its_second_layer(networks, pathways):
    network = small(networks, head=(10, 11))
    inputs, seen = segments(pathways, 15), {}
    network.mixing.register_forward_hook(lambda m, x, y: seen.update(together=x[0]))
    network.classes.register_forward_hook(lambda m, x, y: seen.update(last=x[0]))
    with torch.no_grad():
        network.hidden.convolution.weight.zero_()
        network(inputs[0], inputs[1:])
    assert seen["together"].shape[1] == 9 and seen["last"].shape[1] == 11
    assert torch.equal(seen["last"][:, :9], seen["together"]) and (seen["last"][:, 9:] == 0).all()


def test_the_head_repeats_the_edge(networks, pathways):
    network = small(networks)
    x = torch.randn(1, 9, 5, 5, 5)
    repeated = torch.nn.functional.pad(x, [1] * 6, mode="replicate")
    plain = network.mixing.norm, network.mixing.activation, network.mixing.convolution
    with torch.no_grad():
        torch.testing.assert_close(network.mixing(x), nn.Sequential(*plain)(repeated))


def test_scripted_it_computes_the_same(networks, pathways):
    network, inputs = small(networks), segments(pathways, 15)
    scripted = torch.jit.script(network)
    with torch.no_grad():
        torch.testing.assert_close(scripted(inputs[0], inputs[1:]), network(inputs[0], inputs[1:]))
        block = torch.randn(1, 4, 99, 99, 99)
        torch.testing.assert_close(scripted(block), network(block))


def test_memory_format_changes_nothing(networks, pathways):
    inputs = segments(pathways, 15, batch=2)
    results = []
    for memory in (torch.contiguous_format, torch.channels_last_3d):
        network = small(networks, dropout=(0, 0, 0)).train().to(memory_format=memory)
        logits = network(inputs[0], inputs[1:])
        logits.square().mean().backward()
        results.append((logits.detach(), [p.grad for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_gradients_in_bfloat16_are_those_in_float32_within_its_rounding(networks, pathways):
    inputs, gradients = segments(pathways, 15, batch=4), []
    target = torch.randint(0, 4, (4, 15, 15, 15), generator=torch.Generator().manual_seed(3))
    for amp in (False, True):
        options = {"feature_maps": (8,) * 8, "head": (24, 24), "dropout": (0, 0, 0)}
        network = small(networks, **options).train().to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            logits = network(inputs[0], inputs[1:])
        nn.functional.cross_entropy(logits.float(), target).backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, exact in gradients[0].items():
        if exact.dim() == 5:
            cosine = torch.cosine_similarity(exact.flatten(), gradients[1][name].flatten(), dim=0)
            assert cosine > 0.98, (name, float(cosine))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"feature_maps": (3, 3)}, "feature_maps"),
        ({"factors": (3, 5)}, "factors"),
        ({"factors": (1, 2)}, "factors"),
        ({"head": (9, 8)}, "head"),
    ],
)
def test_what_cannot_be_built_is_refused(networks, refused, options, key):
    with refused(where=key):
        small(networks, **options)

"""A volume segmented in tiles: no seams, nothing outside the brain, no other result with other tiles."""

from __future__ import annotations

import pytest
import torch
from torch import nn

SIZE = (52, 41, 38)


@pytest.fixture(scope="module")
def scripts(deepmedic):
    return deepmedic


@pytest.fixture(scope="module")
def network(scripts) -> nn.Module:
    torch.manual_seed(0)
    network = scripts.networks.DeepMedic(feature_maps=(3,) * 8, head=(9, 9)).eval()
    return network.to(memory_format=torch.channels_last_3d)


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    """A brain that touches a border, with a hole in it and a part far away from the rest."""
    image = torch.zeros(1, 4, *SIZE)
    image[:, :, 3:36, :30, 5:] = torch.randn(1, 4, 33, 30, 33, generator=torch.Generator().manual_seed(0))
    image[:, :, 10:14, 10:14, 10:14] = 0
    image[:, :, 50:, 39:, :2] = 1
    return image


def inferer(scripts, **options):
    return scripts.inference.TiledInferer(**{"amp": "none", **options})


def test_the_size_of_the_tiles_changes_no_voxel(scripts, network, volume):
    results = [inferer(scripts, tile=t, batch_size=b)(volume, network) for t, b in ((33, 1), (48, 3), (63, 2))]
    assert results[0].shape == (1, 4, *SIZE) and results[0].dtype == torch.float32
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-4)


def test_tiles_give_what_the_whole_volume_gives_at_once(scripts, network, volume):
    margin, before = scripts.pathways.block_margin((1, 3, 5)), 15 + scripts.inference.RING
    first, size = [3, 0, 0], [47, 41, 38]  # the brain's box
    block = scripts.pathways.take(volume[0], [f - before - margin for f in first], [n + 30 + 2 * margin for n in size])
    with torch.no_grad():
        expected = network(block[None])[0][:, before:, before:, before:]
    found = inferer(scripts, tile=33)(volume, network)[0][:, 3:50]
    brain = (volume[0] != 0).any(0)[3:50]
    torch.testing.assert_close(found[:, brain], expected[:, :47, :41, :38][:, brain], rtol=0, atol=1e-4)


def test_outside_the_brain_is_background(scripts, network, volume):
    logits = inferer(scripts, tile=48)(volume, network)[0]
    brain = (volume[0] != 0).any(0)
    assert (logits.argmax(0)[~brain] == 0).all()
    assert (torch.softmax(logits, 0)[0][~brain] > 0.999).all()
    assert len(logits.argmax(0)[brain].unique()) > 1


def test_tiles_without_brain_are_passed_over(scripts, volume):
    brain = (volume[0] != 0).any(0)
    corners = inferer(scripts, tile=33).corners(brain)
    covered = torch.zeros_like(brain)
    for corner in corners:
        tile = tuple(slice(c, c + 15) for c in corner)
        assert brain[tile].any() and not covered[tile].any()
        covered[tile] = True
    assert covered[brain].all()
    assert len(corners) < 4 * 3 * 3


def test_an_empty_volume_is_refused(scripts, network, refused):
    with refused(where="image"):
        inferer(scripts)(torch.zeros(1, 4, 20, 20, 20), network)


@pytest.mark.parametrize(
    ("tile", "better"), [(45, ("33", "48")), (61, ("48", "63")), (10, ("33", "48")), (32.5, ("33", "48"))]
)
def test_tiles_that_do_not_fit_together_are_refused(scripts, refused, tile, better):
    for size in better:
        with refused(where="tile", do=size):
            inferer(scripts, tile=tile)
    assert all(inferer(scripts, tile=int(size)).kept % 15 == 0 for size in better)


def test_in_bfloat16_it_finds_the_same(scripts, network, volume):
    exact, rounded = (inferer(scripts, tile=48, amp=amp)(volume, network) for amp in ("none", "bf16"))
    brain = (volume[0] != 0).any(0)
    same = (exact.argmax(1) == rounded.argmax(1))[0][brain]
    assert float(same.float().mean()) > 0.97 and rounded.dtype == torch.float32

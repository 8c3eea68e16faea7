"""unet3d: its network, its loss, its patches, and how it looks at a whole volume."""

from __future__ import annotations

import json

import pytest
import torch
from monai.inferers import SimpleInferer
from monai.networks.nets import DynUNet
from torch import nn

from mrsynth.errors import user_error_in
from mrsynth.training import Draw, SeededDataset
from tests.conftest import ROOT

CONFIGS = ROOT / "bundles" / "unet3d" / "configs"


# network


@pytest.mark.parametrize(("filters", "patch"), [([4, 8, 8], [8, 16, 24]), ([4, 4, 8, 8], [16, 16, 32])])
def test_logits_of_four_classes_on_the_grid_of_the_patch(unet3d, filters, patch):
    network = unet3d.networks.build_unet(filters, patch)
    assert isinstance(network, DynUNet)
    assert network(torch.rand(2, 4, *patch)).shape == (2, 4, *patch)


def test_deep_supervision_is_for_training_alone_and_does_not_change_the_weights_names(unet3d):
    network = unet3d.networks.build_unet([4, 4, 8, 8], [16, 16, 16], deep_supervision=2)
    image = torch.rand(1, 4, 16, 16, 16)
    many = network.train()(image)
    assert many.shape == (1, 3, 4, 16, 16, 16)
    one = network.eval()(image)
    assert one.shape == (1, 4, 16, 16, 16) and torch.allclose(many[:, 0], one, atol=1e-5)  # the final one comes first


@pytest.mark.parametrize(
    ("filters", "patch", "deep", "where"),
    [
        ([4, 8, 8], [16, 16, 18], 0, "patch_size"),
        ([4, 8, 8], [4, 16, 16], 0, "patch_size"),
        ([4, 8, 8], [16, 16], 0, "patch_size"),
        ([4, 8], [16, 16, 16], 0, "filters"),
        ([4, 8, 8], [16, 16, 16], 2, "deep_supervision"),
        ([4, 8, 8], [16, 16, 16], -1, "deep_supervision"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(unet3d, refused, filters, patch, deep, where):
    with refused(where=where):
        unet3d.networks.build_unet(filters, patch, deep)


@pytest.mark.parametrize("config", ["evaluate", "inference"])
def test_settings_that_contradict_the_weights_are_refused(bundle_workflow, unet3d, tmp_path, config):
    from mrsynth.training import save_weights

    network = unet3d.networks.build_unet([4, 8, 8], [16, 16, 16])
    settings = {"patch_size": [16, 16, 16], "filters": [4, 8, 8], "deep_supervision": 0}
    save_weights(network, tmp_path / "model.pt", {"subjects": ["A"], "settings": settings})
    for wrong in ({"filters": [4, 8, 16]}, {"patch_size": [24, 24, 24]}, {"deep_supervision": 1}):
        with (
            pytest.raises(Exception) as caught,
            bundle_workflow("unet3d", config, weights=str(tmp_path / "model.pt"), device="cpu", **wrong) as made,
        ):
            made.run()
        (name,) = wrong
        error = user_error_in(caught.value)
        assert str({name: settings[name]}) in error.expected and f"leave out --{name}" in error.do


def test_the_papers_overlay_says_what_the_paper_says(bundle_workflow, tmp_path, subjects_dir):
    options = {"output_dir": str(tmp_path), "dataset_dir": str(subjects_dir), "device": "cpu"}
    with bundle_workflow("unet3d", ("train", "paper"), **options) as made:
        value = made.parser.get_parsed_content
        assert value("patch_size") == [128, 128, 128] and value("batch_size") == 2
        assert (value("max_epochs"), value("iterations_per_epoch")) == (1000, 250)
        assert value("foreground") == pytest.approx(1 / 3, abs=0.01)
        network = value("network_def")
        widths = [network.input_block, *network.downsamples, network.bottleneck]
        assert [block.conv2.conv.out_channels for block in widths] == [32, 64, 128, 256, 320, 320]
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(31.2e6, rel=0.01)
        (group,) = value("optimizer").param_groups
        assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.01, 0.99, True, 3e-5)
        assert value("deep_supervision") == 3 and value("gradient_clip") == 12


# loss


def expected_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and 1 - Dice of each class over the whole batch."""
    target = nn.functional.one_hot(classes[:, 0].long(), 4).movedim(-1, 1).float()
    share = torch.softmax(logits, dim=1)
    axes = (0, 2, 3, 4)
    dice = (2 * (share * target).sum(axes) + 1e-5) / ((share + target).sum(axes) + 1e-5)
    return -(torch.log(share) * target).sum(dim=1).mean() + (1 - dice).mean()


def test_the_loss_is_cross_entropy_and_dice_of_the_whole_batch(unet3d):
    noise = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 4, 4, 4, generator=noise)
    classes = torch.randint(0, 4, (2, 1, 4, 4, 4), generator=noise, dtype=torch.uint8)
    loss = unet3d.networks.DiceCrossEntropy()
    assert float(loss(logits, classes)) == pytest.approx(float(expected_loss(logits, classes)), rel=1e-5)
    deep = torch.stack([logits, logits.flip(0), -logits], dim=1)
    parts = [float(expected_loss(one, classes)) for one in (logits, logits.flip(0), -logits)]
    assert float(loss(deep, classes)) == pytest.approx(parts[0] + parts[1] / 2 + parts[2] / 4, rel=1e-5)


def test_the_truth_costs_nothing_even_where_there_is_no_tumor(unet3d):
    for classes in (torch.zeros(1, 1, 4, 4, 4), torch.arange(64).view(1, 1, 4, 4, 4) % 4):
        logits = 50 * nn.functional.one_hot(classes[:, 0].long(), 4).movedim(-1, 1).float()
        assert float(unet3d.networks.DiceCrossEntropy()(logits, classes)) == pytest.approx(0, abs=1e-4)


# the whole volume


class Pointwise(nn.Module):
    """Logits that depend on a voxel alone, so that no window and no mirror can change them."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image * 0.5, image.square() - 1, 1 - image, image * 0], dim=1)


class Lopsided(nn.Module):
    """Sees tumor only towards one end of an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        length = image.shape[self.axis + 2]
        ramp = torch.linspace(-2, 2, length).view([-1 if a == self.axis + 2 else 1 for a in range(5)])
        return torch.cat([-ramp.expand_as(image), ramp.expand_as(image)], dim=1)


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    return torch.randn(1, 1, 20, 17, 9, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
@pytest.mark.parametrize("windows", [1, 5])
def test_windows_leave_no_trace(unet3d, volume, overlap, windows):
    inferer = unet3d.inference.whole_volume([8, 8, 8], "none", "cpu", overlap, windows=windows)
    assert torch.allclose(inferer(volume, Pointwise()), Pointwise()(volume), atol=1e-5)


def test_outside_the_brain_nothing_is_found(unet3d):
    volume = torch.randn(1, 4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    volume[:, :, :5] = 0
    inferer = unet3d.inference.whole_volume([16, 16, 16], "none", "cpu", flips=[0])

    class Everywhere(nn.Module):
        def forward(self, image):
            return torch.tensor([0.0, 0.0, 9.0, 0.0]).view(1, 4, 1, 1, 1).repeat(1, 1, *image.shape[2:])

    found = inferer(volume, Everywhere()).argmax(dim=1)
    assert (found[:, :5] == 0).all() and (found[:, 5:] == 2).all()


def test_a_volume_smaller_than_a_window_keeps_its_size(unet3d, volume):
    found = unet3d.inference.whole_volume([32, 32, 32], "none", "cpu")(volume, Pointwise())
    assert torch.allclose(found, Pointwise()(volume), atol=1e-5)


@pytest.mark.parametrize(("axes", "calls"), [([], 1), ([0], 2), ([0, 2], 4), ([0, 1, 2], 8)])
def test_flips_are_all_mirror_images_and_change_nothing_that_is_pointwise(unet3d, volume, axes, calls):
    seen = []
    network = Pointwise()
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    found = unet3d.inference.Flipped(SimpleInferer(), axes)(volume, network)
    assert len(seen) == calls and not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert torch.allclose(found.softmax(dim=1), Pointwise()(volume).softmax(dim=1), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_make_the_result_symmetric_about_the_flipped_axis_alone(unet3d, volume, axis):
    plain = unet3d.inference.Flipped(SimpleInferer())(volume, Lopsided(axis)).softmax(dim=1)
    assert not torch.allclose(plain, plain.flip(axis + 2), atol=0.1)
    flipped = unet3d.inference.Flipped(SimpleInferer(), [axis])(volume, Lopsided(axis)).softmax(dim=1)
    assert torch.allclose(flipped, torch.full_like(flipped, 0.5), atol=1e-5)
    other = unet3d.inference.Flipped(SimpleInferer(), [(axis + 1) % 3])(volume, Lopsided(axis)).softmax(dim=1)
    assert torch.allclose(other, plain, atol=1e-5)


def test_inference_takes_flips_and_overlap_from_the_command(bundle_workflow, tmp_path):
    options = {"flips": [0, 1], "overlap": 0.7, "weights": str(tmp_path / "none.pt"), "device": "cpu"}
    with bundle_workflow("unet3d", "inference", **options) as made:
        flipped = made.inferer.inferer
        assert len(flipped.flips) == 4 and flipped.inferer.inferer.overlap == 0.7
        defaults = json.loads((CONFIGS / "train.json").read_text())
        assert list(flipped.inferer.inferer.roi_size) == defaults["patch_size"]


# patches


@pytest.fixture(scope="module")
def entries(brats, subjects_dir) -> list[dict]:
    _, entry = brats
    return [entry(subjects_dir, f"BraTS2021_{index:05d}") for index in range(2)]


def drawn(unet3d, entries, size: list[int], foreground: float, augmentation: str, count: int = 40) -> list[dict]:
    scripts = unet3d.preprocessing
    data = SeededDataset(
        entries, scripts.with_voxels(None, "none", size), scripts.patches(size, foreground, augmentation), seed=2
    )
    return [data[Draw(1, turn % 2, turn=turn)][0] for turn in range(count)]


@pytest.mark.parametrize("augmentation", ["none", "usual"])
@pytest.mark.parametrize("size", [[8, 8, 8], [32, 16, 24]], ids=["smaller", "larger than the volume"])
def test_a_patch_has_its_size_and_the_labels_values(unet3d, entries, augmentation, size):
    for patch in drawn(unet3d, entries, size, 0.5, augmentation, count=6):
        assert set(patch) == {"image", "label"} and type(patch["image"]) is torch.Tensor
        assert patch["image"].shape == (4, *size) and patch["label"].shape == (1, *size)
        assert set(patch["label"].unique().tolist()) <= {0, 1, 2, 3}
        assert torch.isfinite(patch["image"]).all()


def test_as_many_centers_as_asked_lie_in_the_tumor(unet3d, entries):
    def tumors(share: float) -> float:
        return sum(bool(p["label"][0, 2, 2, 2]) for p in drawn(unet3d, entries, [4, 4, 4], share, "none", 60)) / 60

    assert tumors(1.0) == 1 and tumors(0.0) == 0 and 0.3 < tumors(0.5) < 0.7


def test_without_augmentation_a_patch_is_a_piece_of_the_subject(unet3d, entries):
    whole = unet3d.preprocessing.with_voxels(None, "none", [6, 6, 6])(entries[0])
    pieces = whole["image"].as_tensor().unfold(1, 6, 1).unfold(2, 6, 1).unfold(3, 6, 1)
    for patch in drawn(unet3d, entries[:1] * 2, [6, 6, 6], 0.5, "none", 5):
        assert (pieces == patch["image"].view(4, 1, 1, 1, 6, 6, 6)).flatten(4).all(dim=-1).all(dim=0).any()


def test_a_subject_without_a_tumor_gives_patches_of_its_brain(unet3d, brats, make_brain, tmp_path):
    write, entry = brats
    healthy = make_brain(4)
    write(tmp_path, "H", healthy._replace(label=healthy.label * 0))
    patches = drawn(unet3d, [entry(tmp_path, "H")] * 2, [4, 4, 4], 0.67, "none", 10)
    assert all(not patch["label"].any() and patch["image"][:, 2, 2, 2].any() for patch in patches)

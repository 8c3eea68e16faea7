"""The grid of upsampling: nothing in images without one, more the stronger it is, at its own frequencies alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mrsynth.errors import UserError
from mrsynth.metrics.checkerboard import PowerSpectrum, checkerboard_energy

PERIODS = ("period_2", "period_4", "period_8")


def scans(count: int = 48, size: tuple[int, int] = (64, 64), seed: int = 0) -> torch.Tensor:
    """Noise whose power falls with the third power of frequency, as it does about in anatomy."""
    noise = torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(seed))
    down, across = (torch.fft.fftfreq(n) for n in size)
    fall = (down[:, None].square() + across.square()).clamp(min=1 / max(size) ** 2) ** -0.75
    image = torch.fft.ifft2(torch.fft.fft2(noise) * fall).real
    return 0.3 * image / image.std()


def grid(period: int, size: int = 64) -> torch.Tensor:
    """Every ``period``-th row and column is brighter."""
    line = (torch.arange(size) % period == 0).float()
    return line[:, None] + line


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (64, 100), (155, 240)])
def test_a_spectrum_without_peaks_has_about_nothing(size):
    for images in (scans(size=size), torch.randn(48, 2, *size, generator=torch.Generator().manual_seed(1))):
        found = checkerboard_energy(images)
        assert abs(found["energy"]) < 0.06 and all(abs(found[period]) < 0.15 for period in PERIODS)


def test_smooth_images_have_about_nothing():
    axis = torch.linspace(-1, 1, 64)
    blobs = torch.stack(
        [torch.exp(-8 * ((axis[:, None] - a) ** 2 + (axis - b) ** 2)) for a in axis[::9] for b in axis[::9]]
    )
    assert abs(checkerboard_energy(blobs[:, None])["energy"]) < 0.15


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_grid_raises_its_own_period_the_more_the_stronger_it_is(period):
    images = scans()
    found = [checkerboard_energy(images + amplitude * grid(period)) for amplitude in (0, 0.01, 0.03, 0.1, 0.3)]
    own = [result[f"period_{period}"] for result in found]
    assert own == sorted(set(own)) and own[-1] > own[0] + 0.3
    assert found[-1]["energy"] > found[0]["energy"] + 0.1
    for longer in (p for p in (2, 4, 8) if p > period):
        assert found[-1][f"period_{longer}"] == pytest.approx(found[0][f"period_{longer}"], abs=0.01)


def test_a_checkerboard_is_found_at_the_crossing_and_stripes_on_their_axis():
    images, line = scans(), torch.tensor([1.0, -1.0]).repeat(32)
    plain = checkerboard_energy(images)["frequencies"]
    for pattern, name in ((line[:, None] * line, "1/2, 1/2"), (line[:, None], "1/2, 0"), (line, "0, 1/2")):
        found = checkerboard_energy(images + 0.1 * pattern)["frequencies"]
        assert found[name] > plain[name] + 1
        assert all(found[other] == pytest.approx(plain[other], abs=0.01) for other in plain if other != name)


def test_frequencies_are_all_crossings_of_eighths_but_zero():
    found = checkerboard_energy(scans(2))
    steps = ("0", "1/8", "1/4", "3/8", "1/2")
    assert set(found["frequencies"]) == {f"{a}, {b}" for a in steps for b in steps} - {"0, 0"}
    assert found["energy"] == pytest.approx(sum(found[period] for period in PERIODS) / 3)


def test_brightness_and_contrast_do_not_matter():
    images = scans() + 0.05 * grid(4)
    one, other = checkerboard_energy(images), checkerboard_energy(0.2 * images - 0.7)
    assert other["energy"] == pytest.approx(one["energy"], abs=1e-3)


def test_transposed_convolutions_leave_it_and_resizing_does_not():
    torch.manual_seed(0)

    def generator(upsample) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in ((16, 16), (16, 8), (8, 1)):
            layers += [*upsample(before, after), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers[:-2], nn.Tanh())

    def transposed(before, after):
        return [nn.ConvTranspose2d(before, after, 4, 2, 1)]

    def resized(before, after):
        return [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]

    with torch.no_grad():
        left, right = (
            checkerboard_energy(generator(kind)(torch.randn(64, 16, 8, 8))) for kind in (transposed, resized)
        )
    assert left["period_2"] > 0.3 > right["period_2"] and left["energy"] > right["energy"] + 0.2


def test_batches_and_parts_add_up():
    images = scans(10)
    whole = PowerSpectrum()
    whole.update(images)
    parts = [PowerSpectrum(), PowerSpectrum(), PowerSpectrum()]
    parts[0].update(images[:3])
    parts[1].update(iter([images[3:7], images[7:]]))
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert parts[0].count == 10 and parts[1].count == 7 and torch.allclose(parts[0].power, whole.power)
    found = checkerboard_energy(parts[0])
    assert found["images"] == 10 and found["energy"] == pytest.approx(checkerboard_energy(images.split(4))["energy"])


def test_images_are_cut_to_a_multiple_of_eight():
    found = checkerboard_energy(scans(4, (67, 100)))
    assert (found["height"], found["width"]) == (64, 96)


def other_size() -> None:
    spectrum = PowerSpectrum()
    spectrum.update(scans(2))
    spectrum.update(scans(2, (64, 32)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: checkerboard_energy(scans(2, (64, 31))), "at least 32 pixels[^$]*64 x 31"),
        (lambda: checkerboard_energy([scans(2), scans(2, (32, 64))]), "images of one size"),
        (other_size, "images of one size"),
        (lambda: checkerboard_energy(torch.rand(2, 1, 32, 32, 32)), "slices"),
        (lambda: checkerboard_energy(scans(2)[0, 0]), "N, C, H, W"),
        (lambda: checkerboard_energy(scans(2)[:0]), "at least one image"),
        (lambda: checkerboard_energy([]), "at least one image"),
        (lambda: checkerboard_energy(PowerSpectrum()), "at least one image"),
        (lambda: checkerboard_energy(torch.full((2, 1, 64, 64), 0.3)), "constant"),
        (lambda: checkerboard_energy(scans(2) / 0), "finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()

"""Precision by name, and where a name is not allowed."""

from __future__ import annotations

import pytest
import torch

from mrsynth.training import Precision


def test_a_grid_on_which_bf16_is_wrong_is_trained_in_float32_or_refused(refused):
    assert Precision("auto", "cpu", [16, 24, 24]).name == "none"
    assert Precision("auto", "cpu", [24, 24, 16]).name == Precision("auto", "cpu").name
    with refused(where="spatial_size", do="--amp none"):
        Precision("bf16", "cpu", [16, 24, 24])


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_names(amp, dtype, refused):
    precision = Precision(amp, "cpu")
    assert precision.dtype == dtype and precision.scaler().is_enabled() == (amp == "fp16")
    with refused(found="'half'"):
        Precision("half", "cpu")

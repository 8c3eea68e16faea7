"""Inference takes the settings of its weights, and refuses to contradict them."""

from __future__ import annotations

import pytest
import torch

from mrsynth.training import save_weights, trained_settings

DEFAULTS = {"size": [8, 8, 8], "maps": 16, "align": True}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.pt"
    save_weights(torch.nn.Conv3d(1, 1, 1), path, {"subjects": ["A"], "settings": {"size": [4, 4, 4], "align": False}})
    return path


def test_without_weights_or_record_the_defaults_stand(tmp_path, weights):
    nothing = dict.fromkeys(DEFAULTS)
    assert trained_settings(tmp_path / "none.pt", DEFAULTS, nothing) == DEFAULTS
    weights.with_suffix(".json").unlink()
    assert trained_settings(weights, DEFAULTS, nothing) == DEFAULTS


def test_the_weights_settings_go_before_the_defaults(weights):
    assert trained_settings(weights, DEFAULTS, {}) == {"size": [4, 4, 4], "maps": 16, "align": False}


def test_what_the_weights_do_not_say_and_what_is_free_can_be_set(weights):
    given = {"size": [4, 4, 4], "maps": 32, "align": True}
    assert trained_settings(weights, DEFAULTS, given, free=["align"]) == given


def test_a_contradiction_is_refused_by_name(weights, refused):
    with refused(expected="'size': [4, 4, 4]", found="[8, 8, 8]"):
        trained_settings(weights, DEFAULTS, {"size": [8, 8, 8]})
    with refused(expected="align"):
        trained_settings(weights, DEFAULTS, {"align": True})

"""Whom an evaluation may use: phantoms for weights of phantoms, a dataset's subjects for weights of such subjects."""

from __future__ import annotations

import pytest

from mrsynth.manifest import held_out

PHANTOM, REAL = "Phantom_00003", "BraTS2021_00003"


@pytest.mark.parametrize(("trained", "evaluated"), [("BraTS2021_00001", PHANTOM), ("Phantom_00001", REAL)])
def test_another_cohort_than_the_weights_were_trained_on_is_refused(refused, trained, evaluated):
    with refused(expected="on which the weights were trained", where="model.pt", do="--datalist"):
        held_out({"test": [{"subject": evaluated}]}, "test", {"subjects": [trained]}, "model.pt")


@pytest.mark.parametrize("evaluated", [PHANTOM, REAL])
def test_weights_of_both_may_be_evaluated_on_either(evaluated):
    record = {"subjects": ["Phantom_00001", "BraTS2021_00001"]}
    assert held_out({"test": [{"subject": evaluated}]}, "test", record, "model.pt") == [{"subject": evaluated}]

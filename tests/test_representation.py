"""``repr`` of transforms, metrics and the parts of the game: the call that makes them."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import mrsynth
from mrsynth.adversarial import Alternating, ClassRound, GradientPenalty, Hinge
from mrsynth.metrics import RegionDice
from mrsynth.representation import ShowsParameters
from mrsynth.transforms import CropResampled, TumorTransplantd

MADE = [
    Alternating(),
    ClassRound(8, 3),
    GradientPenalty(10.0),
    Hinge(),
    RegionDice(),
    CropResampled("image", [8, 8, 4]),
]


@pytest.mark.parametrize("thing", MADE, ids=lambda thing: type(thing).__name__)
def test_it_makes_an_equal_object(thing):
    names = {type(thing).__name__: type(thing)}
    again = eval(repr(thing), names)
    assert type(again) is type(thing) and repr(again) == repr(thing) == str(thing)
    assert repr(pickle.loads(pickle.dumps(thing))) == repr(copy.deepcopy(thing)) == repr(thing)


def test_it_names_every_parameter_with_its_value():
    assert repr(TumorTransplantd("label", align=False)) == (
        "TumorTransplantd(label_key='label', mask_key='brain', output='transplanted', align=False, min_kept=0.8, "
        "max_tries=20)"
    )


def test_long_arguments_are_cut():
    assert len(repr(CropResampled(["key"] * 1000, [8, 8, 4]))) < 400


ROOMS = ("transforms", "metrics", "adversarial", "synthesis", "segmentation")
SHOWN_OTHERWISE = {
    "AugmentedDiscriminator",  # torch shows networks
    "LocalDiscriminator",
    "Features",
    "GameBatch",  # data, not settings
    "GameEvents",
    "Moves",
    "TwoPlayerTrainer",  # a run's parts: trainers, writers, validators and data
    "RealismValidator",
    "TransplantPairs",
    "SubjectCollector",
    "SubjectWriter",
    "SegmentationCollector",
    "SegmentationEvaluation",
    "SegmentationMontage",
    "SegmentationWriter",
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_transform_metric_and_part_of_the_game_has_it(room):
    module = getattr(mrsynth, room)
    classes = {name for name in module.__all__ if inspect.isclass(getattr(module, name))}
    shown = {name for name in classes if issubclass(getattr(module, name), ShowsParameters)}
    assert classes - shown <= SHOWN_OTHERWISE

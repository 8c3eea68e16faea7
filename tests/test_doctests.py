"""The examples in docstrings run and give what they show; the symbols that users import have one."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest
import torch

import mrsynth
from mrsynth.representation import ShowsParameters

MODULES = sorted(name for _, name, package in pkgutil.walk_packages(mrsynth.__path__, "mrsynth.") if not package)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
WITHOUT = {
    "Constraint",  # bases of those that have one
    "Objective",
    "Term",
    "CopyPasted",  # steps of a transplant, shown whole in the examples of the documentation
    "EncodeSemanticd",
    "LoadSubjectd",
    "SemanticLabeld",
    "TissueClassesd",
    "TransplantRound",
    "TumorTransplantd",
    "InpaintingWeightd",
    "OwnScaled",
    "RestoreImaged",
    "TumorVarietyd",
    "LogitsToLabeld",
    "ClassificationAccuracyScore",  # train or need seconds
    "PowerSpectrum",
    "CutSlicesd",
    "PrecisionInferer",
}
"""Public classes with parameters that have no example of their own."""


def examples_in(module: str) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(import_module(module)) if test.examples]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "mrsynth.__main__"])
def test_the_examples_of_a_module_give_what_they_show(module):
    for test in examples_in(module):
        torch.manual_seed(0)
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        said: list[str] = []
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)


def test_what_users_import_has_examples():
    shown, classes = set(), set()
    for room in (getattr(mrsynth, name) for name in dir(mrsynth)):
        for name in getattr(room, "__all__", ()):
            symbol = getattr(room, name)
            if ">>>" in (inspect.getdoc(symbol) or ""):
                shown.add(name)
            elif inspect.isclass(symbol) and issubclass(symbol, ShowsParameters):
                classes.add(name)
    assert classes <= WITHOUT
    assert len(shown) >= 60, sorted(shown)

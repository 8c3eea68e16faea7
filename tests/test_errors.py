"""What a user reads when something he gave cannot be used."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
import torch

from mrsynth.errors import UserError, user_error_in

ERROR = UserError("four sequences", "three", "/data/BraTS2021_00000", "fetch the fourth")


def test_the_message_says_what_was_expected_found_where_and_what_to_do():
    assert str(ERROR).split("\n") == [
        "",
        "  expected: four sequences",
        "  found:    three",
        "  where:    /data/BraTS2021_00000",
        "  do:       fetch the fourth",
    ]


def test_it_travels_between_processes():
    copy = pickle.loads(pickle.dumps(ERROR))
    assert str(copy) == str(ERROR) and copy.do == "fetch the fourth"


def test_it_is_found_under_whatever_a_library_raised_from_it():
    try:
        try:
            raise ERROR
        except UserError as inner:
            raise RuntimeError("applying transform") from inner
    except RuntimeError as outer:
        assert user_error_in(outer) is ERROR
    assert user_error_in(RuntimeError("another")) is None
    circle = RuntimeError("circle")
    circle.__cause__ = circle
    assert user_error_in(circle) is None


PROGRAM = """
import mrsynth
mrsynth.errors.show_user_errors()
try:
    {raising}
except ValueError as error:
    raise RuntimeError("deep in a library") from error
"""
USER = "raise mrsynth.errors.UserError('four sequences', 'three', 'here', 'fetch the fourth')"


def run(raising: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(raising=raising)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_program_ends_with_the_message_alone_and_not_with_success():
    ended = run(USER)
    assert ended.returncode == 1 and not ended.stdout
    assert "Traceback" not in ended.stderr and "library" not in ended.stderr
    assert "expected: four sequences" in ended.stderr and "fetch the fourth" in ended.stderr


def test_the_traceback_is_there_for_who_asks():
    ended = run(USER, MRSYNTH_TRACEBACK="1")
    assert ended.returncode == 1 and "Traceback" in ended.stderr and "fetch the fourth" in ended.stderr


def test_any_other_error_keeps_its_traceback():
    ended = run("raise ValueError('a bug')")
    assert ended.returncode == 1 and "Traceback" in ended.stderr and "a bug" in ended.stderr


def test_an_error_from_a_loaders_worker_is_found_in_its_text():
    """A DataLoader's worker passes on only the text of its traceback, wrapped once more by MONAI."""

    class Faulty(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            try:
                raise UserError("a tumor", "none", "subject A", "add one")
            except UserError as error:
                raise RuntimeError("applying transform") from error

    with pytest.raises(RuntimeError) as caught:
        next(iter(torch.utils.data.DataLoader(Faulty(), num_workers=1)))
    found = user_error_in(caught.value)
    assert (found.expected, found.found, found.where, found.do) == ("a tumor", "none", "subject A", "add one")

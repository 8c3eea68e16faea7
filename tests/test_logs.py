"""Messages: as they are on standard output, and silenced or sent elsewhere as logging is configured."""

from __future__ import annotations

import ast
import logging
import logging.config
from pathlib import Path

import pytest

import mrsynth

CONFIGS = sorted(Path(__file__).parents[1].glob("bundles/*/configs/logging.conf"))


def test_a_message_is_one_line_on_standard_output(capsys):
    mrsynth.logs.configure()
    logging.getLogger("mrsynth.training").info("Resumed after epoch 3 of 80.")
    assert capsys.readouterr().out == "Resumed after epoch 3 of 80.\n"


def test_messages_are_silenced_by_their_level(capsys):
    mrsynth.logs.configure(logging.WARNING)
    logging.getLogger("mrsynth.training").info("Resumed after epoch 3 of 80.")
    logging.getLogger("mrsynth.training").warning("two positions")
    assert capsys.readouterr().out == "two positions\n"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parts[-3])
def test_a_bundles_logging_configuration_shows_messages_once_and_as_they_are(path, capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logging.config.fileConfig(path, disable_existing_loggers=False)
        logging.getLogger("mrsynth.training").info("Made: weights")
        logging.getLogger("another").info("not shown")
        logging.getLogger("another").warning("shown")
        assert capsys.readouterr().out == "Made: weights\nWARNING another: shown\n"
    finally:
        root.handlers, root.level = handlers, level


def test_the_package_prints_nothing_itself():
    """But for the last words of a program that ends, in errors.py."""
    folder = Path(mrsynth.__file__).parent
    for path in folder.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printed = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert path.name == "errors.py" or not printed, f"{path}: {printed}"

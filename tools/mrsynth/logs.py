"""Messages for the person who runs a command.

The package logs through ``logging.getLogger("mrsynth")`` and the loggers below it. A bundle's ``logging.conf`` and the
command line send the messages to standard output as they are. A program that uses the package configures logging
itself.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO


class ConsoleHandler(logging.StreamHandler):
    """Writes to standard output as it is when the message comes, so that a redirection is followed."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The stream."""
        return sys.stdout


def configure(level: int = logging.INFO) -> None:
    """Send the package's messages to standard output, without level or name.

    Args:
        level: of the messages shown; ``logging.WARNING`` shows warnings alone.
    """
    logger = logging.getLogger("mrsynth")
    logger.handlers = [ConsoleHandler()]
    logger.setLevel(level)
    logger.propagate = False

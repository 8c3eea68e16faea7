"""Messages for the person who runs a command.

The package logs through ``logging.getLogger("mrsynth")`` and the loggers below it. A bundle's ``logging.conf`` and the
command line send the messages to standard output as they are. A program that uses the package configures logging
itself.
"""

from __future__ import annotations

import logging
import sys


def configure(level: int = logging.INFO) -> None:
    """Send the package's messages to standard output, without level or name.

    Args:
        level: of the messages shown; ``logging.WARNING`` shows warnings alone.
    """
    logger = logging.getLogger("mrsynth")
    logger.handlers = [logging.StreamHandler(sys.stdout)]
    logger.setLevel(level)
    logger.propagate = False

"""Where mrsynth keeps what it made once and uses again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_home() -> Path:
    """The cache folder: environment variable ``MRSYNTH_HOME`` if set, else the platform's user cache.

    Nothing is made here; whoever writes into it makes what it needs.
    """
    chosen = os.environ.get("MRSYNTH_HOME")
    return Path(chosen).expanduser().resolve() if chosen else Path(platformdirs.user_cache_dir("mrsynth"))

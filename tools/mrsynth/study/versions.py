"""Versions of what a study depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from mrsynth import __version__

PACKAGES = (
    *("torch", "monai", "pytorch-ignite", "numpy", "nibabel", "SimpleITK"),
    *("scipy", "statsmodels", "pandas", "matplotlib", "jinja2"),
)


def versions() -> dict[str, str]:
    """Version by package, and Python's."""
    found = {"mrsynth": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

"""Versions of the packages that results depend on, for records."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from mrsynth import __version__

NETWORKS = ("torch", "monai")
"""What computes a network's output."""

PACKAGES = (
    *("torch", "monai", "pytorch-ignite", "numpy", "nibabel", "SimpleITK"),
    *("scipy", "statsmodels", "pandas", "matplotlib", "jinja2"),
)


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Version by package, with mrsynth's own and Python's; packages that are not installed are left out."""
    found = {"mrsynth": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

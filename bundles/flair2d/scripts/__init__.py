"""What belongs to flair2d alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from pathlib import Path

from . import networks

BUNDLE_ROOT = str(Path(__file__).absolute().parents[1])
"""Folder of the bundle."""

__all__ = ["BUNDLE_ROOT", "networks"]

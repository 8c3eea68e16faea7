"""What belongs to tumor3d alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from pathlib import Path

from . import evaluation, inference, networks, pictures, preprocessing

BUNDLE_ROOT = str(Path(__file__).absolute().parents[1])
"""Folder of the bundle."""

__all__ = ["BUNDLE_ROOT", "evaluation", "inference", "networks", "pictures", "preprocessing"]

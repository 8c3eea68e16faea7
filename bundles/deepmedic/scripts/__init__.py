"""What belongs to deepmedic alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from pathlib import Path

from . import inference, layers, networks, optimizer, pathways, segments

BUNDLE_ROOT = str(Path(__file__).absolute().parents[1])
"""Folder of the bundle."""

__all__ = ["BUNDLE_ROOT", "inference", "layers", "networks", "optimizer", "pathways", "segments"]

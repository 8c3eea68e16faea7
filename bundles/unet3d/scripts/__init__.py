"""What belongs to this bundle alone: the network, its patches, and test-time flips."""

from pathlib import Path

from . import inference, networks, preprocessing

BUNDLE_ROOT = str(Path(__file__).absolute().parents[1])
"""Folder of the bundle."""

__all__ = ["BUNDLE_ROOT", "inference", "networks", "preprocessing"]

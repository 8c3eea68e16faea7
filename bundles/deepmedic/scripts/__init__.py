"""Code of deepmedic alone; imported eagerly, so that servers that reload ``scripts`` reload all of it."""

from . import inference, layers, networks, optimizer, pathways, segments

__all__ = ["inference", "layers", "networks", "optimizer", "pathways", "segments"]

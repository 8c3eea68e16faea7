"""What belongs to deepmedic alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from . import inference, layers, networks, optimizer, pathways, segments

__all__ = ["inference", "layers", "networks", "optimizer", "pathways", "segments"]

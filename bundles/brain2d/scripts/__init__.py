"""Code of brain2d alone; imported eagerly, so that servers that reload ``scripts`` reload all of it."""

from . import data, networks

__all__ = ["data", "networks"]

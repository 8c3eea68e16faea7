"""What belongs to breast2d alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from . import data, networks

__all__ = ["data", "networks"]

"""What belongs to breast2d alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from . import networks

__all__ = ["networks"]

"""Images in two dimensions: cut from volumes, drawn for a game, made of noise, and shown."""

from mrsynth.images.cutting import CutSlicesd
from mrsynth.images.latents import LatentDataset, latent, one_hot_size
from mrsynth.images.pictures import ContactSheet, FixedNoise, sheet
from mrsynth.images.stacks import ImageDataset, Stack, slice_classes, slice_stacks
from mrsynth.images.writing import ImageWriter

__all__ = [
    "ContactSheet",
    "CutSlicesd",
    "FixedNoise",
    "ImageDataset",
    "ImageWriter",
    "LatentDataset",
    "Stack",
    "latent",
    "one_hot_size",
    "sheet",
    "slice_classes",
    "slice_stacks",
]

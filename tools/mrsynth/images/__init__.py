"""Images in two dimensions: cut from volumes, drawn for a game, made of noise, and shown."""

from mrsynth.images.comparing import compare
from mrsynth.images.cutting import CutSlicesd, slice_preprocessing
from mrsynth.images.evaluation import Evaluation
from mrsynth.images.latents import LatentDataset, Maker, build_round, latent, one_hot_size
from mrsynth.images.per_class import best_of_class, load_generator
from mrsynth.images.pictures import ContactSheet, FixedNoise, sheet
from mrsynth.images.reading import read_images, read_volumes
from mrsynth.images.stacks import ImageDataset, Stack, slice_classes, slice_stacks, watched
from mrsynth.images.writing import ImageWriter

__all__ = [
    "ContactSheet",
    "CutSlicesd",
    "Evaluation",
    "FixedNoise",
    "ImageDataset",
    "ImageWriter",
    "LatentDataset",
    "Maker",
    "Stack",
    "best_of_class",
    "build_round",
    "compare",
    "latent",
    "load_generator",
    "one_hot_size",
    "read_images",
    "read_volumes",
    "sheet",
    "slice_classes",
    "slice_preprocessing",
    "slice_stacks",
    "watched",
]

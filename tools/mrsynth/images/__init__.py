"""2D images: slices cut from volumes, datasets and noise for 2D games, evaluation, and pictures."""

from mrsynth.images.comparing import compare
from mrsynth.images.cutting import CutSlicesd, slice_preprocessing
from mrsynth.images.evaluation import ImageEvaluation
from mrsynth.images.latents import ImageSampler, LatentDataset, build_round, class_channels, latent_vector
from mrsynth.images.per_class import best_of_class, load_generator
from mrsynth.images.pictures import ContactSheet, SampleMontage, sheet
from mrsynth.images.reading import read_images, read_volumes
from mrsynth.images.stacks import ImageDataset, SubjectImages, slice_classes, slice_stacks, validation_stacks
from mrsynth.images.writing import ImageCollector, ImageWriter

__all__ = [
    "ContactSheet",
    "CutSlicesd",
    "ImageCollector",
    "ImageDataset",
    "ImageEvaluation",
    "ImageSampler",
    "ImageWriter",
    "LatentDataset",
    "SampleMontage",
    "SubjectImages",
    "best_of_class",
    "build_round",
    "class_channels",
    "compare",
    "latent_vector",
    "load_generator",
    "read_images",
    "read_volumes",
    "sheet",
    "slice_classes",
    "slice_preprocessing",
    "slice_stacks",
    "validation_stacks",
]

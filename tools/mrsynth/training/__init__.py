"""How any run is started, watched, saved and resumed: generators and segmenters alike."""

from mrsynth.training.checkpoint import (
    defaults,
    load_checkpoint,
    load_weights,
    read_safely,
    save_checkpoint,
    save_weights,
    trained_settings,
)
from mrsynth.training.distributed import choose_device, local_device, rank, start, stop, unwrap, world_size, wrap
from mrsynth.training.handlers import RunHandlers, check_writable, command
from mrsynth.training.history import History
from mrsynth.training.montage import Montage, Picture, Row, save_mosaic, tumour_centre
from mrsynth.training.precision import Precision, PrecisionInferer, common
from mrsynth.training.sampling import (
    ClassSampler,
    DiskCache,
    Draw,
    PairSampler,
    PatchSampler,
    SeededDataset,
    SeededSampler,
    derived_seed,
    seed_everything,
)
from mrsynth.training.segmentation import SegmentationTrainer, initialise
from mrsynth.training.writing import ResultWriter

__all__ = [
    "ClassSampler",
    "DiskCache",
    "Draw",
    "History",
    "Montage",
    "PairSampler",
    "PatchSampler",
    "Picture",
    "Precision",
    "PrecisionInferer",
    "ResultWriter",
    "Row",
    "RunHandlers",
    "SeededDataset",
    "SeededSampler",
    "SegmentationTrainer",
    "check_writable",
    "choose_device",
    "command",
    "common",
    "defaults",
    "derived_seed",
    "initialise",
    "load_checkpoint",
    "load_weights",
    "local_device",
    "rank",
    "read_safely",
    "save_checkpoint",
    "save_mosaic",
    "save_weights",
    "seed_everything",
    "start",
    "stop",
    "trained_settings",
    "tumour_centre",
    "unwrap",
    "world_size",
    "wrap",
]

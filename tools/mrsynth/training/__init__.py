"""Runs: how generators and segmenters are trained, followed, saved and resumed."""

from mrsynth.training.checkpoint import (
    load_checkpoint,
    load_weights,
    read_records,
    read_safely,
    save_checkpoint,
    save_weights,
)
from mrsynth.training.distributed import choose_device, local_device, rank, start, stop, unwrap, world_size, wrap
from mrsynth.training.handlers import run_handlers
from mrsynth.training.history import History
from mrsynth.training.montage import Montage, MontageRow, Picture, save_mosaic, tumor_center
from mrsynth.training.precision import Precision, PrecisionInferer, common
from mrsynth.training.run import Run, check_writable, command, next_command, prepare, train_first, weights_in
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
from mrsynth.training.segmentation import SegmentationTrainer, initialize
from mrsynth.training.writing import ResultWriter

__all__ = [
    "ClassSampler",
    "DiskCache",
    "Draw",
    "History",
    "Montage",
    "MontageRow",
    "PairSampler",
    "PatchSampler",
    "Picture",
    "Precision",
    "PrecisionInferer",
    "ResultWriter",
    "Run",
    "SeededDataset",
    "SeededSampler",
    "SegmentationTrainer",
    "check_writable",
    "choose_device",
    "command",
    "common",
    "derived_seed",
    "initialize",
    "load_checkpoint",
    "load_weights",
    "local_device",
    "next_command",
    "prepare",
    "rank",
    "read_records",
    "read_safely",
    "run_handlers",
    "save_checkpoint",
    "save_mosaic",
    "save_weights",
    "seed_everything",
    "start",
    "stop",
    "train_first",
    "tumor_center",
    "unwrap",
    "weights_in",
    "world_size",
    "wrap",
]

"""Distributed runs: the process group when a config is started by torchrun; without torchrun nothing changes."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mrsynth.errors import UserError


def start() -> None:
    """Join the process group that torchrun describes: NCCL where there is a GPU, gloo otherwise.

    Raises:
        UserError: not started by torchrun.
    """
    if "RANK" not in os.environ:
        raise UserError(
            "to be started by torchrun",
            "no RANK in the environment",
            "multi_gpu_train.json",
            "torchrun --standalone --nproc_per_node=2 -m monai.bundle run training --config_file ...",
        )
    if not dist.is_initialized():
        local_device()  # before NCCL starts, which would take the first GPU on every rank
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the process group after every rank has finished."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def local_device() -> torch.device:
    """This rank's own GPU, or the CPU."""
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        return device
    return torch.device("cpu")


def rank() -> int:
    """This process's rank, 0 outside a distributed run."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of ranks, 1 outside a distributed run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for all ranks."""
    if dist.is_initialized():
        dist.barrier()


def wrap(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` for a distributed run, or as it is outside one.

    Buffers are not broadcast: two forward passes before one backward pass would otherwise change them in between.
    """
    if world_size() == 1:
        return network
    return DistributedDataParallel(
        network, device_ids=[device.index] if device.type == "cuda" else None, broadcast_buffers=False
    )


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def choose_device(name: str = "auto") -> torch.device:
    """Device of a run: ``auto`` takes a GPU where there is one.

    Raises:
        UserError: a device that is not there.

    Examples:
        >>> from mrsynth.training import choose_device
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return local_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"the device {name}", f"not available here: {first}", "device", "use --device cpu") from error
    return device

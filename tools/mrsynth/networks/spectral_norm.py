"""Spectral normalization of convolutions and linear layers (Miyato 2018), and its removal for export."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


def add_spectral_norm(network: nn.Module) -> nn.Module:
    """Divide the weight of every convolution and linear layer by its largest singular value, in place.

    Examples:
        >>> import torch
        >>> from mrsynth.networks import add_spectral_norm, power_iteration
        >>> layer = add_spectral_norm(torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3)))
        >>> for _ in range(20):
        ...     power_iteration(layer)
        >>> largest = torch.linalg.matrix_norm(layer[0].weight.flatten(1), 2)
        >>> round(float(largest), 2)
        1.0
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS) and not parametrize.is_parametrized(module, "weight"):
            spectral_norm(module, "weight")
    return network


def folded_state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """State dict for the same network without spectral normalization; both compute the same in evaluation.

    It holds the normalized weights and no entries of the parametrization, so it loads into a plain network, which
    TorchScript can export. Tensors are copies on the CPU.
    """
    training = network.training
    network.eval()  # in training mode every access to a weight runs another power iteration
    state = {}
    for name, value in network.state_dict().items():
        owner, marker, rest = name.partition(".parametrizations.")
        if not marker:
            state[name] = value
        elif rest.endswith(".original"):
            tensor = rest.removesuffix(".original")
            state[f"{owner}.{tensor}"] = getattr(network.get_submodule(owner), tensor)
    network.train(training)
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def power_iteration(network: nn.Module) -> None:
    """Refine the singular vectors of each normalized weight once, and keep them until the next call.

    PyTorch refines them at every forward pass in training. Kept, all passes of one step use the same weights,
    activation checkpointing recomputes the same values, and all processes of a distributed run agree.
    """
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            for parametrization in module.parametrizations.weight:  # type: ignore[union-attr]
                parametrization.train()
            with torch.no_grad():
                module.weight  # noqa: B018  the access itself refines it
            for parametrization in module.parametrizations.weight:  # type: ignore[union-attr]
                parametrization.eval()

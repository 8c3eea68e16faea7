"""Spectral normalization of a network's convolutions, and folding it into plain weights (Miyato 2018)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


def add_spectral_norm(network: nn.Module) -> nn.Module:
    """Divide every convolution's and linear layer's weight by its largest singular value, in place.

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
    """State dict of the same network built without spectral normalization, computing the same in evaluation.

    Each normalized weight is written as the plain tensor that the network uses; the parametrization's own entries
    are gone, so the result loads into a plain network, which TorchScript takes. Tensors are copies on the CPU.
    """
    training = network.training
    network.eval()  # in training mode each look at a weight would take another power iteration
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
    """Refine each normalized weight's singular vectors once, and hold them until the next call.

    PyTorch refines them at every forward pass in training. Held, all passes of one move see the same weights,
    activation checkpointing recomputes what was computed, and every rank of a distributed run agrees.
    """
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            for parametrization in module.parametrizations.weight:  # type: ignore[union-attr]
                parametrization.train()
            with torch.no_grad():
                module.weight  # noqa: B018  the look itself is the refinement
            for parametrization in module.parametrizations.weight:  # type: ignore[union-attr]
                parametrization.eval()

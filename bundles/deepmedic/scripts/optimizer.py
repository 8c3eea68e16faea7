"""How DeepMedic is optimized: RMSprop with Nesterov momentum, and a penalty on the weights of convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from mrsynth.errors import UserError


class DeepMedicRMSprop(Optimizer):
    """RMSprop whose epsilon stands inside the root, with Nesterov momentum; torch's has neither.

    With the gradient `g`, the mean of its squares `s` and the velocity `v` of each parameter, a step is

        s = rho s + (1 - rho) g²,   d = lr g / sqrt(s + epsilon),   v = momentum v - d,   w = w + momentum v - d.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        rho: of the mean of squares.
        epsilon: inside the root.
        momentum: 0 for none.

    Raises:
        UserError: a setting out of its range.
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-3, rho: float = 0.9, epsilon: float = 1e-4, momentum: float = 0.6
    ) -> None:
        if not (lr >= 0 and 0 <= rho < 1 and epsilon > 0 and 0 <= momentum < 1):
            raise UserError(
                "a learning rate of 0 or more, rho and momentum from 0 to below 1, and a positive epsilon",
                f"{lr}, {rho}, {momentum}, {epsilon}",
                "learning_rate, rho, momentum, epsilon",
                "pass values in these ranges; the defaults are 1e-3, 0.9, 0.6 and 1e-4",
            )
        super().__init__(params, {"lr": lr, "rho": rho, "epsilon": epsilon, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:  # type: ignore[override]
        """One step along the gradients of all parameters that have one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            for p in moved:
                if not self.state[p]:
                    self.state[p].update(squares=torch.zeros_like(p), velocity=torch.zeros_like(p))
            if not moved:
                continue
            gradients = [p.grad for p in moved]
            squares = [self.state[p]["squares"] for p in moved]
            velocity = [self.state[p]["velocity"] for p in moved]
            torch._foreach_mul_(squares, group["rho"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["rho"])
            down = torch._foreach_add(squares, group["epsilon"])
            torch._foreach_sqrt_(down)
            down = torch._foreach_div(gradients, down)
            torch._foreach_mul_(down, group["lr"])
            torch._foreach_mul_(velocity, group["momentum"])
            torch._foreach_sub_(velocity, down)
            torch._foreach_add_(moved, velocity, alpha=group["momentum"])
            torch._foreach_sub_(moved, down)
        return loss


def halving(optimizer: Optimizer, halve_at: Sequence[int], max_epochs: int, iterations: int) -> MultiStepLR:
    """A learning rate that is halved after some epochs; stepped after each iteration.

    Args:
        optimizer: whose learning rate.
        halve_at: epochs of ``max_epochs``; where ``iterations`` cut a training short or draw it out, these go with it.
        max_epochs: of the whole training.
        iterations: of the whole training.

    Raises:
        UserError: no epochs.
    """
    if max_epochs < 1:
        raise UserError("at least one epoch", repr(max_epochs), "max_epochs", "pass --max_epochs 1 or more")
    return MultiStepLR(optimizer, [round(epoch / max_epochs * iterations) for epoch in halve_at], gamma=0.5)


class SegmentationLoss(nn.Module):
    """Cross-entropy, and a penalty on the weights of the network's convolutions; biases and norms go free.

    Args:
        network: whose weights are penalized.
        l1: factor of the sum of their sizes.
        l2: factor of the sum of their squares.
    """

    def __init__(self, network: nn.Module, l1: float = 1e-6, l2: float = 1e-4) -> None:
        super().__init__()
        self.l1, self.l2 = l1, l2
        # a plain list: they stay the network's, not the loss's
        self.weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv3d)]

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of logits `(B, C, X, Y, Z)` against class indices `(B, 1, X, Y, Z)`."""
        return F.cross_entropy(logits, target[:, 0].long()) + self.penalty()

    def penalty(self) -> torch.Tensor:
        """The penalty alone."""
        sizes = torch.stack(torch._foreach_norm(self.weights, 1)).sum()
        squares = torch.stack(torch._foreach_norm(self.weights, 2)).square().sum()
        return self.l1 * sizes + self.l2 * squares

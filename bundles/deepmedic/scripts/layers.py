"""Layers of DeepMedic's blocks: its batch norm, and fast PReLU and dropout.

PReLU and dropout compute the same as torch's own, which are not vectorized on a CPU in bfloat16 and would take a third
of a training step.
"""

# no `from __future__ import annotations`: TorchScript reads the types of a class that are written as they are
import torch
from torch import nn
from torch.nn import functional as F

WINDOW = 60
"""Batches whose mean statistics batch norm takes for evaluation."""


class WindowBatchNorm3d(nn.Module):
    """Batch norm that evaluates with the mean of the last batches' means and variances, not with a decaying average.

    The statistics are buffers, so that a resumed training goes on with them. Before the first batch the mean is 0 and
    the variance 1.

    Args:
        channels: of the input `(B, C, X, Y, Z)`.
        window: batches whose statistics are kept.
        eps: added to the variance.
    """

    means: torch.Tensor
    variances: torch.Tensor
    batches: torch.Tensor

    def __init__(self, channels: int, window: int = WINDOW, eps: float = 1e-5) -> None:
        super().__init__()
        self.window, self.eps = window, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("means", torch.zeros(window, channels))
        self.register_buffer("variances", torch.zeros(window, channels))
        self.register_buffer("batches", torch.zeros(1, dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            mean, variance = self.statistics()
            return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        mean, variance = torch.zeros_like(self.bias), torch.zeros_like(self.bias)
        # with a momentum of 1 the running statistics are the batch's own, the variance over n - 1
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        number = x.numel() // x.shape[1]
        with torch.no_grad():
            place = self.batches % self.window
            self.means.index_copy_(0, place, mean[None])
            self.variances.index_copy_(0, place, variance[None] * ((number - 1) / number))
            self.batches += 1
        return y

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance `(C,)` that evaluation takes."""
        seen = self.batches.clamp(max=self.window)
        mean = self.means.sum(0) / seen.clamp(min=1)
        variance = self.variances.sum(0) / seen.clamp(min=1)
        return mean, torch.where(seen > 0, variance, torch.ones_like(variance))


class ChannelPReLU(nn.PReLU):
    """PReLU with a slope for each channel, several times faster where channels are last in memory.

    Args:
        channels: of the input `(B, C, X, Y, Z)`.
        init: slope to begin with.
    """

    def __init__(self, channels: int, init: float = 0.01) -> None:
        super().__init__(channels, init)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        slope = self.weight.to(input.dtype)
        if not input.is_contiguous(memory_format=torch.channels_last_3d):
            return F.prelu(input, slope)
        # channels and the last axis together are one long row, along which it can be vectorized
        lines = input.permute(0, 2, 3, 4, 1)
        rows, slopes = lines.reshape(-1, input.shape[4] * input.shape[1]), slope.repeat(input.shape[4])
        y = torch.prelu(rows, slopes) if torch.jit.is_scripting() else _RowPReLU.apply(rows, slopes)
        return y.view(lines.shape).permute(0, 4, 1, 2, 3)


class _RowPReLU(torch.autograd.Function):
    """PReLU of rows `(N, W)` with slopes `(W,)`, and a backward pass of vectorized operations."""

    @staticmethod
    def forward(ctx, rows, slopes):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(rows, slopes)
        return torch.prelu(rows, slopes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        rows, slopes = ctx.saved_tensors
        positive = torch.ops.aten.threshold_backward(gradient, rows, 0)
        return torch.lerp(positive, gradient, slopes), ((gradient - positive) * rows).sum(0)


class FastDropout(nn.Dropout):
    """Dropout that takes four voxels' draws from each random number on a CPU; probabilities in 65536ths."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return input
        if torch.jit.is_scripting() or input.device.type != "cpu" or not _dense(input):
            return F.dropout(input, self.p, True)
        dropped = round(self.p * 2**16)
        draws = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        mask = torch.empty(input.numel(), dtype=input.dtype)
        torch.ge(draws[: input.numel()], dropped - 2**15, out=mask)
        return input * mask.mul_(2**16 / max(2**16 - dropped, 1)).as_strided(input.shape, input.stride())


def _dense(x: torch.Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last_3d)

"""Mixed precision by name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer

from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters


class Precision(ShowsParameters):
    """Autocast and gradient scaling of a run.

    Args:
        amp: ``none`` (float32), ``bf16``, ``fp16`` (with gradient scaling), or ``auto``: bf16 where the hardware
            computes in it (a GPU from Ampere on, a CPU with AVX512-BF16 or AMX), float32 elsewhere. ``True`` means
            ``auto`` and ``False`` means ``none``.
        device: of the run.
        grid: spatial size of what is trained, for networks that halve it. On a CPU, oneDNN's bf16 weight gradients are
            wrong where a level's first side is 2 (torch 2.13): there ``auto`` means float32, and bf16 is refused.
        levels: resolutions of such a network.

    Raises:
        UserError: an unknown name, or a precision that the device or the grid does not allow.

    Examples:
        >>> from mrsynth.training import Precision
        >>> Precision("bf16", "cpu").dtype
        torch.bfloat16
    """

    def __init__(self, amp: str | bool, device: torch.device | str, grid: Sequence[int] = (), levels: int = 4) -> None:
        self.device = torch.device(device)
        wrong = [2 ** (level + 1) for level in range(levels)]
        halves_to_two = self.device.type == "cpu" and len(grid) > 0 and grid[0] in wrong
        names = {True: "auto", False: "none", None: "none"}
        name = names.get(amp, amp) if isinstance(amp, (bool, type(None))) else amp
        if name not in ("none", "bf16", "fp16", "auto"):
            raise UserError("amp: none, bf16, fp16 or auto", repr(amp), "amp", "pass --amp auto")
        if name == "auto":
            name = "bf16" if _has_bf16(self.device) and not halves_to_two else "none"
        if name == "bf16" and self.device.type == "cuda" and not _has_bf16(self.device):
            raise UserError("a GPU that computes in bf16", "an older one", "amp", "use --amp fp16, or --amp none")
        if name == "bf16" and halves_to_two:
            raise UserError(
                f"a grid whose first side is none of {wrong}, for bf16 on a CPU",
                str(list(grid)),
                "spatial_size, amp",
                "use --amp none, or another grid",
            )
        self.name = name
        self.dtype = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]

    def autocast(self) -> AbstractContextManager:
        """Context for forward passes."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.name != "none")

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler, which does nothing unless the precision is fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def common(precisions: Sequence[Precision]) -> Precision:
    """The precision for a run of several networks: float32 if one of them needs it."""
    return next((precision for precision in precisions if precision.name == "none"), precisions[0])


class PrecisionInferer(ShowsParameters, Inferer):
    """Calls another inferer at a chosen precision; the result is float32.

    Args:
        amp: see :class:`Precision`.
        device: of the network.
        inferer: one forward pass of the whole volume when None.
    """

    def __init__(self, amp: str | bool, device: torch.device | str, inferer: Inferer | None = None) -> None:
        super().__init__()
        self.precision, self.inferer = Precision(amp, device), inferer or SimpleInferer()

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.precision.autocast():
            return self.inferer(inputs, network, *args, **kwargs).float()


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)

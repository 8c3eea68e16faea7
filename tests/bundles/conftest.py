"""The segmenter bundles: the scripts of one at a time, and each trained once, in a process, on tiny subjects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import TinyRun, scripts_of

SEGMENTERS = {
    "deepmedic": {
        "segment": "25",
        "feature_maps": "[4,4,4,4,4,4,4,4]",
        "head": "[8,8]",
        "factors": "[1,3]",
        "segments_per_subepoch": "4",
        "batch_size": "2",
        "tile": "24",
    },
    "unet3d": {"patch_size": "[16,16,16]", "filters": "[4,8,8]", "iterations_per_epoch": "2", "batch_size": "2"},
}
"""What makes each small; an epoch is two iterations."""

PAPER = {"deepmedic": {"subepochs": 1}, "unet3d": {"deep_supervision": 1}}
"""What else the paper's overlay needs to be small."""

RUN = {"max_iterations": "5", "validate_every": "1", "montage_every": "3", "device": "cpu", "amp": "none"}
"""Two epochs, and half of a third."""


@pytest.fixture(scope="module")
def deepmedic() -> Iterator[object]:
    """The module ``scripts`` of bundles/deepmedic."""
    with scripts_of("deepmedic") as scripts:
        yield scripts


@pytest.fixture(scope="module")
def unet3d() -> Iterator[object]:
    """The module ``scripts`` of bundles/unet3d."""
    with scripts_of("unet3d") as scripts:
        yield scripts


class Segmenter(NamedTuple):
    """A segmenter bundle, and the run of it that the session made; read-only.

    ``run.options`` tell inference and evaluation whose weights, ``small`` tell another training how small to be.
    """

    name: str
    run: TinyRun
    small: dict[str, str]

    @property
    def weights(self) -> Path:
        """The weights of the run."""
        return self.run.output / "models" / "model.pt"


@pytest.fixture(scope="session")
def train_segmenter(start_bundle: Callable, subjects_dir: Path) -> Callable:
    """Start the training of a bundle of :data:`SEGMENTERS` on the six small subjects (4 training, 1, 1)."""

    def start(name: str, output: Path, resume: bool = False, changes: dict[str, str] | None = None, **environment: str):
        options = {"dataset_dir": str(subjects_dir), "output_dir": str(output)} | SEGMENTERS[name] | RUN
        options |= (changes or {}) | ({"resume": "true"} if resume else {})
        return start_bundle(name, *[x for k, v in options.items() for x in (f"--{k}", v)], **environment)

    return start


@pytest.fixture(scope="session", params=SEGMENTERS)
def segmenter(request, train_segmenter: Callable, subjects_dir: Path, tmp_path_factory) -> Segmenter:
    """Each segmenter bundle, trained for five iterations on six small subjects."""
    output = tmp_path_factory.mktemp(f"tiny_{request.param}")
    process = train_segmenter(request.param, output)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said[-4000:]
    return Segmenter(request.param, TinyRun(subjects_dir, output), SEGMENTERS[request.param])

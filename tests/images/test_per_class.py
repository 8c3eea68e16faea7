"""Weights of each class of its own best epoch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mrsynth.images import best_of_class, latent_vector, load_generator
from mrsynth.images.per_class import record_of_class
from mrsynth.training.checkpoint import save_weights

CLASSES = ["healthy", "no tumor"]


class Linear(nn.Module):
    """From a latent vector of six to an image of two pixels."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2, bias=False)
        nn.init.constant_(self.layer.weight, scale)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.layer(latent).view(-1, 1, 1, 2)


@pytest.fixture
def models(tmp_path):
    """``model.pt`` of scale 1, and of the classes 2 and 3."""
    for scale, name in enumerate(["model.pt", *best_of_class(CLASSES)], start=1):
        record = {"epoch": scale, "subjects": ["A"], "settings": {"seed": 0}, "metrics": {"best": float(scale)}}
        save_weights(Linear(scale), tmp_path / name, record)
    return tmp_path


def test_each_class_is_made_by_its_own_weights(models):
    network, record = load_generator(Linear(), models / "model.pt", CLASSES, True, "train")
    order = [1, 0, 1, 1, 0]
    given = torch.stack([latent_vector(4, 0, number, of_class, 2) for number, of_class in enumerate(order)])
    for scale, made, row in zip([3, 2, 3, 3, 2], network(given), given, strict=True):
        assert torch.allclose(made.flatten(), scale * row.sum().expand(2))
    assert torch.allclose(network(given[:1]), network(given)[:1])  # a batch of one class; its last bit is BLAS's
    own = [record_of_class(record, name) for name in CLASSES]
    assert [one["epoch"] for one in own] == [2, 3] and own[0]["metrics"] == {"best": 2.0}
    assert all(one["subjects"] == ["A"] for one in own) and len({one["sha256"] for one in own}) == 2


def test_all_classes_are_made_by_the_same_weights_where_that_is_asked_for(models):
    network, record = load_generator(Linear(), models / "model.pt", CLASSES, False, "train")
    assert record["epoch"] == 1 and float(network.layer.weight.detach()[0, 0]) == 1


def test_a_training_without_validation_has_but_one_file_of_weights(models):
    save_weights(Linear(5), models / "model.pt", {"epoch": 9, "subjects": ["A"], "metrics": {}})
    assert load_generator(Linear(), models / "model.pt", CLASSES, None, "train")[1]["epoch"] == 9
    assert (models / "model_healthy.pt").is_file()  # of a training before, not looked at


def test_a_class_without_weights_is_refused(models, refused):
    (models / "model_no_tumor.pt").unlink()
    with refused(found="no such file", where="model_no_tumor.pt", do="--per_class False"):
        load_generator(Linear(), models / "model.pt", CLASSES, None, "train first")


def test_weights_of_another_training_are_refused(models, refused):
    other = {"epoch": 1, "subjects": ["A", "B"], "settings": {"seed": 0}, "metrics": {}}
    save_weights(Linear(4), models / "model_healthy.pt", other)
    with refused(expected="same training as model.pt", where="model_healthy.pt"):
        load_generator(Linear(), models / "model.pt", CLASSES, True, "train")

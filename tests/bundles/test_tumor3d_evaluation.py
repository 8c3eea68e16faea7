"""tumor3d's evaluate.json: figures where they are known, files that can be read, and refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from monai.inferers import SimpleInferer

from mrsynth.errors import user_error_in


@pytest.fixture(scope="module")
def evaluate(tiny_run, bundle_workflow):
    """Run ``evaluate.json`` in this process; gives its folder."""

    def run(output: Path, **options) -> Path:
        with bundle_workflow("tumor3d", "evaluate", output_dir=str(output), **{**tiny_run.options, **options}) as made:
            made.run()
        return output / "evaluation"

    return run


@pytest.fixture(scope="module")
def folder(evaluate, tmp_path_factory) -> Path:
    """The files of one evaluation."""
    return evaluate(tmp_path_factory.mktemp("evaluation"))


def rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_all_figures_are_there_and_agree(folder, tiny_run):
    metrics = json.loads((folder / "metrics.json").read_text())
    table = rows(folder / "per_subject.csv")
    assert len(metrics["subjects"]) == 2 and len(table) == 2 * 2 * 4
    record = next(iter(json.loads((tiny_run.output / "models" / "model.json").read_text()).values()))
    assert not set(metrics["subjects"]) & set(record["subjects"])
    mine = [float(r["mae"]) for r in table if (r["region"], r["sequence"]) == ("tumor", "t1ce")]
    assert metrics["fidelity"]["tumor"]["t1ce"]["mae"]["mean"] == pytest.approx(sum(mine) / 2)
    assert metrics["diversity"]["subjects"] == {"real": 2, "synthetic": 2}
    assert metrics["obedience"]["pairs"] == len(rows(folder / "per_pair.csv")) <= 2
    assert metrics["obedience"]["real"]["mean"] > 0  # the phantom's rim is bright on t1ce, as a real one is


def test_the_same_again(folder, evaluate, tmp_path, capsys):
    again = evaluate(tmp_path)
    for name in ("metrics.json", "per_subject.csv", "per_pair.csv"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    said = capsys.readouterr().out
    assert "brain MAE" in said and "sign of the real contrast" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"section": "training"}, "the weights have not seen"),
        ({"section": "tests"}, "'tests'"),
        ({"weights": "/nowhere/model.pt"}, "run training --config_file"),
        ({"split": {"test": 0}}, "none in section 'test'"),
    ],
)
def test_refusals(evaluate, tmp_path, options, said):
    with pytest.raises(Exception) as caught:
        evaluate(tmp_path, **options)
    assert said in str(user_error_in(caught.value))
    assert not (tmp_path / "evaluation").exists()


class Painter(torch.nn.Module):
    """A generator that paints each class of the label in its own gray; the enhancing class in white if obedient."""

    def __init__(self, obedient: bool) -> None:
        super().__init__()
        levels = [-1.0, -0.4, -0.2, 0.0, -0.3, 0.2, 0.9 if obedient else -0.2]
        self.levels = torch.tensor(levels).view(1, -1, 1, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image * self.levels).sum(dim=1, keepdim=True).repeat(1, 4, 1, 1, 1)


class Mirror(torch.nn.Module):
    """A generator that knows every test subject's MRI by heart and gives it whatever the label says."""

    def __init__(self, known: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self.known = known

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        brain = image[:, :1] == 0
        return next(mri for mask, mri in self.known if torch.equal(mask, brain))[None]


@pytest.fixture
def judge(tumor3d, brats, make_brain, tmp_path):
    """Evaluate a generator, made from the test subjects, on four small subjects."""
    write, entry = brats
    names = [f"BraTS2021_{index:05d}" for index in range(4)]
    for index, name in enumerate(names):
        write(tmp_path, name, make_brain(index))
    training = json.loads((Path(tumor3d.BUNDLE_ROOT) / "configs" / "train.json").read_text())
    settings = {**training, "spatial_size": [24, 24, 24], "min_kept": 0.5}
    items = [entry(tmp_path, name) for name in names]

    def run(make_network, **options):
        options = {"seed": 0, "max_pairs": 100, **options}
        evaluation = tumor3d.evaluation.SubjectEvaluation(
            torch.nn.Identity(), SimpleInferer(), items, settings, {"sha256": "0"}, "cpu", tmp_path, **options
        )
        evaluation.network = make_network(evaluation.subjects)
        return evaluation.run()

    return run


def test_a_generator_that_paints_by_label_obeys(judge):
    found = judge(lambda _: Painter(obedient=True))["obedience"]
    assert found["pairs"] == 12 and found["measured"] > 6
    assert found["right_sign"] == 1 and found["left"] == 1
    assert found["new_place"]["mean"] > 0.5 > found["new_place_without"]["mean"]


def test_a_generator_that_ignores_the_enhancing_class_does_not(judge):
    assert judge(lambda _: Painter(obedient=False))["obedience"]["right_sign"] < 0.9


def test_a_generator_that_remembers_is_faithful_and_diverse_but_does_not_obey(judge):
    def remember(subjects):
        return Mirror([(s["brain"].as_tensor()[None] > 0, s["image"].as_tensor()) for s in subjects])

    found = judge(remember)
    for region in ("brain", "tumor"):
        assert found["fidelity"][region]["t1"]["mae"]["mean"] == 0
        assert found["fidelity"][region]["flair"]["ssim"]["mean"] == pytest.approx(1, abs=1e-4)
        assert found["fidelity"][region]["t2"]["psnr"]["mean"] is None  # infinite
    assert found["diversity"]["sd_ratio"] == pytest.approx(1)
    assert found["obedience"]["left"] == 0


def test_pairs_are_capped(judge):
    assert judge(lambda _: Painter(obedient=True), max_pairs=3)["obedience"]["pairs"] == 3

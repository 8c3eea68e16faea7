"""The plan of a study: who is in which part, which steps there are, and what is refused before anything runs."""

import json
import shutil
from collections import Counter
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from fire.parser import DefaultParseValue

from mrsynth.manifest import index, load_datalist, write_datalist
from mrsynth.study.steps import Step, literal
from mrsynth.study.subjects import make_folds, part_of, write_row_datalist
from mrsynth.study.timing import Timing


def planned(study):
    """The steps of a study, by name."""
    steps = study.plan(study.read_folds(), study.rows).steps()
    return {step.name: step for step in steps}


def tree(folder):
    """Everything below a folder."""
    return sorted(folder.rglob("*")) if folder.exists() else []


def test_each_subject_is_tested_in_one_fold_and_none_is_on_two_sides(study):
    folds = study(folds=3, split={"seed": 0, "validation": 1}).read_folds()
    assert Counter(subject for fold in folds for subject in fold.ids("test")) == Counter(
        {f"BraTS2021_{number:05d}": 1 for number in range(6)}
    )
    for fold in folds:
        assert sorted(subject for part in fold.subjects.values() for subject in part) == [
            f"BraTS2021_{number:05d}" for number in range(6)
        ]


def test_folds_of_a_datalist_keep_patients_together(subjects_dir, tmp_path, study):
    found = index(subjects_dir, validation=0, test=2)
    for section in ("training", "test"):
        for item in found[section]:
            item["patient"] = f"P{int(item['subject'][-1]) // 2}"
    items = found["training"] + found["test"]
    found.update(training=items, test=[])
    write_datalist(tmp_path / "all.json", found)
    folds = study(dataset_dir=None, datalist=tmp_path / "all.json", folds=3, split={"validation": 0}).read_folds()
    for fold in folds:
        patients = [{int(subject[-1]) // 2 for subject in fold.ids(section)} for section in ("training", "test")]
        assert not patients[0] & patients[1]


def test_the_steps_of_the_table(study):
    steps = planned(study(seeds=[0, 1], folds=3, split={"validation": 1}))
    kinds = Counter(step.kind for step in steps.values())
    assert kinds == {
        "train generator gan": 3,
        "synthesize with gan": 3,
        "synthesize with copy_paste": 3,
        "train net": 5 * 3 * 2,
        "evaluate net": 5 * 3 * 2,
    }
    assert {step.work for step in steps.values() if step.kind == "train net"} == {3}
    assert {step.options["max_iterations"] for step in steps.values() if step.kind == "train net"} == {3}
    before = set()
    for step in steps.values():  # what a step needs comes before it
        assert set(step.needs) <= before
        before.add(step.name)


def test_only_what_the_wanted_rows_need_is_made(study):
    assert {step.kind for step in planned(study(rows=["Real"])).values()} == {"train net", "evaluate net"}
    steps = planned(study(rows=["Real + 1x GAN", "2x GAN"]))
    assert steps["fold 0: synthesize with gan"].options["count"] == 6  # twice the three training subjects
    assert not any("copy_paste" in name for name in steps)


def test_a_share_of_real_subjects_holds_every_smaller_one(study):
    items = [{"subject": f"S{number}"} for number in range(20)]
    for seed in range(3):
        shares = [{item["subject"] for item in part_of(items, share, seed)} for share in (0.1, 0.5, 0.75, 1)]
        assert [len(share) for share in shares] == [2, 10, 15, 20]
        assert shares[0] < shares[1] < shares[2] < shares[3]
    assert part_of(items, 0.5, 0) != part_of(items, 0.5, 1)
    assert part_of(items, 0, 0) == []


def test_a_fine_tuned_row_has_the_steps_of_the_others(study):
    table = [{"name": "Tuned", "synthetic": {"copy_paste": 1}, "real": 0, "fine_tune": {"real": 0.5, "steps": 0.25}}]
    steps = planned(study(table=table, reference="Tuned", baseline=None, max_iterations=10))
    train, tune, judge = [
        steps[f"Tuned / net / fold 0 / seed 0: {what}"] for what in ("train", "fine-tune", "evaluate")
    ]
    assert train.options["max_iterations"] + tune.options["max_iterations"] == 10
    assert tune.options["initial_weights"] == train.folder / "models" / "model.pt"
    assert judge.options["weights"] == tune.folder / "models" / "model.pt"


def test_a_fine_tuning_may_have_settings_of_its_own(study):
    tune = {"steps": 0.5, "options": {"learning_rate": 0.1}}
    steps = planned(study(table=[{"name": "Tuned", "fine_tune": tune}], reference="Tuned", baseline=None))
    rates = [step.options.get("learning_rate") for step in steps.values() if step.kind == "train net"]
    assert rates == [None, 0.1]


def test_a_rows_datalist_has_the_folds_real_validation_and_test_subjects(study, tmp_path):
    made = study(rows=["Real"])
    fold = made.read_folds()[0]
    write_row_datalist(tmp_path / "row.json", made.rows[0], fold, 0, {})
    assert {k: [item["subject"] for item in part] for k, part in load_datalist(tmp_path / "row.json").items()} == (
        fold.subjects
    )


@pytest.mark.parametrize(
    ("derived", "said"),
    [
        ({}, "Synthetic_0 does not say from whom"),
        ({"derived_from": ["Stranger"]}, "Synthetic_0 is made from Stranger, who is in no part of this fold"),
    ],
)
def test_a_synthetic_subject_of_unknown_parents_is_refused(derived, said, study, tmp_path, refused):
    made = study()
    fold = made.read_folds()[0]
    row = next(row for row in made.rows if row.name == "Copy-paste")
    items = [{**item, "subject": f"Synthetic_{n}", **derived} for n, item in enumerate(fold.parts["training"])]
    write_datalist(tmp_path / "synthetic.json", {"training": items})
    with refused(found=said):
        write_row_datalist(tmp_path / "row.json", row, fold, 0, {"copy_paste": tmp_path / "synthetic.json"})


def test_a_grid_is_told_to_training_evaluation_and_synthesis(study):
    grids = {"slab": {"options": {"spatial_size": [8, 8, 8]}, "evaluate_options": {"grid": "training"}}}
    grids["slab"]["inference_options"] = {"grid": "training"}
    table = [
        {"name": name, "grid": grid, "synthetic": {"copy_paste": 1}} for name, grid in (("A", "slab"), ("B", None))
    ]
    steps = planned(study(table=table, grids=grids, reference="A", baseline=None))
    assert steps["A / net / fold 0 / seed 0: train"].options["spatial_size"] == [8, 8, 8]
    assert steps["A / net / fold 0 / seed 0: evaluate"].options["grid"] == "training"
    assert steps["fold 0: synthesize with copy_paste on slab"].options["grid"] == "training"
    assert "grid" not in steps["fold 0: synthesize with copy_paste"].options
    assert steps["A / net / fold 0 / seed 0: train"].needs == ("fold 0: synthesize with copy_paste on slab",)


def test_a_definition_does_not_depend_on_where_the_study_lies(study, tmp_path):
    here, there = planned(study()), planned(study(output_dir=str(tmp_path / "elsewhere")))
    assert {name: step.key for name, step in here.items()} == {name: step.key for name, step in there.items()}
    other = planned(
        study(generators={**study().config["generators"], "gan": {"bundle": "bundles/tiny", "options": {"note": 1}}})
    )
    changed = {name for name, step in here.items() if step.key != other[name].key}
    assert changed == {name for name in here if "gan" in name.lower()}  # and all that is made with it


@pytest.mark.parametrize(
    "value",
    [
        "training",
        "a b",
        "1e-3",
        "True",
        "#",
        "x#y",
        "it's",
        "[1]",
        "",
        None,
        3,
        0.5,
        True,
        [1, "a"],
        {"a": [None]},
        "$2 / 3",
    ],
)
def test_words_of_a_command_are_read_back_as_they_were(value):
    assert DefaultParseValue(literal(value)) == ("$None" if value is None else value)


def test_two_ways_of_using_one_generators_weights_need_one_training(study, settings):
    generators = settings()["generators"]
    generators["other"] = {"bundle": generators["gan"]["bundle"], "weights_of": "gan"}
    table = [{"name": "Real"}, {"name": "A", "synthetic": {"gan": 1}}, {"name": "B", "synthetic": {"other": 1}}]
    steps = planned(study(generators=generators, table=table, baseline=None))
    assert [step.kind for step in steps.values()].count("train generator gan") == 1
    weights = {s.options["weights"] for s in steps.values() if s.kind.startswith("synthesize")}
    assert len(weights) == 1
    assert len({step.folder for step in steps.values()}) == len(steps)


REFUSALS = {
    "weights": ({"generators": {"gan": {"bundle": "bundles/tiny", "weights_of": "none"}}}, {"found": "'none'"}),
    "row": ({"rows": ["Reel"]}, {"found": "'Reel'", "expected": "'Real + copy-paste'"}),
    "key": ({"table": [{"name": "Real", "rael": 1}]}, {"found": "rael"}),
    "generator": ({"table": [{"name": "Real", "synthetic": {"wgan": 1}}]}, {"found": "wgan", "expected": "gan"}),
    "grid": ({"table": [{"name": "Real", "grid": "slab"}]}, {"found": "slab"}),
    "share": ({"table": [{"name": "Real", "real": 1.5}]}, {"found": "1.5"}),
    "nothing": ({"table": [{"name": "Real", "real": 0}]}, {"found": "neither"}),
    "twice": ({"table": [{"name": "Real"}, {"name": "real"}]}, {"found": "'real'"}),
    "steps": ({"table": [{"name": "Real", "options": {"max_iterations": 9}}]}, {"found": "max_iterations"}),
    "reference": ({"reference": "Nobody"}, {"found": "Nobody"}),
    "bundle": ({"segmenters": {"net": {"bundle": "bundles/none"}}}, {"found": "no folder", "where": "segmenter net"}),
    "base of weights": (
        {
            "generators": {
                "base": {"bundle": "bundles/none"},
                "gan": {"bundle": "bundles/tiny", "weights_of": "base", "train": ["no such config"]},
                "copy_paste": {"bundle": "bundles/tiny", "train": None},
            }
        },
        {"where": "generator base"},
    ),
    "no fine-tuning": (
        {"table": [{"name": "Real", "fine_tune": {"steps": 0.1}}]},
        {"found": "0 of 3", "where": "table: Real"},
    ),
    "nothing but fine-tuning": ({"table": [{"name": "Real", "fine_tune": {"steps": 0.9}}]}, {"found": "3 of 3"}),
    "row's option": ({"table": [{"name": "Real", "options": {"crpo#x": 1}}]}, {"found": "crpo#x", "where": "Real"}),
    "fine-tuning's option": (
        {"table": [{"name": "Real", "fine_tune": {"steps": 0.5, "options": {"rate": 1}}}]},
        {"found": "rate", "where": "fine-tune"},
    ),
    "segmenter's option": (
        {"segmenters": {"net": {"bundle": "bundles/tiny", "options": {"sleeep": 1}}}},
        {"found": "sleeep", "expected": "train.json of tiny"},
    ),
    "evaluation's option": (
        {"segmenters": {"net": {"bundle": "bundles/tiny", "evaluate_options": {"augmentation": 1}}}},
        {"found": "augmentation", "expected": "evaluate.json of tiny"},
    ),
    "synthesis's option": (
        {
            "generators": {"gan": {"bundle": "bundles/tiny", "inference_options": {"seed": 1}}},
            "table": [{"name": "Real", "synthetic": {"gan": 1}}],
        },
        {"found": "seed", "expected": "inference.json of tiny"},
    ),
    "published": ({"published": {"nmae": "Somebody"}}, {"found": "nmae"}),
    "config": (
        {"segmenters": {"net": {"bundle": "bundles/tiny", "evaluate": ["judge.json"]}}},
        {"where": "judge.json"},
    ),
    "iterations": ({"max_iterations": 0}, {"found": "0"}),
    "pairs": ({"table": [{"name": "Real", "synthetic": {"gan": 3}}]}, {"found": "9 (3 x 3) of gan", "expected": "6"}),
    "test part": ({"split": {"validation": 1, "test": 1}}, {"expected": "2 subjects for test", "found": "1 in fold 0"}),
    "no data": ({"dataset_dir": None}, {"expected": "dataset_dir"}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused_before_the_work(name, study, bundles, refused):
    changes, fragments = REFUSALS[name]
    with refused(**fragments):
        study(**{"baseline": None, **changes}).run()
    assert not tree(bundles / "study")


def spoilt_datalist(change, subjects_dir, folder):
    """The datalist of a study, changed."""
    found = index(subjects_dir, validation=1, test=2)
    change(found)
    path = folder / "spoilt.json"
    path.write_text(json.dumps(found))
    return path


def synthetic_in_test(found):
    found["test"][0]["derived_from"] = [found["training"][0]["subject"]]


def synthetic_in_training(found):
    found["training"][0]["derived_from"] = [found["training"][1]["subject"]]


def other_labels(found):
    found["training"][0]["label_map"] = {"0": 0, "1": 2, "2": 1, "3": 4}


def unknown_label_value(found, folder):
    item = found["test"][0]
    label = nib.load(item["label"])
    voxels = np.asarray(label.dataobj).copy()
    voxels[0, 0, 0] = 3
    item["label"] = str(folder / "label.nii.gz")
    nib.save(nib.Nifti1Image(voxels, label.affine), item["label"])
    del found["label_map"]


def no_validation(found):
    del found["validation"]


def file_twice(found):
    found["test"][0]["image"] = found["training"][0]["image"]


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (synthetic_in_test, {"found": "in test is synthetic"}),
        (synthetic_in_training, {"expected": "real subjects alone"}),
        (other_labels, {"expected": "one meaning of the label values"}),
        (no_validation, {"expected": "section 'validation'"}),
        (file_twice, {"found": "is the same file as"}),
        (unknown_label_value, {"expected": "label values [0, 1, 2, 4]", "found": "3", "where": "label.nii.gz"}),
    ],
)
def test_a_datalist_that_would_mislead_is_refused(change, fragments, study, subjects_dir, tmp_path, refused):
    if change is unknown_label_value:
        change = partial(change, folder=tmp_path)
    path = spoilt_datalist(change, subjects_dir, tmp_path)
    with refused(**fragments):
        study(dataset_dir=None, datalist=path).run()


def test_a_file_of_two_subjects_is_found_when_a_fold_divides_them(study, subjects_dir, tmp_path, refused):
    def in_one_part(found):
        found["training"][0]["image"] = found["training"][1]["image"]

    path = spoilt_datalist(in_one_part, subjects_dir, tmp_path)
    changes = {"dataset_dir": None, "datalist": path, "folds": 6, "split": {"validation": 0}}
    assert load_datalist(path)  # within the training part it does no harm
    with refused(found="is the same file as"):
        make_folds(load_datalist(path), 3, 0, 0)
    with refused():
        study(**changes).run()


@pytest.mark.parametrize("section", ["training", "test"])
def test_a_region_that_a_part_lacks_is_named(section, study, subjects_dir, tmp_path, refused):
    copy = tmp_path / "data"
    shutil.copytree(subjects_dir, copy)
    for item in index(copy, validation=1, test=2, use_cache=False)[section]:
        label = nib.load(item["label"])
        voxels = np.where(np.asarray(label.dataobj) == 4, 1, np.asarray(label.dataobj))
        nib.save(nib.Nifti1Image(voxels.astype(np.uint8), label.affine), item["label"])
    with refused(expected=f"region ET (label values [4]) in some {section} subject"):
        study(dataset_dir=str(copy), index_options={"dataset": "brats2021"}).run()


def test_a_dry_run_shows_the_plan_and_writes_nothing(study, bundles, capsys):
    study(dry_run=True, seeds=[0, 1]).run()
    said = capsys.readouterr().out
    assert not tree(bundles / "study")
    assert "23 steps, 23 to do" in said
    assert "1 of generators, 10 of segmenters; evaluations: 10" in said
    assert "2x GAN: 0 real + 6 gan; 3 optimization steps" in said
    assert "unknown until one of each kind has run" in said


def test_a_dry_run_learns_from_what_has_ended(study, bundles, capsys):
    study(rows=["Real"]).run()
    before = tree(bundles / "study")
    study(rows=["Real"], seeds=[0, 1], dry_run=True).run()
    said = capsys.readouterr().out
    assert tree(bundles / "study") == before
    assert "4 steps, 2 to do" in said and "from the steps that have ended" in said


@pytest.mark.slow
def test_short_runs_tell_seconds_an_iteration(study, bundles, capsys):
    table = [{"name": "Real", "options": {"sleep": 0.6}}]
    study(table=table, baseline=None, max_iterations=1000, dry_run=True, probe=True, parallel=1).run()
    said = capsys.readouterr().out
    assert not tree(bundles / "study")
    line = next(line for line in said.splitlines() if line.startswith("Real / net / fold 0 / seed 0: train"))
    minutes = int(line.split("about ")[1].split(" min")[0])
    assert 9 <= minutes <= 12  # 1000 times 0.6 seconds, and what the process takes


def test_short_runs_know_whose_weights_a_generator_takes(study, settings, capsys):
    generators = {"gan": {"bundle": "bundles/tiny"}, "other": {"bundle": "bundles/tiny", "weights_of": "gan"}}
    table = [{"name": "Other", "real": 0, "synthetic": {"other": 1}}]
    study(generators=generators, table=table, reference="Other", baseline=None, dry_run=True, probe=True).run()
    said = capsys.readouterr().out
    assert "time: about" in said and "unknown" not in said


def test_rows_that_nobody_wants_are_not_in_the_way(study, settings):
    generators = settings()["generators"] | {"broken": {"bundle": "bundles/tiny", "inference": ["none.json"]}}
    table = [
        {"name": "Real"},
        {"name": "Too many", "synthetic": {"gan": 9}},
        {"name": "Broken", "synthetic": {"broken": 1}},
        {"name": "Mistaken", "options": {"nobody": 1}},
        {"name": "Good", "synthetic": {"gan": 1}},
    ]
    made = study(table=table, generators=generators, rows=["Real"], baseline=None)
    assert {step.part.row for step in made.all_steps(made.read_folds()) if step.part} == {"Real", "Good"}


def step(name, kind, work, folder, needs=()):
    return Step(name, kind, folder, (), {}, {}, work=work, needs=needs)


def test_time_is_that_of_the_longest_chain_or_of_all_processes(tmp_path):
    timing = Timing({"a": (1.0, 2.0)})
    steps = [step("1", "a", 2, tmp_path), step("2", "a", 2, tmp_path, ("1",)), step("3", "a", 2, tmp_path)]
    assert timing.rest(steps, 1) == 15
    assert timing.rest(steps, 8) == 10  # the second waits for the first
    assert timing.rest(steps, 8, {"1": 3.0}) == 7
    timing.learn(
        [{"kind": "a", "seconds": 8.0, "work": 2}, {"kind": "a", "seconds": 900.0, "work": 2, "resumed": True}]
    )
    assert timing.rest(steps, 1) == 24
    assert timing.rest([*steps, step("4", "b", 1, tmp_path)], 1) is None


def test_folds_are_those_of_the_seed(study):
    parts = study().read_folds()[0].parts
    assert make_folds(parts, 3, 0, 0)[0].subjects == make_folds(parts, 3, 0, 0)[0].subjects
    assert make_folds(parts, 3, 0, 0)[0].subjects != make_folds(parts, 3, 1, 0)[0].subjects


@pytest.mark.parametrize(
    ("configs", "grid"),
    [(("study",), "generator"), (("study", "study_paper"), "slab"), (("study", "study_recipe"), "generator")],
)
def test_the_shipped_studies_fit_the_bundles(configs, grid, bundle_workflow, brats, make_brain, tmp_path):
    write, _ = brats
    for number in range(15):
        write(tmp_path / "data", f"BraTS2021_{number:05d}", make_brain(number))
    options = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "study")}
    with bundle_workflow("tumor3d", configs, **options) as workflow:
        experiment = workflow.parser.get_parsed_content("experiment")
    steps, folds = planned(experiment), experiment.read_folds()
    trained = Counter((step.part.segmenter, step.kind.split(" on ")[1]) for step in steps.values() if is_training(step))
    rows = Counter(row.grid for row in experiment.rows)
    tuned = sum(row.fine_tune is not None for row in experiment.rows)
    assert rows[grid] >= 11 and set(rows) == ({grid, "native"} if "study_paper" in configs else {grid})
    for segmenter in ("deepmedic", "unet3d"):
        assert trained[segmenter, grid] == (rows[grid] + tuned) * len(folds)
        assert trained[segmenter, "native"] == rows["native"] * len(folds)
    whose = {step.options.get("spectral_norm") for step in steps.values() if step.kind.startswith("train generator")}
    assert {"both", "none"} <= whose
    assert not tree(tmp_path / "study")
    if "study_recipe" not in configs:
        assert [row.name for row in experiment.rows][:2] == ["Real", "Real + 1x Synth SN"]
        assert [row.published["WT"] for row in experiment.rows[:9]] == [
            0.611, 0.595, 0.601, 0.028, 0.035, 0.177, 0.100, 0.174, 0.100
        ]  # fmt: skip
        n = len(folds[0].parts["training"])
        assert {step.work for step in steps.values() if step.kind.startswith("synthesize with thesis")} == {3 * n}


def is_training(step):
    """Whether a step trains a segmenter."""
    return step.part is not None and step.run[0] == "training"

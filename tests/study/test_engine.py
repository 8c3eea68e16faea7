"""Running a study: nothing twice, nothing lost, nothing left running, and one row's failure is not another's."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from mrsynth.errors import UserError
from mrsynth.study.engine import environment, start_cluster
from mrsynth.study.steps import tail

ROW = "rows/real/net/fold_0/seed_0"


def results(folder):
    """The scores of a study, in order."""
    with open(folder / "results.csv", encoding="utf-8", newline="") as stream:
        return sorted(tuple(line.items()) for line in csv.DictReader(stream))


def stamps(folder):
    """When each complete step was completed."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")}


def as_program(settings, path, **environment):
    """The study as a process of its own."""
    path.write_text(json.dumps(settings))
    code = (
        "import json, sys, mrsynth; mrsynth.logs.configure(); mrsynth.study.Study(**json.load(open(sys.argv[1]))).run()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, seconds=60):
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return value


def alive(pid):
    """Whether a process runs (one that has ended and waits for its parent does not)."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_study_runs_once_and_its_scores_are_all_there(study, bundles, capsys, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    folder = bundles / "study"
    study(seeds=[0, 1]).run()
    assert len(results(folder)) == 5 * 2 * 2 * 3  # rows, seeds, test subjects, regions
    before, first = stamps(folder), results(folder)
    assert len(before) == 1 + 2 + 2 * 5 * 2  # generator, synthetic sets, trainings and evaluations
    assert "[23 of 23]" in capsys.readouterr().out

    (folder / "results.csv").unlink()
    study(seeds=[0, 1]).run()
    assert stamps(folder) == before
    assert results(folder) == first

    record = json.loads((folder / ROW / "train" / "done.json").read_text())
    assert {"command", "seconds", "versions", "inputs", "outputs"} <= set(record)
    assert f"{ROW}/train.json" in record["inputs"] and f"{ROW}/train/models/model.pt" in record["outputs"]
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"with {threads} threads" in tail(folder / ROW / "train" / "log.txt")


def test_a_study_on_this_machine_listens_to_no_other():
    with start_cluster(None, 2, Path()):
        listening = [c.laddr.ip for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN]
    assert set(listening) <= {"127.0.0.1"}


def test_threads_are_as_the_user_has_said(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(1)["OMP_NUM_THREADS"] == "3"


def test_more_synthetic_subjects_are_added_without_training_anew(study, bundles):
    study(rows=["Real", "Real + 1x GAN"]).run()
    weights = bundles / "study/fold_0/generators/gan/done.json"
    before = weights.stat().st_mtime_ns
    datalist = bundles / "study/fold_0/synthetic/gan/own_grid/synthetic/datalist.json"
    few = json.loads(datalist.read_text())["training"]
    study(rows="2x GAN").run()
    many = json.loads(datalist.read_text())["training"]
    assert (len(few), len(many)) == (3, 6) and many[:3] == few
    assert weights.stat().st_mtime_ns == before
    assert {dict(line)["row"] for line in results(bundles / "study")} == {"Real", "Real + 1x GAN", "2x GAN"}


@pytest.mark.slow
def test_a_stopped_study_leaves_no_process_and_goes_on(settings, study, bundles, tmp_path):
    folder, copy = bundles / "study", bundles / "uninterrupted"
    table = [{"name": "Real", "options": {"sleep": 0.15}}, {"name": "Copy", "real": 0, "synthetic": {"copy_paste": 1}}]
    changes = {
        "table": table,
        "baseline": None,
        "max_iterations": 20,
        "parallel": 1,
        "segmenters": {"net": {"bundle": "bundles/tiny"}},
    }
    process = as_program(settings(**changes), tmp_path / "study.json")
    checkpoint = folder / ROW / "train" / "models" / "checkpoint.json"
    wait_for(checkpoint.is_file)
    pid = json.loads(wait_for(lambda: (folder / ROW / "train" / "step.json").read_text()))["pid"]
    assert alive(pid)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "goes on from here" in said and "Traceback" not in said
    assert not alive(pid)
    assert not (folder / ROW / "train" / "done.json").exists()

    study(**changes).run()
    log = (folder / ROW / "train" / "log.txt").read_text()
    assert log.count("starting after iteration 0\n") == 1 and log.count("starting after") == 2
    study(**changes, output_dir=str(copy)).run()
    assert results(folder) == results(copy)


def test_what_a_killed_study_left_running_is_found(settings, study, bundles, tmp_path, refused):
    changes = {"table": [{"name": "Real", "options": {"sleep": 0.2}}], "baseline": None, "max_iterations": 100}
    process = as_program(settings(**changes), tmp_path / "study.json")
    step = bundles / "study" / ROW / "train" / "step.json"
    wait_for(step.is_file)
    pid = json.loads(step.read_text())["pid"]
    process.kill()
    process.communicate()
    try:
        with refused(found=f"process {pid}", do=f"kill {pid}"):
            study(**changes).run()
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_row_that_fails_stops_no_other(study, bundles, refused, capsys):
    table = [{"name": "Real"}, {"name": "Broken", "options": {"fail": True}}]
    with refused(found="Broken / net / fold 0 / seed 0: train"):
        study(table=table, baseline=None).run()
    assert "this one fails" in capsys.readouterr().out
    assert {dict(line)["row"] for line in results(bundles / "study")} == {"Real"}
    assert "Broken" in (bundles / "study" / "study.html").read_text()
    run = json.loads(next((bundles / "study" / "runs").iterdir()).read_text())
    assert [(cell["row"], "this one fails" in cell["tail"]) for cell in run["failed"]] == [("Broken", True)]


def test_a_generator_that_fails_fails_only_the_rows_that_need_it(study, bundles, refused):
    generators = {
        "gan": {"bundle": "bundles/tiny", "options": {"fail": True}},
        "copy_paste": {"bundle": "bundles/tiny", "train": None},
    }
    with refused(found="train generator gan"):
        study(generators=generators).run()
    assert {dict(line)["row"] for line in results(bundles / "study")} == {"Real", "Copy-paste", "Real + copy-paste"}
    run = json.loads(next((bundles / "study" / "runs").iterdir()).read_text())
    assert {cell["row"] for cell in run["failed"]} == {"Real + 1x GAN", "2x GAN"}
    assert all("generators/gan" in cell["log"] for cell in run["failed"])


@pytest.mark.parametrize("where", ["options", "inference_options"])
def test_a_test_subject_among_the_parents_stops_the_study(study, bundles, refused, where):
    someone = study().read_folds()[0].ids("test")[0]
    generators = {"gan": {"bundle": "bundles/tiny", where: {"stranger": someone}}}
    with refused(found=someone):
        study(
            table=[{"name": "GAN", "real": 0, "synthetic": {"gan": 1}}],
            generators=generators,
            reference="GAN",
            baseline=None,
        ).run()
    assert not list((bundles / "study" / "rows").rglob("model.pt"))
    page = (bundles / "study" / "study.html").read_text()
    assert "stopped before its end" in page and "GAN, net, fold 0, seed 0" in page and someone in page
    made = list((bundles / "study").rglob("synthetic/datalist.json"))
    assert bool(made) == (where == "inference_options")  # weights that have seen a test subject make nothing


def test_another_configuration_is_refused_with_what_differs(study, bundles, refused):
    study(rows=["Real"]).run()
    with refused(found="max_iterations: 3 there, 4 now"):
        study(rows=["Real"], max_iterations=4).run()
    with refused(found="elsewhere"):
        study(rows=["Real"], split={"seed": 5, "validation": 1, "test": 2}).run()


def edit_while(process, file, condition):
    """Change a config as soon as the condition holds; what the process printed, and its exit status."""
    wait_for(condition)
    file.write_text('{"max_epochs": 3}')
    said, _ = process.communicate(timeout=60)
    return said, process.returncode


@pytest.mark.slow
def test_a_config_that_changes_meanwhile_stops_the_study(settings, bundles, tmp_path):
    table = [{"name": "Real", "options": {"sleep": 0.5}}, {"name": "Again"}]
    process = as_program(settings(table=table, baseline=None, parallel=1), tmp_path / "study.json")
    config = bundles / "bundles" / "tiny" / "configs" / "train.json"
    said, status = edit_while(process, config, (bundles / "study" / ROW / "train" / "step.json").is_file)
    assert status != 0 and "one that has changed since the study began" in said and str(config) in said
    assert not list((bundles / "study" / "rows" / "again").rglob("model.pt"))
    assert "has changed since the study began" in (bundles / "study" / "study.html").read_text()


@pytest.mark.slow
def test_a_config_that_changes_too_late_to_matter_loses_no_score(settings, bundles, tmp_path):
    segmenters = {"net": {"bundle": "bundles/tiny", "evaluate_options": {"sleep": 1}}}
    changes = {"table": [{"name": "Real"}], "baseline": None, "segmenters": segmenters}
    process = as_program(settings(**changes), tmp_path / "study.json")
    config = bundles / "bundles" / "tiny" / "configs" / "train.json"
    said, status = edit_while(process, config, (bundles / "study" / ROW / "evaluate" / "step.json").is_file)
    assert status == 0, said
    assert len(results(bundles / "study")) == 6


def test_two_studies_do_not_work_on_one_row(study, bundles, refused):
    folder = bundles / "study" / "rows" / "copy_paste"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        with refused(found="two studies started in the same folder: row 'Copy-paste'"):
            study().run()
        study(rows=["Real"]).run()
    assert (bundles / "study" / ROW / "evaluate" / "done.json").is_file()


@pytest.mark.slow
def test_a_generator_in_another_studys_hands_is_waited_for(settings, study, bundles, tmp_path):
    maker = bundles / "study" / "fold_0" / "synthetic" / "copy_paste" / "own_grid"
    maker.mkdir(parents=True)
    with FileLock(maker / ".lock"):
        process = as_program(settings(rows=["Copy-paste"], baseline=None), tmp_path / "study.json")
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "waiting for another study" in line:
                break
        assert process.poll() is None and not (maker / "done.json").exists()
    process.communicate(timeout=60)
    assert process.returncode == 0 and (maker / "done.json").is_file()


@pytest.mark.slow
def test_two_studies_at_once_share_a_generator_and_never_a_row(settings, bundles, tmp_path):
    maker, go = bundles / "study" / "fold_0" / "generators" / "gan", tmp_path / "go"
    changes = {
        "generators": {"gan": {"bundle": "bundles/tiny", "options": {"until": str(go)}}},
        "table": [{"name": "A", "real": 0, "synthetic": {"gan": 1}}, {"name": "B", "synthetic": {"gan": 2}}],
        "reference": "B",
        "baseline": None,
    }
    first = as_program(settings(**changes, rows=["A"]), tmp_path / "first.json")
    wait_for((maker / "step.json").is_file)
    same = as_program(settings(**changes, rows=["A"]), tmp_path / "same.json")
    other = as_program(settings(**changes, rows=["B"]), tmp_path / "other.json")
    said, _ = same.communicate(timeout=120)
    assert same.returncode != 0 and "two studies started in the same folder: row 'A'" in said
    assert any("waiting for another study" in line for line in other.stdout)  # reads no further than that
    go.touch()
    for process in (first, other):
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert (maker / "log.txt").read_text().count("starting after") == 1
    assert {dict(line)["row"] for line in results(bundles / "study")} == {"A", "B"}


def test_a_bundle_that_makes_other_iterations_fails_its_row(study, bundles, refused):
    table = [{"name": "Real"}, {"name": "Long", "options": {"ignores": 5}}]
    with refused(found="Long / net / fold 0 / seed 0: train"):
        study(table=table, baseline=None).run()
    assert {dict(line)["row"] for line in results(bundles / "study")} == {"Real"}
    assert "weights of 3 optimization steps" in (bundles / "study" / "study.html").read_text()


def test_scores_that_are_not_all_there_fail_their_row_alone(study, settings, bundles, refused, capsys):
    segmenters = {
        "net": {"bundle": "bundles/tiny"},
        "bad": {"bundle": "bundles/tiny", "evaluate_options": {"spoil": 1}},
    }
    changes = {"rows": ["Real"], "segmenters": segmenters}
    with refused(found="Real / bad / fold 0 / seed 0: evaluate"):
        study(**changes).run()
    assert "3 lines; other or missing" in capsys.readouterr().out
    assert {dict(line)["segmenter"] for line in results(bundles / "study")} == {"net"}
    scores = bundles / "study" / ROW / "evaluate" / "evaluation" / "per_subject.csv"
    scores.write_text(scores.read_text().replace("0.", "O."))
    with refused(found="bad"):
        study(**changes).run()
    assert "could not convert" in (bundles / "study" / "study.html").read_text()


def test_what_is_made_from_other_weights_is_done_anew(study, bundles):
    folder = bundles / "study"
    row = folder / "rows" / "real_1x_gan" / "net" / "fold_0" / "seed_0"
    study(rows=["Real", "Real + 1x GAN"]).run()
    before, scores = stamps(folder), results(folder)
    weights = folder / "fold_0" / "generators" / "gan" / "models" / "model.pt"
    (record,) = json.loads(weights.with_suffix(".json").read_text()).values()
    weights.write_text("others")
    weights.with_suffix(".json").write_text(json.dumps({hashlib.sha256(b"others").hexdigest(): record}))
    study(rows=["Real", "Real + 1x GAN"]).run()
    after = stamps(folder)
    # the segmenter comes out the same, since only the subjects' names go into it: its evaluation stands
    assert {path for path in before if before[path] != after[path]} == {
        folder / "fold_0" / "synthetic" / "gan" / "own_grid" / "done.json",
        row / "train" / "done.json",
    }
    assert (row / "train" / "log.txt").read_text().count("starting after iteration 0\n") == 2  # not resumed
    assert results(folder) == scores


def test_steps_of_other_versions_and_other_scripts_are_seen(study, bundles, refused):
    study(rows=["Real"]).run()
    page = (bundles / "study" / "study.html").read_text()
    for name in ("tiny/configs/train.json", "tiny/scripts/networks.py", "statsmodels", "jinja2"):
        assert name in page
    assert "same versions" not in page
    done = bundles / "study" / ROW / "train" / "done.json"
    record = json.loads(done.read_text())
    record["versions"]["mrsynth"] = "0.0.1"
    done.write_text(json.dumps(record))
    study(rows=["Real"]).run()
    assert "mrsynth: 0.0.1 in 1 of 2 steps" in (bundles / "study" / "study.html").read_text()
    (bundles / "bundles" / "tiny" / "scripts" / "networks.py").write_text("LAYERS = 4\n")
    with refused(found="scripts/networks.py"):
        study(rows=["Real"]).run()


def test_a_study_goes_on_where_the_data_lie_elsewhere(study, bundles, subjects_dir, tmp_path):
    shutil.copytree(subjects_dir, tmp_path / "here")
    study(rows=["Real"], dataset_dir=str(tmp_path / "here")).run()
    before = stamps(bundles / "study")
    (tmp_path / "here").rename(tmp_path / "there")
    study(rows=["Real", "Real + 1x GAN"], dataset_dir=str(tmp_path / "there")).run()
    after = stamps(bundles / "study")
    assert {path: after[path] for path in before} == before
    assert {dict(line)["row"] for line in results(bundles / "study")} == {"Real", "Real + 1x GAN"}


def test_a_step_whose_weights_are_gone_is_done_again(study, bundles):
    study(rows=["Real"]).run()
    shutil.rmtree(bundles / "study" / ROW / "train" / "models")
    study(rows=["Real"]).run()
    assert (bundles / "study" / ROW / "train" / "models" / "model.pt").is_file()


def test_a_failed_step_is_tried_again(study, bundles):
    with pytest.raises(UserError):
        study(rows=["Real"], program=[sys.executable, "-c", "raise SystemExit(3)"]).run()
    assert results(bundles / "study") == []
    assert "exit status 3" in (bundles / "study" / "study.html").read_text()
    study(rows=["Real"]).run()
    assert len(results(bundles / "study")) == 6

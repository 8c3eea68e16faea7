"""A study as jobs of a real Slurm: one node with two slots, started for the test. Skipped where Slurm is missing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.study.test_engine import ROW, alive, as_program, results, wait_for

SCRIPT = Path(__file__).parents[2] / "tools" / "slurm_node.sh"
PROGRAMS = ("sbatch", "squeue", "slurmctld", "slurmd", "munged")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(shutil.which(name, path=PATH) for name in PROGRAMS), reason="needs Slurm and MUNGE"),
]


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A Slurm of one node."""
    folder = tmp_path_factory.mktemp("slurm")
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = {"SLURMCTLD_PORT": str(one.getsockname()[1]), "SLURMD_PORT": str(two.getsockname()[1])}
    try:
        subprocess.run([SCRIPT, "start", folder], check=True, timeout=60, env={**os.environ, **ports})
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=90)


def jobs() -> list[str]:
    """Numbers of the jobs that run or wait."""
    return subprocess.run(["squeue", "--noheader", "--format=%i"], capture_output=True, text=True).stdout.split()


def workers() -> list[int]:
    """Processes of Dask workers that this Slurm has started, in jobs that may have ended."""
    conf = os.fsencode(f"SLURM_CONF={os.environ['SLURM_CONF']}")
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(OSError, psutil.Error):
            environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            if "distributed.cli.dask_worker" in (process.info["cmdline"] or []) and conf in environ:
                found.append(process.pid)
    return found


def test_a_study_killed_on_slurm_goes_on_and_finds_the_scores_of_one_on_this_machine(
    slurm, settings, study, bundles, tmp_path
):
    cluster = {"memory": "1GB", "walltime": "00:10:00"}
    copy = {"name": "Copy", "real": 0, "synthetic": {"copy_paste": 1}}
    changes = {"table": [{"name": "Real", "options": {"sleep": 0.5}}, copy], "baseline": None, "max_iterations": 20}
    process = as_program(settings(**changes, cluster=cluster), tmp_path / "study.json")
    training = bundles / "study" / ROW / "train"
    wait_for((training / "models" / "checkpoint.json").is_file, 120)
    assert len(jobs()) == 2
    pid = json.loads((training / "step.json").read_text())["pid"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not jobs() and not alive(pid), 120)
    assert not (training / "done.json").exists()

    process = as_program(settings(**changes, cluster=cluster), tmp_path / "study.json")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    wait_for(lambda: not jobs() and not workers(), 30)
    log = (training / "log.txt").read_text()
    assert log.count("starting after iteration 0\n") == 1 and log.count("starting after") == 2
    assert list((bundles / "study" / "slurm").iterdir())

    study(**{**changes, "table": [{"name": "Real"}, copy]}, output_dir=str(bundles / "local")).run()
    assert results(bundles / "study") == results(bundles / "local")


def test_jobs_that_cannot_work_end_the_study_with_their_output(slurm, study, refused):
    cluster = {"memory": "1GB", "walltime": "00:10:00", "python": "/no/such/python"}
    with refused(found="/no/such/python", where="slurm", do="job_script_prologue"):
        study(rows=["Real"], cluster=cluster, parallel=1).run()
    wait_for(lambda: not jobs(), 30)

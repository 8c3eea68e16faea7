"""Files are whole or not there."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mrsynth.files import atomic_path, sha256, write_json
from mrsynth.home import cache_home


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def run(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_file_appears_whole_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "whole" and names(path.parent) == ["c.txt"]


def test_the_temporary_name_keeps_the_suffix_that_writers_choose_a_format_by(tmp_path):
    with atomic_path(tmp_path / "BraTS2021_00000_t1.nii.gz") as temporary:
        assert temporary.name.startswith(".tmp-") and temporary.name.endswith(".nii.gz")
        temporary.touch()


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and names(tmp_path) == ["c.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.touch()
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("old")
    code = """
import sys, time
from mrsynth.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert path.read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".tmp-")] == ["c.txt"]


# A limit on the size of a file is a small disk that every user may make.
ON_A_SMALL_DISK = """
import resource, signal, sys
import nibabel, numpy, torch
from mrsynth.errors import UserError
from mrsynth.files import atomic_path, write_json
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
path, how = sys.argv[1:]
try:
    with atomic_path(path) as temporary:
        noise = numpy.random.default_rng(0).integers(0, 30000, (40, 40, 40)).astype(numpy.int16)
        if how == "bytes":
            temporary.write_bytes(noise.tobytes())
        elif how == "torch":
            torch.save({"a": torch.from_numpy(noise)}, temporary)
        elif how == "nibabel":
            nibabel.save(nibabel.Nifti1Image(noise, numpy.eye(4)), temporary)
except UserError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("how", "name"),
    [("bytes", "f.bin"), ("torch", "f.pt"), ("nibabel", "f.nii"), ("nibabel", "f.nii.gz")],
)
def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, how, name):
    (tmp_path / name).write_text("old")
    ended = run(ON_A_SMALL_DISK, tmp_path / name, how)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "no space left" in ended.stdout and name in ended.stdout and "free some space" in ended.stdout
    assert (tmp_path / name).read_text() == "old" and names(tmp_path) == [name]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, refused):
    (tmp_path / "file").touch()
    with (
        refused(expected="can be written", where="file/c.txt", do="output_dir"),
        atomic_path(tmp_path / "file" / "c.txt"),
    ):
        pass


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path):
    code = "import sys; from mrsynth.files import write_json; [write_json(sys.argv[1], [i] * 999) for i in range(40)]"
    path = tmp_path / "c.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        if path.is_file():
            content = path.read_text()
            assert content.startswith("[") and content.endswith("]\n")
            seen += 1
        time.sleep(0.002)
    assert seen and names(tmp_path) == ["c.json"]
    assert [writer.returncode for writer in writers] == [0, 0]


def test_a_digest_is_that_of_the_bytes(tmp_path):
    write_json(tmp_path / "c.json", {"a": 1})
    assert sha256(tmp_path / "c.json") == hashlib.sha256((tmp_path / "c.json").read_bytes()).hexdigest()


def test_the_cache_is_where_the_environment_says_and_nothing_is_made_by_asking(tmp_path, monkeypatch):
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path / "mine"))
    assert cache_home() == tmp_path / "mine"
    monkeypatch.delenv("MRSYNTH_HOME")
    assert cache_home().name == "mrsynth"
    assert names(tmp_path) == []

"""The commands of the documentation: all name existing files and known settings; a newcomer's first ones run."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from mrsynth.__main__ import COMMANDS
from mrsynth.settings import check_options

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("bundles/*/docs/README.md")),
]
PROGRAMS = ("python", "pip", "pytest", "torchrun", "mrsynth", "mkdocs", "ruff", "mypy", "git", "srun", "sbatch")


def fenced(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in some languages."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for _, language, body in found if language in languages]


def blocks(page: Path) -> list[str]:
    """The blocks of a page that a reader pastes into a shell."""
    shell = fenced(page, "bash", "")
    return [body for body in shell if any(re.search(rf"(^|\W){name} ", body, re.MULTILINE) for name in PROGRAMS)]


def commands(block: str) -> list[list[str]]:
    """The commands of a block, word by word: bash takes the block apart, with functions that print their words."""
    stubs = "\n".join(f"{name}() {{ printf '%s\\x1f' {name} \"$@\"; printf '\\x1e'; }}" for name in PROGRAMS)
    stubs += "\nsource() { :; }"
    ended = subprocess.run(
        ["bash", "-euc", f"PATH=\n{stubs}\n{block}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, f"{ended.stderr}\n{block}"
    return [command.split("\x1f")[:-1] for command in ended.stdout.split("\x1e")[:-1]]


def options(words: list[str]) -> tuple[list[str], dict[str, object]]:
    """Positional words, and options by name with their values as Python Fire reads them."""
    positional, named = [], {}
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            positional.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "True"
        named[name] = DefaultParseValue(value)
    return positional, named


def check_bundle_run(words: list[str]) -> None:
    (entry, *rest), given = options(words)
    assert not rest, f"words without a name: {rest}"
    files = given.pop("config_file")
    files = [ROOT / file for file in (files if isinstance(files, list) else [files]) if "/" in file]  # others: reader's
    assert all(file.is_file() for file in files), files
    root = files[0].parents[1]
    config = {}
    for file in files:
        config |= ConfigParser.load_config_file(file)
    assert isinstance(config.get(entry), list) or str(config.get(entry)).startswith("%"), f"no run {entry} in {files}"
    check_options(str(root), [str(file) for file in files], given)


def check_mrsynth(words: list[str]) -> None:
    positional, given = options(words)
    if not positional:
        return
    command, *positional = positional
    if "help" not in given:
        inspect.signature(COMMANDS[command]).bind(*positional, **given)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_printed_command_names_existing_configs_and_known_settings(page):
    for block in blocks(page):
        for words in commands(block):
            line = " ".join(words)
            if "lsgan2d" in line:  # the example of CONTRIBUTING.md, which a test below creates
                continue
            if " -m monai.bundle run " in line:
                check_bundle_run(words[words.index("run") + 1 :])
            elif line.startswith(("python -m mrsynth", "mrsynth")):
                check_mrsynth(words[words.index("mrsynth") + 1 :])
            elif words[0] == "python" and words[1].endswith(".py"):
                assert (ROOT / words[1]).is_file(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`((?:tests|tools|bundles|docs|examples|data_manifest)/[\w./-]+)`", page.read_text("utf-8"))
    assert not [name for name in named if not re.search("mine|lsgan2d", name) and not (ROOT / name).exists()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A copy of the repository in which a training lasts one epoch on ten small phantoms, and its environment.

    The environment sees the packages of this one; what `pip install -e .` installs stays in it.
    """
    folder = tmp_path_factory.mktemp("copy") / "mrsynth"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    replace(folder / "bundles/tumor3d/configs/train.json", '"max_epochs": 20', '"max_epochs": 1')
    replace(folder / "tools/mrsynth/phantom/dataset.py", "subjects=20, spacing=2.0", "subjects=10, spacing=4.0")
    venv = folder.parent / "env"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=300)
    pip = [venv / "bin" / "python", "-m", "pip", "uninstall", "--yes", "--quiet", "setuptools"]
    subprocess.run(pip, check=False, timeout=300, capture_output=True)  # Python 3.11's is too old for pyproject.toml
    inside = subprocess.run(
        [venv / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (Path(inside) / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "MRSYNTH_HOME": str(folder.parent / "home"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this as "no build isolation"
        "PYTEST_ADDOPTS": "tests/test_errors.py",
    }
    return folder, environment


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def bash(block: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a block as it is typed; return what it prints."""
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, f"{block}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


def run_page(page: str, copy: tuple[Path, dict[str, str]]) -> str:
    """Run all commands of a page in the copy, block by block."""
    return "".join(bash(block, *copy) for block in blocks(ROOT / page))


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_typed_in_a_copy_with_a_short_training(copy):
    printed = run_page("README.md", copy)
    assert "Successfully installed mrsynth" in printed
    assert " passed" in printed
    assert (copy[0] / "bundles/tumor3d/models/model.pt").is_file()


@pytest.mark.slow
def test_the_first_five_minutes_run_as_typed_in_a_copy_with_a_short_training(copy):
    run_page("docs/start.md", copy)
    (python,) = fenced(ROOT / "docs/start.md", "python")
    printed = bash(f"python - <<'END'\n{python}\nEND", *copy)
    assert "[4, 60, 60, 39]) torch.Size([1, 60, 60, 39]) ['Phantom_" in printed
    first = copy[0] / "runs/first"
    assert (first / "models/model.pt").is_file() and list((first / "logs/montage").glob("*.png"))
    assert len([path for path in (first / "synthetic").iterdir() if path.is_dir()]) == 4
    assert any((first / "evaluation").iterdir())


@pytest.mark.slow
def test_the_example_of_the_contributing_guide_passes_its_tests(copy):
    """Its files are created as listed, its commands are run as typed, without the slow tests."""
    folder, environment = copy
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listings = re.findall(r'^(`{3,})\w+ title="([^"]+)"\n(.*?)^\1$', text, re.DOTALL | re.MULTILINE)
    folders, generate, check = (
        re.search(rf"```bash\n({start}.*?)```", text, re.DOTALL)[1]
        for start in ("mkdir", "python tools/configs/generate.py\npython", "pytest tests/bundles")
    )
    small, overlays = re.findall(r'```python\n( +"lsgan2d"[^`]*)```', text)
    bash(f"pip install -e .\n{folders}", folder, environment)
    for _, title, body in listings:
        assert (folder / title).parent.is_dir(), title
        (folder / title).write_text(body, encoding="utf-8")
    tests = folder / "tests/bundles/test_image_bundles.py"
    replace(tests, "SMALL = {\n", f"SMALL = {{\n{small}")
    replace(tests, "OVERLAYS = {\n", f"OVERLAYS = {{\n{overlays}")
    (folder / "bundles/lsgan2d/docs/montage.png").write_bytes((ROOT / "bundles/flair2d/docs/montage.png").read_bytes())
    assert "### train.json" in bash(generate, folder, environment)
    printed = bash(
        check, folder, environment | {"PYTEST_ADDOPTS": "-m 'not slow'", "PYTHONPATH": str(folder / "tools")}
    )
    assert int(re.search(r"(\d+) passed", printed)[1]) > 15

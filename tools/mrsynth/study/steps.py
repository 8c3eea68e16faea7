"""One step of a study: a program that is run in a folder of its own, and what that folder says about it.

``step.json`` is written when a step begins and says what it is; ``done.json`` is written last, whole or not at all,
and holds the command, the seconds it took, versions, and the SHA-256 of what went in and came out (see
:func:`fingerprint`); ``log.txt`` is what the program printed.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import os
import re
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mrsynth.errors import UserError
from mrsynth.files import sha256, write_json
from mrsynth.manifest import SECTIONS
from mrsynth.versions import versions

BEGUN, DONE, LOG, LOCK = "step.json", "done.json", "log.txt", ".lock"
TAIL = 15
"""Lines of a log that a message shows."""


class Part(NamedTuple):
    """Which cell of the study a step belongs to."""

    row: str
    segmenter: str
    fold: int
    seed: int


@dataclass(frozen=True)
class Step:
    """A program to run, and how to see that it has run.

    Attributes:
        name: for people; each step has its own.
        kind: steps of one kind take a time in proportion to their ``work``.
        folder: where it writes.
        run: first words after the program's own (``python -m monai.bundle run``): run id and configs.
        options: settings of the run beside the output folder.
        definition: all that decides what comes out, plain values; see :func:`refuse_other_definition`.
        study: the study's folder.
        sources: SHA-256 of the configs that it runs and of their bundle's scripts, as they were when it was planned.
        inputs: files that it reads; where one has changed, what was made of it is stale.
        outputs: files below ``folder`` that are there at its end.
        needs: names of the steps that must have ended well.
        work: optimization steps, subjects: whatever its time is proportional to. A step that has done more of the
            same is complete, too.
        resumable: a training, which a killed process leaves to be continued with ``--resume``.
        part: the cell of the study, for a segmenter's steps.
        before: called just before it starts.
        after: called when its outputs are there.
    """

    name: str
    kind: str
    folder: Path
    run: tuple[str, ...]
    options: Mapping[str, Any]
    definition: Mapping[str, Any]
    study: Path = Path()
    sources: Mapping[Path, str] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    work: float = 1
    resumable: bool = False
    part: Part | None = None
    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None
    key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        content = json.dumps(plain(self.definition), sort_keys=True)
        object.__setattr__(self, "key", hashlib.sha256(content.encode()).hexdigest()[:16])

    @property
    def command(self) -> tuple[str, ...]:
        """Words after the program's own."""
        return (*self.run, *words({"output_dir": self.folder, **self.options}))

    @property
    def log(self) -> Path:
        """Where its program's output goes."""
        return self.folder / LOG

    def refuse_changed_sources(self) -> None:
        """Refuse to go on where a config or a script is no longer what the study was planned with."""
        for file, planned in self.sources.items():
            if not file.is_file() or sha256(file) != planned:
                raise UserError(
                    "the configs and scripts that the study was planned with, so that all rows are made alike",
                    "one that has changed since the study began",
                    file,
                    f"restore it and start again; or pass another --output_dir (not yet begun: {self.name})",
                )

    def record(self) -> dict[str, Any] | None:
        """The content of ``done.json``, if this very step is complete.

        That is: enough work done, its outputs there, and of those inputs that are still there none another.
        """
        done = read_json(self.folder / DONE)
        if done is None or done.get("work", 0) < self.work or done.get("definition") != plain(self.definition):
            return None
        complete = all((self.folder / name).is_file() for name in self.outputs)
        return done if complete and not self._changed(done) else None

    def hashes(self, files: Sequence[Path]) -> dict[str, str]:
        """:func:`fingerprint` by file, those in the study's folder named from there."""
        names = {file: file.relative_to(self.study) if file.is_relative_to(self.study) else file for file in files}
        return {str(name): fingerprint(file) for file, name in names.items() if file.is_file()}

    @property
    def stale(self) -> bool:
        """Whether what is in the folder, complete or not, was made from inputs that have changed since."""
        return any(self._changed(read_json(self.folder / name) or {}) for name in (BEGUN, DONE))

    def _changed(self, record: Mapping[str, Any]) -> bool:
        now, then = self.hashes(self.inputs), record.get("inputs", {})
        return any(then[name] != digest for name, digest in now.items() if name in then)

    def clear(self) -> None:
        """Remove all from the folder but the log (and the lock that is held on it)."""
        for path in self.folder.iterdir():
            if path.name in (LOG, LOCK):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def begun(self) -> bool:
        """Whether it has been started before."""
        return (self.folder / BEGUN).is_file()

    def begin(self, pid: int, inputs: Mapping[str, str]) -> None:
        """Say in the folder what is being done there, with what, and by which process."""
        content = {"step": self.name, "definition": plain(self.definition), "inputs": dict(inputs)}
        write_json(self.folder / BEGUN, {**content, "host": socket.gethostname(), "pid": pid})

    def finish(self, command: Sequence[str], seconds: float, resumed: bool, inputs: Mapping[str, str]) -> None:
        """Write ``done.json``."""
        content = {"step": self.name, "kind": self.kind, "work": self.work, "seconds": round(seconds, 3)}
        content |= {"resumed": resumed, "command": list(command), "definition": plain(self.definition)}
        content |= {
            "versions": versions(),
            "inputs": dict(inputs),
            "outputs": self.hashes([self.folder / name for name in self.outputs]),
        }
        write_json(self.folder / DONE, content)

    def refuse_running(self) -> None:
        """Refuse to start where a process of a killed study still works on this step on this machine."""
        there = read_json(self.folder / BEGUN) or {}
        pid = there.get("pid")
        if not pid or there.get("host") != socket.gethostname() or self.record():
            return
        with suppress(OSError):  # no such process, or a system that does not show a process's words
            if os.fsencode(self.folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
                raise UserError(
                    "a study folder in which nothing runs",
                    f"process {pid}, left by a study that was killed, is still doing: {self.name}",
                    self.folder,
                    f"wait for it or end it (kill {pid}), then start again",
                )


def refuse_other_definition(steps: Sequence[Step]) -> None:
    """Refuse a study folder in which a step was begun that this configuration would do otherwise."""
    for step in steps:
        there = read_json(step.folder / BEGUN)
        if there is None:
            continue
        before, now = _flat(there.get("definition", {})), _flat(plain(step.definition))
        differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if differing:
            lines = [f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in differing]
            raise UserError(
                "the configuration that this study folder was begun with",
                "\n    ".join([f"another one for {step.name}:", *lines[:10]]),
                step.folder,
                f"pass the same configuration or another --output_dir; to do this step anew: rm -r {step.folder}",
            )


def tail(log: Path, lines: int = TAIL) -> str:
    """The last lines of a log; of a progress bar only its last state."""
    text = log.read_bytes()[-32768:].decode(errors="replace") if log.is_file() else ""
    shown = [line.rstrip("\r").split("\r")[-1].rstrip() for line in text.split("\n")]
    return "\n".join([line[:400] for line in shown if line.strip()][-lines:])


def words(options: Mapping[str, Any]) -> list[str]:
    """``--key value`` for each option, such that ``python -m monai.bundle`` reads the same values."""
    return [word for name, value in options.items() for word in (f"--{name}", literal(value))]


def literal(value: Any) -> str:
    """``value`` as a word of a command line that fire reads as the same value; None as an expression of MONAI."""
    if value is None:
        return "$None"
    value = plain(value)
    bare = isinstance(value, str) and re.fullmatch(r"[A-Za-z/_$][\w/.-]*", value) and not keyword.iskeyword(value)
    return value if bare else repr(value)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy's numbers and paths as Python's and text, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def fingerprint(file: Path) -> str:
    """SHA-256 of a file; of a datalist that of its content without folders, since the same data may lie elsewhere."""
    about = file.stat()
    return _fingerprint(file, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=65536)
def _fingerprint(file: Path, modified: int, size: int) -> str:
    content = read_json(file) if file.suffix == ".json" else None
    if content is None or not any(isinstance(content.get(section), list) for section in SECTIONS):
        return sha256(file)

    for section in SECTIONS:
        for item in content.get(section, []):
            for key in {"image", "label"} & set(item):
                files = item[key] if isinstance(item[key], list) else [item[key]]
                names = [Path(file).name for file in files]
                item[key] = names if isinstance(item[key], list) else names[0]
        content.setdefault(section, [])
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _flat(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{above}{key}"
        flat.update(_flat(value, f"{name}: ") if isinstance(value, Mapping) and value else {name: value})
    return flat

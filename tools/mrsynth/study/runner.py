"""Running the steps of a study: each a process of its own, several at once, none twice, all ended on request."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mrsynth.errors import UserError
from mrsynth.files import unwritable
from mrsynth.study.steps import BEGUN, LOCK, Step, hashes, tail
from mrsynth.study.subjects import Leak
from mrsynth.study.timing import Timing, roughly

PROGRAM = (sys.executable, "-m", "monai.bundle", "run")
POLL = 0.1
"""Seconds between looks at the running processes."""

PATIENCE = 10.0
"""Seconds that a process is given to end before it is killed."""


@dataclass
class Outcome:
    """What became of a step.

    Attributes:
        status: ``done`` now, ``kept`` from before, ``failed``, or ``skipped`` because a step that it needs failed.
        seconds: that it took, whenever it was.
        reason: the log's last lines, or what else went wrong.
        cause: the step that failed, where it is another.
    """

    status: str
    seconds: float = 0.0
    reason: str = ""
    cause: str = ""


@dataclass
class Running:
    """A step's process."""

    step: Step
    process: subprocess.Popen
    began: float
    resumed: bool
    inputs: dict[str, str]
    command: list[str]
    held: ExitStack


@dataclass
class Runner:
    """Runs steps in an order that serves their needs.

    Args:
        steps: each after those that it needs.
        folder: of the study.
        parallel: processes at once; each may use as many cores as that leaves it.
        program: words of the program whose arguments the steps' commands are.
        timing: for the estimates; it learns from the steps that end.
    """

    steps: Sequence[Step]
    folder: Path
    parallel: int = 1
    program: Sequence[str] = PROGRAM
    timing: Timing = field(default_factory=Timing)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def run(self) -> dict[str, Outcome]:
        """Run what is not complete, and return what became of each step.

        A step that fails is noted with its log, and those that need it are skipped; the others go on.

        Raises:
            UserError: test subjects in a training, a config or script that changed meanwhile, or a step that a killed
                study is still at; all processes are ended, and ``outcomes`` say what became of the steps until then.
            KeyboardInterrupt: asked to stop; all processes are ended.
        """
        for step in self.steps:
            if all(self._status(name) == "kept" for name in step.needs) and (record := step.record()):
                self.outcomes[step.name] = Outcome("kept", record["seconds"])
        self.pending = [step for step in self.steps if step.name not in self.outcomes]
        self.total, self.started, self.waiting = len(self.pending), 0, set[str]()
        if kept := len(self.outcomes):
            say(f"{kept} of {len(self.steps)} steps are complete from before")
        running: list[Running] = []
        with stopped_by_signals():
            try:
                while self.pending or running:
                    self._start(running)
                    ended = [run for run in running if run.process.poll() is not None]
                    for run in ended:
                        running.remove(run)
                        self._end(run, running)
                    if not ended and (running or self.pending):
                        time.sleep(POLL if running else 10 * POLL)
            except UserError:
                self._skip_lost()
                raise
            finally:
                end(running)
        return self.outcomes

    def _start(self, running: list[Running]) -> None:
        """Start as many steps as there is room for."""
        self._skip_lost()
        for step in list(self.pending):
            if len(running) < self.parallel and all(self._status(n) in ("done", "kept") for n in step.needs):
                self._start_one(step, running)

    def _skip_lost(self) -> None:
        """Take off the list what needs a step that has failed."""
        for step in list(self.pending):
            lost = next((name for name in step.needs if self._status(name) in ("failed", "skipped")), None)
            if lost is not None:
                cause = self.outcomes[lost].cause or lost
                self._drop(step, Outcome("skipped", reason=f"needs: {cause}", cause=cause))

    def _drop(self, step: Step, outcome: Outcome) -> None:
        self.outcomes[step.name] = outcome
        self.pending.remove(step)
        self.total -= 1

    def _status(self, name: str) -> str:
        return self.outcomes[name].status if name in self.outcomes else ""

    def _start_one(self, step: Step, running: list[Running]) -> None:
        try:
            step.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(step.folder, error) from error
        with ExitStack() as stack:
            if not held(step, stack):
                if step.name not in self.waiting:
                    say(f"waiting for another study in this folder: {step.name}")
                    self.waiting.add(step.name)
                return
            if record := step.record():  # another study has done it, or what it needs was done anew and is the same
                self._drop(step, Outcome("kept", record["seconds"]))
                return
            self.pending.remove(step)
            self.started += 1
            try:
                step.refuse_running()
                step.refuse_changed_sources()
            except UserError as error:
                self._fail(step, str(error), 0.0)
                raise
            if not self._checked(step, step.before, 0.0):
                return
            if step.stale:
                say(f"done anew, since what it is made from has changed: {step.name}")
                step.clear()
            resumed = step.begun
            command = [*self.program, *step.command, *(["--resume", "True"] if resumed and step.resumable else [])]
            inputs = hashes(step.inputs, self.folder)
            with open(step.log, "ab") as log:
                log.write(f"$ {shlex.join(command)}\n".encode())
                log.flush()
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment(self.parallel) | {"PYTHONUNBUFFERED": "1"},
                    start_new_session=True,  # so that it can be ended with all the processes that it starts
                )
            running.append(Running(step, process, time.monotonic(), resumed, inputs, command, stack.pop_all()))
            step.begin(process.pid, inputs)
        again = " (going on)" if resumed and step.resumable else ""
        say(f"[{self.started} of {self.total}] {step.name}{again}")

    def _end(self, run: Running, running: Sequence[Running]) -> None:
        """Judge a process that has ended."""
        step, seconds = run.step, time.monotonic() - run.began
        try:
            missing = [name for name in step.outputs if not (step.folder / name).is_file()]
            if run.process.returncode != 0:
                code = run.process.returncode
                how = f"exit status {code}" if code > 0 else f"ended by signal {-code}"
                self._fail(step, f"{how}\n{tail(step.log)}", seconds)
            elif missing:
                self._fail(step, f"ended well, but without {', '.join(missing)}\n{tail(step.log)}", seconds)
            elif self._checked(step, step.after, seconds):
                step.finish(run.command, seconds, run.resumed, run.inputs)
                self.outcomes[step.name] = Outcome("done", seconds)
                self.timing.learn([step.record() or {"resumed": True}])
                passed = {run.step.name: time.monotonic() - run.began for run in running}
                left = self.timing.rest([*(r.step for r in running), *self.pending], self.parallel, passed)
                rest = (
                    f"; the rest in about {roughly(left)}" if left else "" if left == 0 else "; the rest: not known yet"
                )
                say(f"done in {roughly(seconds)}: {step.name}{rest}")
        finally:
            run.held.close()

    def _checked(self, step: Step, check: Callable[[], object] | None, seconds: float) -> bool:
        """Whether a check of the step passes; the step has failed otherwise, and a leak stops them all."""
        try:
            if check is not None:
                check()
        except UserError as error:
            self._fail(step, str(error), seconds)
            if isinstance(error, Leak):
                raise
            return False
        return True

    def _fail(self, step: Step, reason: str, seconds: float) -> None:
        self.outcomes[step.name] = Outcome("failed", seconds, reason)
        shown = "\n".join(f"    {text}" for text in reason.splitlines())
        say(f"FAILED after {roughly(seconds)}: {step.name}\n    log: {step.log}\n{shown}")


def environment(parallel: int) -> dict[str, str]:
    """Of each of ``parallel`` processes: its share of the cores as threads, unless the user has said how many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // max(1, parallel)))} | os.environ


def say(text: str) -> None:
    """One line on the screen, at once."""
    print(text, flush=True)


def end(running: Sequence[Running]) -> None:
    """End the processes, with all that they have started, and give back what they held."""
    for run in running:
        _signal(run.process, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for run in running:
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(max(0.0, deadline - time.monotonic()))
        _signal(run.process, signal.SIGKILL)  # whatever of its group is left
        run.process.wait()
        run.held.close()


def _signal(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # its own session, so its group has its number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let the signals that end a program raise KeyboardInterrupt, so that nothing is left running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGHUP] if hasattr(signal, "SIGHUP") else [signal.SIGTERM]
    before: list[tuple[int, Callable | int | None]] = [(n, signal.signal(n, stop)) for n in numbers]  # type: ignore[misc]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def held(step: Step, stack: ExitStack) -> bool:
    """Hold the step until ``stack`` closes, where other rows use it too; whether no live study has it in its hands."""
    if step.shared:
        try:
            stack.enter_context(FileLock(step.folder / LOCK, timeout=0))
        except Timeout:
            return False
    return True


def refuse_running(steps: Sequence[Step]) -> None:
    """Refuse to start where a process of a killed study is still at one of the steps.

    One that a live study has in its hands is no such step: it will be waited for.

    Raises:
        UserError: naming the step and the process.
    """
    for step in steps:
        if (step.folder / BEGUN).is_file():
            with ExitStack() as stack:
                if held(step, stack):
                    step.refuse_running()


@contextmanager
def locked(folders: dict[str, Path]) -> Iterator[None]:
    """Hold the folders of rows, by name, for as long as the block runs.

    Raises:
        UserError: another study holds one.
    """
    with ExitStack() as stack:
        for name, folder in folders.items():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / LOCK, timeout=0))
            except Timeout as error:
                raise UserError(
                    "a row on which no other study works",
                    f"two studies started in the same folder: row {name!r} is held by another",
                    folder,
                    "wait for it, give each study its own rows (--rows), or another output_dir",
                ) from error
            except OSError as error:
                raise unwritable(folder, error) from error
        yield

"""Running the steps of a study on Dask: each step is a process of its own, several run at once, and none runs twice.

Dask keeps the graph, gives steps to workers, and reaches a cluster. On one machine its workers are threads of this
process: no service runs, and no other machine can reach it. On Slurm each worker is a job
(``dask_jobqueue.SLURMCluster``).
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, WorkerPlugin, as_completed, get_worker
from filelock import FileLock, Timeout

from mrsynth.errors import UserError
from mrsynth.files import unwritable
from mrsynth.study.steps import BEGUN, LOCK, Step, tail
from mrsynth.study.subjects import Leak
from mrsynth.study.timing import Timing, roughly

logger = logging.getLogger("mrsynth.study")

PROGRAM = (sys.executable, "-m", "monai.bundle", "run")
LOOPBACK = "127.0.0.1:0"
"""Where Dask serves its status: any free port, for this machine alone."""

EVENTS = "mrsynth-study"
"""Topic of the messages from workers."""

MESSAGES = {
    "waiting": "waiting for another study in this folder",
    "anew": "done anew, since what it is made from has changed",
}

PATIENCE = 10.0
"""Seconds that a process is given to end before it is killed."""

ATTEMPTS = 1000
"""How often a step may lose its worker, for instance to a job's time limit, before Dask gives it up."""

_RUNNING: dict[str, subprocess.Popen] = {}
"""Processes of this machine's workers, by step."""

_STOPPING = threading.Event()
"""Set while a study ends: no worker of this machine starts a further step."""


@dataclass
class Outcome:
    """What became of a step.

    Attributes:
        status: ``done`` now, ``kept`` from before, ``failed``, or ``skipped`` because a step that it needs failed.
        seconds: how long it took, whenever it ran.
        reason: the last lines of its log, or what else went wrong.
        cause: the step that failed, where it is another.
        error: ends the study.
    """

    status: str
    seconds: float = 0.0
    reason: str = ""
    cause: str = ""
    error: UserError | None = None


@dataclass
class Engine:
    """Runs steps in an order that serves their needs.

    Args:
        steps: each after those that it needs.
        folder: of the study.
        parallel: steps at once. On this machine each has its share of the cores, and one GPU where there are several.
        program: words of the program whose arguments the steps' commands are.
        timing: for the estimates; it learns from the steps that end.
        cluster: None for this machine, or the arguments of ``dask_jobqueue.SLURMCluster``: each job runs one step at a
            time.
    """

    steps: Sequence[Step]
    folder: Path
    parallel: int = 1
    program: Sequence[str] = PROGRAM
    timing: Timing = field(default_factory=Timing)
    cluster: Mapping[str, Any] | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def run(self) -> dict[str, Outcome]:
        """Run what is not complete, and return what became of each step.

        A step that fails is noted with its log, and steps that need it are skipped; the others go on.

        Raises:
            UserError: test subjects in a training, a config or script that changed meanwhile, or a step that a process
                of a killed study still works on. All processes are ended; ``outcomes`` hold what was done until then.
            KeyboardInterrupt: the user stops the study. All processes are ended.
        """
        for step in self.steps:
            needed = [self.outcomes.get(name) for name in step.needs]
            if all(need and need.status == "kept" for need in needed) and (record := step.record()):
                self.outcomes[step.name] = Outcome("kept", record["seconds"])
        pending = [step for step in self.steps if step.name not in self.outcomes]
        if kept := len(self.outcomes):
            say(f"{kept} of {len(self.steps)} steps are complete from before")
        if pending:
            with stopped_by_signals():
                self._run(pending)
        return self.outcomes

    def _run(self, pending: Sequence[Step]) -> None:
        self.total, self.started = len(pending), dict[str, float]()
        workers = min(self.parallel, len(pending))
        with ExitStack() as stack:
            cluster = stack.enter_context(start_cluster(self.cluster, workers, self.folder / "slurm"))
            client = stack.enter_context(Client(cluster, set_as_default=False))
            stack.callback(end_processes)
            client.register_plugin(EndProcesses(), name="mrsynth-end-processes")
            client.subscribe_topic(EVENTS, lambda event: self._tell(event[1]))
            if self.cluster is not None:
                wait_for_worker(client, cluster, Path(self.cluster.get("log_directory", self.folder / "slurm")))
            futures: dict[str, Any] = {}
            for number, step in enumerate(pending):
                needs = {name: futures.get(name, self.outcomes.get(name)) for name in step.needs}
                futures[step.name] = client.submit(
                    run_step,
                    *(step, needs, list(self.program), workers if self.cluster is None else 0),
                    key=step.name,
                    priority=-number,
                    resources={"step": 1},
                    pure=False,
                )
            for future, outcome in as_completed(list(futures.values()), loop=client.loop, with_results=True):
                self._note(future.key, outcome, pending)
                if outcome.error is not None:
                    for step in pending:
                        if lost := skipped({name: self.outcomes.get(name) for name in step.needs}):
                            self.outcomes.setdefault(step.name, lost)
                    raise outcome.error

    def _tell(self, event: Mapping[str, Any]) -> None:
        """Show a worker's message."""
        name, kind = event["step"], event["kind"]
        if kind in MESSAGES:
            say(f"{MESSAGES[kind]}: {name}")
        else:
            self.started[name] = time.monotonic()
            say(f"[{len(self.started)} of {self.total}] {name}{' (going on)' if event['resumed'] else ''}")

    def _note(self, name: str, outcome: Outcome, pending: Sequence[Step]) -> None:
        """Keep an outcome, and show it with an estimate of the time that is left."""
        self.outcomes[name] = outcome
        step = next(step for step in pending if step.name == name)
        if outcome.status == "failed":
            shown = "\n".join(f"    {text}" for text in outcome.reason.splitlines())
            say(f"FAILED after {roughly(outcome.seconds)}: {name}\n    log: {step.log}\n{shown}")
        elif outcome.status == "done":
            self.timing.learn([step.record() or {"resumed": True}])
            left = [step for step in pending if step.name not in self.outcomes]
            passed = {name: time.monotonic() - began for name, began in self.started.items()}
            seconds = self.timing.rest(left, self.parallel, passed)
            rest = f"; the rest in about {roughly(seconds)}" if seconds else ""
            say(f"done in {roughly(outcome.seconds)}: {name}{rest}")
        else:
            self.total -= 1


def run_step(step: Step, needs: Mapping[str, Outcome | None], program: Sequence[str], slots: int) -> Outcome:
    """Run one step in a process of its own, unless it is complete. Called in a Dask worker.

    Args:
        step: to run.
        needs: outcomes of the steps that it needs, by name.
        program: words of the program.
        slots: workers on this machine that share its cores and GPUs; 0 where a cluster has given this worker its own.

    Returns:
        What became of it. Failures are returned, not raised, so that other steps go on.
    """
    worker = get_worker()

    def tell(kind: str, **more: Any) -> None:
        worker.log_event(EVENTS, {"kind": kind, "step": step.name, **more})

    if lost := skipped(needs):
        return lost
    seconds = 0.0
    try:
        with held(step, lambda: tell("waiting")):
            if _STOPPING.is_set():  # perhaps while it waited
                return Outcome("failed", reason="the study was stopped")
            if record := step.record():  # another study has done it, or what it needs was done anew and is the same
                return Outcome("kept", record["seconds"])
            try:
                step.refuse_running()
                step.refuse_changed_sources()
            except UserError as error:
                return Outcome("failed", 0.0, str(error), error=error)
            if step.before is not None:
                step.before()
            if step.stale:
                tell("anew")
                step.clear()
            resumed = step.begun and step.resumable
            command = [*program, *step.command, *(["--resume", "True"] if resumed else [])]
            inputs = step.hashes(step.inputs)
            slot = worker.name if isinstance(worker.name, int) else 0
            tell("started", resumed=resumed)
            began = time.monotonic()
            status = run_process(step, command, inputs, environment(slots, slot))
            seconds = time.monotonic() - began
            missing = ", ".join(name for name in step.outputs if not (step.folder / name).is_file())
            if status != 0 or missing:
                how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
                how = how if status else f"ended well, but without {missing}"
                return Outcome("failed", seconds, f"{how}\n{tail(step.log)}")
            if step.after is not None:
                step.after()
            step.finish(command, seconds, resumed, inputs)
            return Outcome("done", seconds)
    except UserError as error:
        return Outcome("failed", seconds, str(error), error=error if isinstance(error, Leak) else None)
    except OSError as error:
        return Outcome("failed", seconds, str(unwritable(step.folder, error)))


def run_process(step: Step, command: Sequence[str], inputs: Mapping[str, str], environ: Mapping[str, str]) -> int:
    """Run a command with its output in the step's log; returns its exit status."""
    with open(step.log, "ab") as log:
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # so that it can be ended with all the processes that it starts
        )
    _RUNNING[step.name] = process
    if _STOPPING.is_set():  # between the look at it and the start
        _signal(process, signal.SIGTERM)
    try:
        step.begin(process.pid, inputs)
        return process.wait()
    finally:
        _RUNNING.pop(step.name, None)


def skipped(needs: Mapping[str, Outcome | None]) -> Outcome | None:
    """The outcome of a step that cannot run because one that it needs has failed; None where it can."""
    for name, outcome in needs.items():
        if outcome is not None and outcome.status in ("failed", "skipped"):
            cause = outcome.cause or name
            return Outcome("skipped", reason=f"needs: {cause}", cause=cause)
    return None


@contextmanager
def start_cluster(options: Mapping[str, Any] | None, workers: int, logs: Path) -> Iterator[Any]:
    """A Dask cluster of ``workers`` that each run one step at a time.

    They are threads of this process or, with ``options`` for ``dask_jobqueue.SLURMCluster``, jobs of Slurm with their
    output in ``logs``.
    """
    _STOPPING.clear()
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": ATTEMPTS}))
        if options is None:
            yield stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=False,
                    memory_limit=0,
                    resources={"step": 1},
                    dashboard_address=LOOPBACK,
                    worker_dashboard_address=LOOPBACK,
                    silence_logs=logging.CRITICAL,
                )
            )
            return
        try:
            import cryptography  # noqa: F401
            from dask_jobqueue import SLURMCluster
        except ImportError as error:
            expected, do = "dask_jobqueue and cryptography, for jobs of Slurm", "pip install 'mrsynth[slurm]'"
            raise UserError(expected, "not installed", "cluster", do) from error
        logs.mkdir(parents=True, exist_ok=True)
        given: dict[str, Any] = {
            "cores": 1,
            "processes": 1,
            "nanny": False,
            "memory": "4GB",
            "log_directory": str(logs),
        }
        given |= {"security": True, "shared_temp_directory": str(logs), **options}  # no other user can send it work
        given["worker_extra_args"] = ["--resources", "step=1", *options.get("worker_extra_args", [])]
        # the worker takes the place of the job's shell, so that what Slurm sends to the job reaches it
        given["python"] = f"exec {options.get('python', sys.executable)}"
        try:
            cluster = stack.enter_context(
                SLURMCluster(**given, scheduler_options={"dashboard": False, "dashboard_address": LOOPBACK})
            )
        except (TypeError, ValueError) as error:
            do = "see docs/how-to/slurm.md for the arguments"
            raise UserError("arguments of dask_jobqueue.SLURMCluster", str(error), "cluster", do) from error
        say(f"submitting {workers} jobs to Slurm; their output: {given['log_directory']}")
        cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)  # a job that ends early is replaced
        yield cluster


def wait_for_worker(client: Client, cluster: Any, logs: Path) -> None:
    """Wait for the first job of Slurm; refuse to go on where all jobs have ended and none has answered."""
    while not client.scheduler_info()["workers"]:
        time.sleep(1)
        jobs = {job.job_id for job in cluster.workers.values() if job.job_id}
        listed = subprocess.run(["squeue", "--noheader", "--format=%i"], capture_output=True, text=True)
        ended = jobs and listed.returncode == 0 and not jobs & set(listed.stdout.split())
        if ended and not client.scheduler_info()["workers"]:
            texts = [tail(log) for job in sorted(jobs) for log in sorted(logs.glob(f"*{job}.*"))]
            found = "\n".join([f"{len(jobs)} jobs that have ended", *filter(None, texts)])
            do = "correct what the output names: python, interface or job_script_prologue of --cluster"
            raise UserError("jobs of Slurm whose Dask worker answers this study", found, logs, do)


def environment(slots: int, slot: int = 0) -> dict[str, str]:
    """The environment of process number ``slot`` of those that share this machine.

    Its share of the cores as threads, unless the user sets OMP_NUM_THREADS, and one GPU where there are several.
    0 ``slots``: the process has been given its own cores and GPUs.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = {"OMP_NUM_THREADS": str(max(1, cores // max(1, slots)))} | os.environ
    if slots > 1 and (gpus := visible_gpus()):
        found["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return found


def visible_gpus() -> list[str]:
    """GPUs that a process may use, as CUDA_VISIBLE_DEVICES names them; empty where there is one at most."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(n) for n in range(torch.cuda.device_count())] if chosen is None else chosen.split(",")
    return names if len(names) > 1 else []


def say(text: str) -> None:
    """A message for the person who runs the study."""
    logger.info(text)


def end_processes() -> None:
    """End the processes of this machine's workers, with all that they have started."""
    _STOPPING.set()
    processes = list(_RUNNING.values())
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        _signal(process, signal.SIGKILL)  # whatever of its group is left
        process.wait()


class EndProcesses(WorkerPlugin):
    """A worker that closes, since the study is gone or its job is cancelled, ends its process first."""

    def teardown(self, worker: Any) -> None:
        """Called by Dask."""
        end_processes()


def _signal(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # its own session, so its group has its number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let the signals that end a program raise KeyboardInterrupt, so that nothing is left running."""
    ends = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        ends = set()
    before = {number: signal.signal(number, signal.default_int_handler) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held(step: Step, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold a step's folder, which is made; call ``waiting`` once where another study holds it, and wait."""
    step.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(step.folder / LOCK)
    with suppress(Timeout):
        lock.acquire(timeout=0)
    if not lock.is_locked:
        waiting()
    while not lock.is_locked and not _STOPPING.is_set():
        with suppress(Timeout):
            lock.acquire(timeout=1)
    try:
        yield
    finally:
        lock.release()


def refuse_running(steps: Sequence[Step]) -> None:
    """Refuse to start where a process of a killed study still works on a step; one that a live study holds can wait."""
    for step in steps:
        if (step.folder / BEGUN).is_file():
            with suppress(Timeout), FileLock(step.folder / LOCK, timeout=0):
                step.refuse_running()


@contextmanager
def locked(folders: Mapping[str, Path]) -> Iterator[None]:
    """Hold the folders of rows, by name, for as long as the block runs; refuse one that another study holds."""
    with ExitStack() as stack:
        for name, folder in folders.items():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / LOCK, timeout=0))
            except Timeout as error:
                found = f"two studies started in the same folder: row {name!r} is held by another"
                do = "wait for it, or pass --rows with other rows or another --output_dir"
                raise UserError("a row on which no other study works", found, folder, do) from error
            except OSError as error:
                raise unwritable(folder, error) from error
        yield

"""Many runs at once: each in a process and directory of its own, reused when finished, resumed when not.

A worker that dies (killed, out of memory) is tried again from its checkpoint; what a run itself gives up on, such as a
gradient that is not finite, is kept as a failed seed.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing import connection
from pathlib import Path
from types import ModuleType
from typing import Any

from frugal.core import parallel
from frugal.core.errors import BadRun, CannotWrite, FrugalError, MissingExtra, RunFailed
from frugal.core.recipe import Frozen
from frugal.core.run import write
from frugal.registry import code, host
from frugal.registry import recipe_or_stages as parse

TRIES = 3  # of a worker that dies


@dataclass(frozen=True)
class Job:
    """One recipe with one seed."""

    recipe: str
    task: Any  # a name, or a task object
    samples: int
    seed: int
    out: Path
    options: Mapping[str, Any] = field(default_factory=Frozen)

    def __str__(self) -> str:
        return f"{self.recipe}, seed {self.seed}"


def run_all(
    jobs: Sequence[Job],
    processes: int = 0,
    watch: Callable[[Sequence[Job]], None] | None = None,
    ray: str | None = None,
) -> None:
    """Bring every job's directory to its end. Raises `RunFailed` naming what could not run.

    `processes` at a time on this machine (0: one a core), or on the Ray cluster at the address `ray` ("local" starts
    one here). `watch` is called once a second or more often with all jobs, to read their curves.
    """
    if parallel.launched() > 1:
        raise BadRun("many runs at once start their own processes; call this without a launcher, with --processes N")
    watching = watch or (lambda jobs: None)
    if ray is None:
        errors = _on_this_machine(jobs, processes or os.cpu_count() or 1, watching)
    else:
        errors = _on_ray(jobs, ray, watching)
    if errors:
        raise RunFailed("\n".join(errors))
    failed = failures(jobs)
    if len(failed) == len(jobs):
        raise RunFailed(f"every run failed; {jobs[0]}: {failed[jobs[0]]}")


def _on_this_machine(jobs: Sequence[Job], processes: int, watch: Callable[[Sequence[Job]], None]) -> list[str]:
    """A process for each run, forked from one that has imported everything; returns what went wrong, in words."""
    context = multiprocessing.get_context("forkserver")
    domain = host(parse(jobs[0].recipe), jobs[0].task).name
    context.set_forkserver_preload([f"frugal.{domain}.main"])  # imported once, not once a run
    waiting = [(job, 1) for job in jobs]
    working: list[tuple[Any, Job, int]] = []
    errors: list[str] = []
    try:
        while waiting or working:
            while waiting and len(working) < processes:
                job, attempt = waiting.pop(0)
                process = context.Process(target=_work, args=(job,), daemon=True)
                with _main_left_alone(isinstance(job.task, str)):
                    process.start()
                working.append((process, job, attempt))
            connection.wait([process.sentinel for process, *_ in working], timeout=1.0)
            watch(jobs)
            for entry in [entry for entry in working if not entry[0].is_alive()]:
                working.remove(entry)
                process, job, attempt = entry
                if process.exitcode == 2:
                    errors.append(f"{job}: {(job.out.with_suffix('.error')).read_text()}")
                    waiting.clear()  # what is wrong with one run is wrong with all
                elif process.exitcode and attempt < TRIES:
                    waiting.insert(0, (job, attempt + 1))
                elif process.exitcode:
                    errors.append(f"{job}: its process died {TRIES} times, the last time with {process.exitcode}")
    finally:
        for process, *_ in working:
            process.terminate()
            process.join()
    return errors


def _on_ray(jobs: Sequence[Job], address: str, watch: Callable[[Sequence[Job]], None]) -> list[str]:
    """A task of one processor for each run. All nodes see one disk: a run moves to another node by its checkpoint."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "--ray") from None
    try:
        if host := re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address):  # Ray itself would wait for minutes
            socket.create_connection((host.group(1), int(host.group(2))), timeout=5).close()
        ray.init(address=None if address == "local" else address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise BadRun(f"there is no Ray cluster at {address}: {error}; start one, or give --ray local") from None
    remote = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_work_on_a_node)
    try:
        root = Path(os.path.commonpath([job.out.absolute() for job in jobs]))
        root.mkdir(parents=True, exist_ok=True)
        pending = {remote.remote(replace(job, out=job.out.absolute()), root): job for job in jobs}
        errors = []
        while pending:
            done, _ = ray.wait(list(pending), timeout=0.3)
            watch(jobs)
            for future in done:
                job = pending.pop(future)
                try:
                    why = ray.get(future)
                except ray.exceptions.RayError as error:
                    why = f"its worker died {TRIES} times: {error}"
                errors += [f"{job}: {why}"] if why else []
        return errors
    finally:
        ray.shutdown()


def _work_on_a_node(job: Job, root: Path) -> str | None:
    """On a node of the cluster: the same as `_work`, with the reason as the result."""
    if not root.is_dir():
        return f"a node of the cluster does not see {root}; give an --out on a disk that all nodes share"
    try:
        bring_to_end(job)
    except FrugalError as error:
        return str(error)
    return None


def failures(jobs: Sequence[Job]) -> dict[Job, str]:
    """The runs that gave up, and why."""
    paths = {job: job.out / "failed.json" for job in jobs}
    return {job: json.loads(path.read_text())["error"] for job, path in paths.items() if path.exists()}


@contextmanager
def _main_left_alone(named: bool) -> Iterator[None]:
    """Keep a worker from importing the user's script again, which it needs only for a task that is an object."""
    main = sys.modules["__main__"]
    try:
        if named:
            sys.modules["__main__"] = ModuleType("__main__")
        yield
    finally:
        sys.modules["__main__"] = main


def bring_to_end(job: Job) -> None:
    """Run, resume or reuse. A run that fails leaves ``failed.json`` in its directory and counts as run."""
    from frugal.api import resume, run

    if (job.out / "failed.json").exists():
        return
    try:
        if not (job.out / "run.json").exists():
            run(job.recipe, job.task, samples=job.samples, seed=job.seed, out=job.out, **job.options)
        else:
            _check_same(job)
            if not (job.out / "model").exists():
                resume(job.out, task=None if isinstance(job.task, str) else job.task)
    except RunFailed as failure:
        if isinstance(failure, CannotWrite) or not curve(job.out):
            raise
        write(job.out / "failed.json", json.dumps({"error": str(failure)}))


def _check_same(job: Job) -> None:
    """Raise `BadRun` if the directory holds another run, or one made by other code."""
    try:
        before = json.loads((job.out / "run.json").read_text())
        found = {**before, **before["options"], "code": before["versions"]["code"]}
    except (ValueError, KeyError, TypeError):
        raise BadRun(f"{job.out / 'run.json'} is damaged; remove {job.out} and try again") from None
    wanted = {"recipe": job.recipe, "samples": job.samples, "seed": job.seed, **job.options}
    for name, value in {**wanted, "code": code(parse(job.recipe))}.items():
        if value is not None and value != found.get(name):
            raise BadRun(
                f"{job.out} holds a run with another {name} ({found.get(name)}, now {value}); "
                "choose another --out, or remove it"
            )


def _work(job: Job) -> None:
    """In the worker. Exit code 2 leaves the reason beside the directory, since not every exception travels."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    try:
        bring_to_end(job)
    except FrugalError as error:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        job.out.with_suffix(".error").write_text(str(error))
        raise SystemExit(2) from None


def curve(out: Path, kind: str = "evaluation") -> list[dict[str, Any]]:
    """The lines of one kind of a run's curve; not the last one if it is half written."""
    path = out / "curve.jsonl"
    if not path.exists():
        return []
    found = path.stat()
    return [line for line in _lines(path, found.st_size, found.st_mtime_ns) if line["kind"] == kind]


@lru_cache(maxsize=1024)  # those who watch ask again and again
def _lines(path: Path, size: int, changed: int) -> list[dict[str, Any]]:
    """Every whole line, read anew if the file has another size or time of change."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def samples_spent(out: Path) -> int:
    """Samples that a run has spent so far, read from its curve."""
    lines = curve(out, "train")
    return int(lines[-1]["samples"]) if lines else 0

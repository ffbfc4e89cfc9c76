"""Whether a run that is killed at any moment resumes to the very same result: kills survived out of kills tried.

    python benchmarks/kills.py               # a quarter of an hour; writes results/kills.json

A reference run ends undisturbed. Others are killed with SIGKILL, at uniformly random moments or at a named spot (in
the middle of a write, beside a rename), resumed, killed again, and compared with it: curve, weights, ledger and every
row of the completion table, to the bit, but for the seconds in the ledger. A kill counts as survived if the run that
it fell into ended like the reference.
"""

from __future__ import annotations

import itertools
import json
import mmap
import multiprocessing
import os
import platform
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from tqdm import tqdm

from frugal.evidence.runs import Job

RESULT = Path(__file__).parents[1] / "results" / "kills.json"
RANDOM, REPEATS, AT_ONCE = 200, 2, 2  # kills at random moments; passes through a spot that kill; runs at a time
OPTIONS = {"threads": 1, "evaluations": 4, "eval_problems": 6, "eval_k": 2}
RECIPES = {  # moments of a mask, filtered groups, two steps a batch; then a critic, a reference and stages
    "grpo(prompts=2,group=4,epochs=2,lr=2e-3)+capo+ead+online-difficulty": 120,
    "ppo(prompts=16,beta=0.05,lr=linear(2e-3,1e-3)):48 then grpo(prompts=2,group=4,epochs=2,beta=0.05)+ead": 80,
}

PRELOAD = [  # imported once, not once a process
    *("frugal.language.main", "frugal.language.loop", "pyarrow.parquet", "pandas"),
    "transformers.models.llama.modeling_llama",
]
# what is under way; a process says so in one byte of a file that outlives it
PHASES = (
    *("not begun", "loading", "going back", "sampling", "gradient step", "curve", "evaluation", "checkpoint"),
    *("final model", "between"),
)
FILES = "run.json", "curve.jsonl", "completions", "tensors.safetensors", "state.json", "ledger.json"
SPOTS = (
    *(f"half of {name}" for name in (*FILES, "line of the curve", "model.safetensors", "tokenizer.json")),
    *(f"{when} {name}" for name in ("run.json", "curve.jsonl", "completions", "state.json", "checkpoint",
      "ledger.json", "model") for when in ("before the rename of", "after the rename of")),
    "half of the removal of a checkpoint",
)  # fmt: skip


# -- looking in from outside ----------------------------------------------------------------------------------


@contextmanager
def telling(tell: Callable[[int], None]) -> Iterator[None]:
    """Calls `tell` with the number of the phase whenever another one begins."""
    from frugal.core.optimiser import Optimiser
    from frugal.core.run import Run
    from frugal.language import loop
    from frugal.language.evaluate import Evaluation

    places = {
        (loop, "gather"): "sampling",
        (loop, "accumulate"): "gradient step",
        (Optimiser, "step"): "gradient step",
        (Evaluation, "__call__"): "evaluation",
        (Run, "save"): "checkpoint",
        (Run, "log"): "curve",
        (Run, "load"): "going back",
        (Run, "save_model"): "final model",
    }

    def during(phase: str, function: Any) -> Any:
        def told(*args: Any, **named: Any) -> Any:
            tell(PHASES.index(phase))
            try:
                return function(*args, **named)
            finally:
                tell(PHASES.index("between"))

        return told

    with ExitStack() as stack:
        for (owner, name), phase in places.items():
            stack.enter_context(mock.patch.object(owner, name, during(phase, getattr(owner, name))))
        yield


@contextmanager
def meeting(spot: str, nth: int, act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` when the run comes to `spot` for the nth time; nothing else changes if it returns."""
    import pyarrow.parquet
    import safetensors.torch
    import transformers.modeling_utils
    from transformers import PreTrainedTokenizerFast

    passes = itertools.count(1)

    def come(to: str) -> None:
        if to == spot and next(passes) == nth:
            act()

    def what(path: Any) -> str:
        name = Path(path).name.strip(".").removesuffix(".part")
        return "checkpoint" if name.isdigit() else "completions" if name.endswith(".parquet") else name

    def opened(path: Any, mode: str = "r") -> Any:
        file, name = open(path, mode), "line of the curve" if mode == "a" else what(path)  # noqa: SIM115
        write = file.write

        def halves(text: str) -> None:
            come(f"before {name}")
            write(text[: len(text) // 2])
            file.flush()
            come(f"half of {name}")
            write(text[len(text) // 2 :])

        if mode in ("a", "w"):
            file.write = halves
        return file

    def whole(function: Any) -> Any:  # what libraries write is cut in half afterwards
        def cut(content: Any, path: Any, *args: Any, **named: Any) -> Any:
            come(f"before {what(path)}")
            written = function(content, path, *args, **named)
            file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
            data = file.read_bytes()
            os.truncate(file, len(data) // 2)
            come(f"half of {what(file)}")
            file.write_bytes(data)
            return written

        return cut

    def replaced(source: Any, target: Any, move: Any = os.replace) -> None:
        come(f"before the rename of {what(target)}")
        move(source, target)
        come(f"after the rename of {what(target)}")

    def removed(folder: Any, *args: Any, remove: Any = shutil.rmtree, **named: Any) -> None:
        if what(folder) == "checkpoint" and (file := next(Path(folder).glob("*"), None)):
            file.unlink()
            come("half of the removal of a checkpoint")
        remove(folder, *args, **named)

    with ExitStack() as stack:
        stack.enter_context(mock.patch("frugal.core.run.open", opened, create=True))
        stack.enter_context(mock.patch("os.replace", replaced))
        stack.enter_context(mock.patch("shutil.rmtree", removed))
        for owner, name in (
            (safetensors.torch, "save_file"),
            (transformers.modeling_utils, "safe_save_file"),
            (pyarrow.parquet, "write_table"),
            (PreTrainedTokenizerFast, "save_pretrained"),
        ):
            stack.enter_context(mock.patch.object(owner, name, whole(getattr(owner, name))))
        yield


@contextmanager
def checkpoints_every_other_round() -> Iterator[None]:
    """By rounds and not by seconds."""
    from frugal.core.run import Run

    tick = Run.tick

    def regular(run: Run, state: Any) -> None:
        run._saved_at, run._every = (-1e9 if run.clock % 2 else 1e9), 0.0
        tick(run, state)

    with mock.patch.object(Run, "tick", regular):
        yield


# -- processes ------------------------------------------------------------------------------------------------


def go_on(job: Job) -> None:
    """Begin the run, or resume it."""
    import frugal

    with checkpoints_every_other_round():
        if (job.out / "run.json").exists():
            frugal.resume(job.out, task=None if isinstance(job.task, str) else job.task)
        else:
            frugal.run(job.recipe, job.task, samples=job.samples, seed=job.seed, out=job.out, **job.options)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work(job: Job, note: str, spot: str, nth: int) -> None:
    """In the process."""
    with open(note, "r+b") as file, mmap.mmap(file.fileno(), 1) as phase, ExitStack() as stack:
        stack.enter_context(telling(lambda number: phase.__setitem__(0, number)))
        phase[0] = PHASES.index("loading")
        if spot:
            stack.enter_context(meeting(spot, nth, die))
        go_on(job)


def attempt(job: Job, moment: float | None = None, spot: str = "", nth: int = 1) -> str | None:
    """One process, killed `moment` seconds past loading or at the nth pass of `spot`. What it was at, if killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.NamedTemporaryFile() as note:
        note.write(b"\0")
        note.flush()
        process = context.Process(target=work, args=(job, note.name, spot, nth))
        process.start()
        if moment is not None:
            while process.is_alive() and Path(note.name).read_bytes()[0] <= PHASES.index("loading"):
                time.sleep(0.005)
            process.join(moment)
            process.kill()
        process.join()
        return PHASES[Path(note.name).read_bytes()[0]] if process.exitcode == -signal.SIGKILL else None


def left_behind(out: Path) -> dict[str, Any]:
    """What a finished run is compared by."""
    import pyarrow.parquet

    ledger = json.loads((out / "ledger.json").read_text())
    ledger.pop("seconds"), ledger["evaluation"].pop("seconds")
    tables = sorted((out / "completions").iterdir())
    return {
        "curve": (out / "curve.jsonl").read_text(),
        "weights": (out / "model" / "model.safetensors").read_bytes(),
        "completions": [row for table in tables for row in pyarrow.parquet.read_table(table).to_pylist()],
        "ledger": ledger,
        "model": {path.name: path.read_bytes() for path in (out / "model").iterdir()},
        "half written": [str(path) for path in out.rglob("*.part")],
    }


# -- the count ------------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """One run: what each of its kills fell into, and which of its files differ from the reference's."""

    kills: list[str]
    differing: list[str]


def end(job: Job, wanted: dict[str, Any], kills: list[str]) -> Ended:
    """Bring a killed run to its end and compare; its directory goes if nothing differs."""
    try:
        attempt(job)
        found = left_behind(job.out)
        differing = [name for name in wanted if found[name] != wanted[name]]
    except (OSError, ValueError) as error:  # it did not end, or not whole
        differing = [f"{type(error).__name__}: {error}"]
    if not differing:
        shutil.rmtree(job.out)
    return Ended(kills, differing)


def killed_at_random(job: Job, rng: random.Random, wanted: dict[str, Any], seconds: float) -> Ended:
    """A run that is killed one to four times, at moments uniform over the `seconds` that it takes."""
    kills = []
    for _ in range(rng.randint(1, 4)):
        phase = attempt(job, moment=rng.uniform(0, seconds))
        if phase is None:
            break
        kills.append(phase)
    return end(job, wanted, kills)


def killed_at(job: Job, spot: str, passes: Sequence[int], wanted: dict[str, Any]) -> Ended:
    """A run that is killed at a spot: at the first of the passes through it, resumed, and at the next of them."""
    if spot.endswith("curve.jsonl"):  # which is written whole only by a run that is resumed
        attempt(job, spot="half of line of the curve", nth=5)
    return end(job, wanted, [spot for nth in passes if attempt(job, spot=spot, nth=nth)])


def main() -> None:
    import torch
    import transformers

    import frugal

    rng, runs = random.Random(0), []
    by_moment: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
    by_spot: dict[str, Counter[str]] = {spot: Counter() for spot in SPOTS}
    damage: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="kills-"))

    def count(ended: Ended, kinds: dict[str, Counter[str]]) -> None:
        for name in ended.kills:
            kinds[name].update(tried=1, survived=int(not ended.differing))
        if ended.differing:
            damage.append(f"{folder}: killed at {ended.kills}, differs in {ended.differing}")

    for number, (recipe, samples) in enumerate(RECIPES.items()):
        job = Job(recipe, "modchain", samples, 0, folder / f"{number}", OPTIONS)
        copies = (replace(job, out=folder / f"{number}-{i}") for i in itertools.count())
        attempt(next(copies))  # the first process waits for imports
        with ThreadPoolExecutor(AT_ONCE) as pool:
            start = time.monotonic()
            list(pool.map(attempt, [job, *itertools.islice(copies, AT_ONCE - 1)]))  # as many at once as later
            seconds, wanted = time.monotonic() - start, left_behind(job.out)
            lines = [json.loads(line)["kind"] for line in wanted["curve"].splitlines()]
            runs.append({"recipe": recipe, "task": "modchain", "samples": samples, "seconds": round(seconds, 1)})
            runs[-1] |= {"rounds": lines.count("train"), "evaluations": lines.count("evaluation")}

            goal, tried = RANDOM // len(RECIPES), 0
            at_random = partial(killed_at_random, wanted=wanted, seconds=seconds)
            with tqdm(total=goal, desc="random moments") as bar:
                while tried < goal:
                    seeds = [random.Random(rng.random()) for _ in range(8)]
                    for ended in pool.map(at_random, itertools.islice(copies, 8), seeds):
                        count(ended, by_moment)
                        tried += len(ended.kills)
                        bar.update(len(ended.kills))
            ways = [(next(copies), spot, (nth, 1)) for spot in SPOTS for nth in range(1, 1 + REPEATS)]
            ends = pool.map(partial(killed_at, wanted=wanted), *zip(*ways, strict=True))
            for ended in tqdm(ends, desc="named spots", total=len(ways)):
                count(ended, by_spot)
    counted = [*by_moment.values(), *by_spot.values()]
    result = {
        "command": "python benchmarks/kills.py",
        "tried": sum(one["tried"] for one in counted),
        "survived": sum(one["survived"] for one in counted),
        "at random moments": {name: one for name, one in by_moment.items() if one},
        "at named spots": {name: one for name, one in by_spot.items() if one},
        "runs": runs,
        "differing": damage,
        "versions": {
            "frugal": frugal.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
    if not damage:
        shutil.rmtree(folder)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for name, one in [*by_moment.items(), *by_spot.items()]:
        print(f"{name:45} {one['survived']:4} of {one['tried']:4}")
    print(f"{'survived':45} {result['survived']:4} of {result['tried']:4}", *damage, sep="\n")


if __name__ == "__main__":
    main()

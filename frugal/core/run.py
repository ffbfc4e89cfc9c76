"""One run: its seed, budget, ledger, directory and checkpoints. A run killed at any moment resumes to the same result.

A run directory is readable without us:

    run.json              what was asked: recipe, task, model, seed, budget, versions
    curve.jsonl           one line a round, and one for each evaluation
    ledger.json           everything spent
    completions/*.parquet what was sampled, one file a checkpoint
    broken/*.json         samples for which a part said NaN or infinity, if there were any
    checkpoints/N/        tensors.safetensors, state.json (with checksums)
    model/                the final weights, as the model's own library reads them
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from frugal.lazy import torch

from . import parallel
from .errors import BadRun, RunFailed

CHECKPOINTS_KEPT = 2


@dataclass
class Spent:
    """What sampling costs; kept once for training and once for evaluation."""

    samples: int = 0  # completions
    tokens: int = 0
    verifier_calls: int = 0
    verifier_failures: int = 0  # completions scored 0 because the verifier hung or crashed
    demonstrations: int = 0
    seconds: float = 0.0


@dataclass
class Ledger(Spent):
    """Everything that a run has spent. Counts; seconds are wall-clock."""

    teacher_calls: int = 0
    labels: int = 0
    gradient_steps: int = 0
    skipped_steps: int = 0  # a part or the gradient was NaN or infinite
    rejected_groups: int = 0
    flat_groups: int = 0  # groups without spread, which teach nothing
    evaluation: Spent = field(default_factory=Spent)


class Stopped(Exception):
    """The user asked the run to stop; everything is saved."""


class Run:
    """State of one run that is not the policy's. `out=None` keeps nothing on disk.

    Of several processes only the first writes and reports; the others read checkpoints.
    """

    def __init__(
        self,
        samples: int,
        seed: int = 0,
        out: Path | str | None = None,
        *,
        checkpoint_seconds: float = 60.0,
        reporter: Any = None,
    ):
        if samples < 1:
            raise BadRun(f"the budget is {samples} samples; give at least 1")
        self.budget, self.seed = samples, seed
        self.stage, self._begins, self._ends = 0, 0, samples
        self.out = Path(out) if out is not None else None
        self.writes_to = self.out if parallel.rank == 0 else None
        self.ledger, self.clock = Ledger(), 0
        self.curve: list[dict[str, Any]] = []
        self.net: Any = None  # the policy, for parts that begin
        self.settings: Any = None  # the loop's, as numbers at this round
        self.state: dict[str, Any] | None = None  # what `load` found, until the loop takes it
        self.reporter = reporter
        self._rows: list[dict[str, Any]] = []  # completions since the last checkpoint
        self._every, self._saved_at, self._stop = checkpoint_seconds, time.monotonic(), False

    @property
    def progress(self) -> float:
        """Share of the stage's budget that is spent, 0 to 1."""
        return min((self.ledger.samples - self._begins) / (self._ends - self._begins), 1.0)

    def left(self) -> int:
        """Samples that the stage may still spend."""
        return max(self._ends - self.ledger.samples, 0)

    def enter(self, stage: int, begins: int, ends: int) -> None:
        """Begin a stage that may spend the samples from `begins` to `ends`."""
        self.stage, self._begins, self._ends = stage, begins, ends

    def rng(self, *name: Any) -> torch.Generator:
        """A generator of its own for each name, seed and round: nothing to save, and no part disturbs another."""
        digest = hashlib.sha256(repr((self.seed, self.clock, *name)).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    # -- the record -------------------------------------------------------------------------------------------

    def log(self, kind: str, **values: Any) -> None:
        """Add one line to the curve."""
        line = {"kind": kind, "round": self.clock, "samples": self.ledger.samples, **values}
        self.curve.append(line)
        if self.writes_to:
            try:
                with open(self.writes_to / "curve.jsonl", "a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise self._cannot_write(error) from None
        if self.reporter and parallel.rank == 0:
            self.reporter(self, line)

    def write(self, name: str, text: str) -> None:
        """Write a file into the run's directory, whole or not at all."""
        if self.writes_to is None:
            return
        try:
            (self.writes_to / name).parent.mkdir(exist_ok=True)
            write(self.writes_to / name, text)
        except OSError as error:
            raise self._cannot_write(error) from None

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """Remember completions for the next checkpoint's table."""
        if self.writes_to:
            self._rows += rows

    def tick(self, state: Any) -> None:
        """End a round: count it, and save `state()` when it is time. Raises `Stopped` after an interrupt."""
        self.clock += 1
        (stop,) = parallel.largest(self._stop)  # all processes in the same round
        if self.writes_to and (stop or time.monotonic() - self._saved_at > self._every):
            self.save(state())
        if stop:
            raise Stopped(self.out)

    def finish(self, state: Any) -> None:
        """Save the end of the run."""
        if self.writes_to:
            self.save(state())

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it a first Ctrl-C finishes the round and saves; a second one stops at once."""

        def on_interrupt(*_: Any) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        try:
            before = signal.signal(signal.SIGINT, on_interrupt)
        except ValueError:  # not the main thread
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # -- directory and checkpoints ----------------------------------------------------------------------------

    def create(self, asked: dict[str, Any]) -> None:
        """Make the directory and write run.json. Raises `BadRun` if it already holds a run."""
        out = self.writes_to
        if out is None:
            return
        if (out / "run.json").exists():
            raise BadRun(f"{out} already holds a run; choose another --out, or: frugal resume {out}")
        try:
            out.mkdir(parents=True, exist_ok=True)
            write(out / "run.json", json.dumps(asked, indent=2))
        except OSError as error:
            raise BadRun(f"cannot write to the folder {out}: {error.strerror}") from None

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint of {"part/name": tensor or JSON-ready value} and what the run knows; atomic."""
        from safetensors import SafetensorError  # what a full disk raises in save_file

        assert self.out is not None
        began = time.monotonic()
        folder = self.out / "checkpoints" / f"{self.clock:08d}"
        half = folder.with_name(f".{folder.name}.part")
        try:
            if self._rows:
                self._write_completions()
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            self._write_state(half, state)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(half, folder)
            write(self.out / "ledger.json", json.dumps(asdict(self.ledger), indent=2))
        except (OSError, SafetensorError) as error:
            shutil.rmtree(half, ignore_errors=True)
            raise self._cannot_write(error) from None
        for old in self._checkpoints()[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self._saved_at = time.monotonic()
        self._every = max(self._every, 20 * (self._saved_at - began))

    def load(self) -> None:
        """Go back to the newest intact checkpoint, or to the beginning; what was written after it is taken back."""
        assert self.out is not None
        for folder in reversed(self._checkpoints()):
            state = _read_state(folder)
            if state is None:
                if self.writes_to:
                    print(f"{folder} is damaged; going back to the one before it")
                    shutil.rmtree(folder, ignore_errors=True)  # else it would count among those that are kept
                continue
            about = state.pop("run")
            self.clock, self.stage, lines = about["clock"], about["stage"], about["lines"]
            ledger = dict(about["ledger"])
            self.ledger = Ledger(**{**ledger, "evaluation": Spent(**ledger["evaluation"])})
            self._take_back(lines)
            self.state = state
            break
        else:
            self._take_back(0)
        parallel.agree(self.clock, "the newest checkpoint")

    def _write_state(self, folder: Path, state: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        tensors = {k: v.detach().contiguous() for k, v in state.items() if isinstance(v, torch.Tensor)}
        save_file(tensors, folder / "tensors.safetensors")
        values = {k: v for k, v in state.items() if not isinstance(v, torch.Tensor)}
        values["run"] = {
            "clock": self.clock,
            "stage": self.stage,
            "lines": len(self.curve),
            "ledger": asdict(self.ledger),
        }
        text = json.dumps(values)
        sums = {"state": _sha256(text.encode()), "tensors": _sha256((folder / "tensors.safetensors").read_bytes())}
        write(folder / "state.json", json.dumps({"values": values, "sha256": sums}))

    def _write_completions(self) -> None:
        import pyarrow
        import pyarrow.parquet

        assert self.out is not None
        folder = self.out / "completions"
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.clock:08d}.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(self._rows), f"{path}.part")
        os.replace(f"{path}.part", path)
        self._rows = []

    def _cannot_write(self, error: Exception) -> RunFailed:
        return RunFailed(
            f"cannot write to {self.out}: {error}; earlier checkpoints are intact: "
            f"make room, then: frugal resume {self.out}"
        )

    def _checkpoints(self) -> list[Path]:
        assert self.out is not None
        return sorted((self.out / "checkpoints").glob("[0-9]*"))

    def _take_back(self, lines: int) -> None:
        """Cut the curve and the completion tables back to the checkpoint's moment."""
        assert self.out is not None
        curve = self.out / "curve.jsonl"
        kept = curve.read_text().splitlines()[:lines] if curve.exists() else []
        self.curve = [json.loads(line) for line in kept]
        if not self.writes_to:
            return
        write(curve, "".join(line + "\n" for line in kept))
        for table in (self.out / "completions").glob("*.parquet*"):
            if int(table.name[:8]) > self.clock:
                table.unlink()


def write(path: Path, text: str) -> None:
    """Write a file so that it is either whole or not there."""
    part = path.with_name(f".{path.name}.part")
    with open(part, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _read_state(folder: Path) -> dict[str, Any] | None:
    """What `_write_state` wrote, or None if a byte of it is wrong."""
    from safetensors.torch import load_file

    try:
        saved = json.loads((folder / "state.json").read_text())
        intact = (
            _sha256(json.dumps(saved["values"]).encode()) == saved["sha256"]["state"]
            and _sha256((folder / "tensors.safetensors").read_bytes()) == saved["sha256"]["tensors"]
        )
        return {**saved["values"], **load_file(folder / "tensors.safetensors")} if intact else None
    except (OSError, ValueError, KeyError):
        return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

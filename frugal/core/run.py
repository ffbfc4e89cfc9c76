"""One run: its seed, budget, ledger, directory and checkpoints. A run killed at any moment resumes to the same result.

A run directory is readable without us:

    run.json              what was asked: recipe, task, model, seed, budget, versions
    curve.jsonl           one line a round, and one for each evaluation
    ledger.json           everything spent
    completions/*.parquet what a language model sampled, one file a checkpoint
    broken/*.json         samples for which a part said NaN or infinity, if there were any
    checkpoints/N/        tensors.safetensors, state.json (with checksums, and the curve so far)
    model/                the final weights, as the model's own library reads them; of a controller, its policy

What is written stands under another name until it is whole and on the disk, except for a line of the curve.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from frugal.lazy import torch

from . import parallel
from .errors import BadRun, CannotWrite
from .ledger import Ledger, Spent

CHECKPOINTS_KEPT = 2


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
        self.stumbled = 0  # rounds in a row of which nothing could be learnt
        self.curve: list[dict[str, Any]] = []
        self.domain: Any = None  # of the recipe, for who shows the run
        self.env: Any = None  # the environments, for parts that begin, and their spaces
        self.spaces: Any = None
        self.net: Any = None  # the policy, for parts that begin
        self.task: Any = None  # what it is trained on, for the same
        self.recipe: Any = None  # of pairs, for a part that runs it again with something else
        self.settings: Any = None  # the loop's, as numbers at this round
        self.state: dict[str, Any] | None = None  # what `load` found, until the loop takes it
        self.reporter = reporter
        self._rows: list[dict[str, Any]] = []  # completions since the last checkpoint
        self._tables: dict[str, str] = {}  # checksums of the completion tables, by file
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
            with self._writing(), open(self.writes_to / "curve.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
        if self.reporter and parallel.rank == 0:
            self.reporter(self, line)

    def write(self, name: str, text: str) -> None:
        """Write a file into the run's directory, whole or not at all."""
        if self.writes_to is None:
            return
        with self._writing():
            (self.writes_to / name).parent.mkdir(exist_ok=True)
            write(self.writes_to / name, text)

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
            write(out / "run.json", json.dumps({**asked, "sha256": _sum_of(asked)}, indent=2))
        except OSError as error:
            raise BadRun(f"cannot write to the folder {out}: {error.strerror}") from None

    def withdraw(self) -> None:
        """Take back run.json of a run that could not begin, so that its folder can be used."""
        if self.writes_to and not self.curve:
            (self.writes_to / "run.json").unlink(missing_ok=True)

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint of {"part/name": tensor or JSON-ready value} and what the run knows; atomic."""
        assert self.out is not None
        began = time.monotonic()
        folder = self.out / "checkpoints" / f"{self.clock:08d}"
        half = _part(folder)
        with self._writing(half):
            if self._rows:
                self._write_completions()
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            self._write_state(half, state)
            if folder.exists():  # saved before in this round: the tensors are the same, so it is never not whole
                for file in half.iterdir():
                    _put(file, folder / file.name)
                half.rmdir()
            else:
                _put(half, folder)
            write(self.out / "ledger.json", json.dumps(asdict(self.ledger), indent=2))
        for old in self._checkpoints()[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self._saved_at = time.monotonic()
        self._every = max(self._every, 20 * (self._saved_at - began))

    def save_model(self, fill: Callable[[Path], Any]) -> None:
        """Write model/ by `fill`, which is given the folder to write into."""
        assert self.out is not None
        folder = self.out / "model"
        half = _part(folder)
        with self._writing(half):
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            fill(half)
            shutil.rmtree(folder, ignore_errors=True)
            _put(half, folder)

    def load(self) -> None:
        """Go back to the newest intact checkpoint, or to the beginning; what was written after it is taken back."""
        assert self.out is not None
        found = self._checkpoints()
        while found:
            folder = found.pop()
            state = self._read_state(folder)
            if state is not None:
                about = state.pop("run")
                self.clock, self.stage, self.stumbled = about["clock"], about["stage"], about["stumbled"]
                self.curve, self._tables = about["curve"], about["tables"]
                self.ledger = Ledger(**{**about["ledger"], "evaluation": Spent(**about["ledger"]["evaluation"])})
                self.state = state
                break
            if self.writes_to:
                print(f"{folder} is damaged; going back to {found[-1].name if found else 'the beginning'}")
                shutil.rmtree(folder, ignore_errors=True)  # else it would count among those that are kept
        if self.writes_to:
            with self._writing():
                self._take_back()
        parallel.agree(self.clock, "the newest checkpoint")

    def _write_state(self, folder: Path, state: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        tensors = {k: v.detach().contiguous() for k, v in state.items() if isinstance(v, torch.Tensor)}
        path = folder / "tensors.safetensors"
        save_file(tensors, path)
        values = {k: v for k, v in state.items() if not isinstance(v, torch.Tensor)}
        values["run"] = {
            "clock": self.clock,
            "stage": self.stage,
            "stumbled": self.stumbled,
            "curve": self.curve,
            "ledger": asdict(self.ledger),
            "tables": self._tables,
        }
        sums = {"state": _sum_of(values), "tensors": _sum_of_file(path)}
        write(folder / "state.json", json.dumps({"values": values, "sha256": sums}))

    def _write_completions(self) -> None:
        import pyarrow
        import pyarrow.parquet

        assert self.out is not None
        folder = self.out / "completions"
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.clock:08d}.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(self._rows), _part(path))
        self._tables[path.name] = _sum_of_file(_part(path))
        _put(_part(path), path)
        self._rows = []

    @contextmanager
    def _writing(self, half: Path | None = None) -> Iterator[None]:
        """Within it a refusal to write is one message, and the folder `half` goes."""
        from safetensors import SafetensorError

        try:
            yield
        except Exception as error:
            if not isinstance(error, (OSError, SafetensorError)) and type(error) is not Exception:  # tokenizers' own
                raise
            if half:
                shutil.rmtree(half, ignore_errors=True)
            raise CannotWrite(
                f"cannot write to {self.out}: {error}; earlier checkpoints are intact: "
                f"make room, then: frugal resume {self.out}"
            ) from None

    def _checkpoints(self) -> list[Path]:
        assert self.out is not None
        return sorted((self.out / "checkpoints").glob("[0-9]*"))

    def _read_state(self, folder: Path) -> dict[str, Any] | None:
        """What `_write_state` wrote, or None if a byte of it, or of the table written with it, is wrong."""
        from safetensors.torch import load_file

        path, table = folder / "tensors.safetensors", self._table(f"{folder.name}.parquet")
        try:
            saved = json.loads((folder / "state.json").read_text())
            values, sums = saved["values"], saved["sha256"]
            if _sum_of(values) != sums["state"] or _sum_of_file(path) != sums["tensors"]:
                return None
            if table.exists() and _sum_of_file(table) != values["run"]["tables"].get(table.name):
                return None
            return {**values, **load_file(path)}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _table(self, name: str) -> Path:
        assert self.out is not None
        return self.out / "completions" / name

    def _take_back(self) -> None:
        """Bring curve and completion tables to the checkpoint's moment, and say what is not as it was written."""
        assert self.out is not None
        curve, text = self.out / "curve.jsonl", "".join(json.dumps(line) + "\n" for line in self.curve)
        if text and not (curve.exists() and curve.read_bytes().startswith(text.encode())):
            print(f"{curve} is damaged; it is written again from the checkpoint")
        write(curve, text)
        for table in (self.out / "completions").glob("*.parquet"):
            if int(table.stem) > self.clock:
                table.unlink()
        for name, checksum in self._tables.items():
            table = self._table(name)
            if not table.exists() or _sum_of_file(table) != checksum:
                print(f"{table} is damaged or gone; training does not need it, and the run goes on without it")
        for half in [*self.out.glob(".*.part"), *self.out.glob("*/.*.part")]:
            shutil.rmtree(half) if half.is_dir() else half.unlink()


def read_asked(out: Path) -> dict[str, Any]:
    """What `Run.create` was asked for. Raises `BadRun` if there is no run.json, or another than was written."""
    path = out / "run.json"
    try:
        asked: dict[str, Any] = json.loads(path.read_text())
        checksum = asked.pop("sha256", None)
    except OSError:
        raise BadRun(f"{out} holds no run: there is no {path}; begin it with: frugal run ... --out {out}") from None
    except (ValueError, AttributeError) as error:
        raise BadRun(f"{path} is damaged: {error}") from None
    if checksum not in (None, _sum_of(asked)):
        raise BadRun(
            f"{path} is not what was written when the run began, so its result would be another; "
            'put it back, or remove its line "sha256" if you mean it'
        )
    return asked


def write(path: Path, text: str) -> None:
    """Write a file so that it is either whole or not there."""
    part = _part(path)
    with open(part, "w") as file:
        file.write(text)
    _put(part, path)


def _part(path: Path) -> Path:
    """The name of what is not yet whole."""
    return path.with_name(f".{path.name}.part")


def _put(part: Path, path: Path) -> None:
    """Give a file or folder its name once it is on the disk."""
    for file in filter(Path.is_file, part.rglob("*") if part.is_dir() else [part]):
        with open(file, "r+b") as written:
            os.fsync(written.fileno())
    os.replace(part, path)


def _sum_of(value: Any) -> str:
    """The checksum of JSON-ready data, however it is laid out in a file."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _sum_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""One run: its random numbers, its ledger, and checkpoints that survive damage and full disks."""

import errno
import itertools
import json
import os
import pickle
import resource
import signal

import pyarrow.parquet
import pytest
import safetensors.torch
import torch

from frugal.core.errors import BadRun, RunFailed
from frugal.core.ledger import Ledger, Spent
from frugal.core.run import CHECKPOINTS_KEPT, Run, Stopped

STATE = {
    "optimiser/w": torch.tensor([[1.0, float("nan")], [float("-inf"), -0.0]]),
    "parts/half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "parts/steps": 3,
    "parts/nested": {"words": ["a", "é"], "share": 0.1, "none": None},
}


def state(n=0):
    return {**STATE, "parts/steps": n}


def run_to(out, clock):
    """A run in `out` that has been saved at the end of each round up to `clock`."""
    run = Run(100, out=out)
    run.create({"recipe": "grpo"})
    for n in range(1, clock + 1):
        run.clock = n - 1
        run.ledger.samples += 10
        run.log("train", score=n / 10)
        run.keep([{"round": n, "completion": f"text {n}"}])
        run.clock = n
        run.save(state(n))
    return run


def loaded(out):
    run = Run(100, out=out)
    run.load()
    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- budget, ledger, random numbers ---------------------------------------------------------------------------


def test_the_budget_is_counted_down():
    run = Run(40)
    assert (run.progress, run.left()) == (0.0, 40)
    run.ledger.samples = 30
    assert (run.progress, run.left()) == (0.75, 10)
    run.ledger.samples = 50  # a last group may go beyond it
    assert (run.progress, run.left()) == (1.0, 0)
    with pytest.raises(BadRun, match="0 samples"):
        Run(0)


def test_evaluation_is_charged_in_a_column_of_its_own():
    ledger = Ledger()
    ledger.evaluation.samples += 5
    assert ledger.samples == 0 and Ledger().evaluation.samples == 0 and not isinstance(ledger.evaluation, Ledger)


def test_a_run_within_costs_all_but_its_samples():
    ledger = Ledger(samples=5, labels=1)
    ledger.add(Ledger(samples=8, labels=3, identical_pairs=2, seconds=0.5, evaluation=Spent(tokens=5)))
    assert ledger == Ledger(samples=5, labels=4, identical_pairs=2, seconds=0.5)


def numbers(run, *name):
    return tuple(torch.rand(8, generator=run.rng(*name)).tolist())


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63])
def test_one_name_seed_and_round_mean_the_same_numbers(seed):
    used = Run(10, seed)
    numbers(used, "something else"), torch.rand(3)
    assert numbers(used, "pick", 1) == numbers(used, "pick", 1) == numbers(Run(99, seed), "pick", 1)


def test_another_name_seed_or_round_means_other_numbers():
    drawn = []
    for seed, clock in itertools.product([0, 1, 2], [0, 1, 2]):
        run = Run(10, seed)
        run.clock = clock
        drawn += [numbers(run, *name) for name in [("a",), ("a", 0), ("a", 1), ("a1",), ("b",), ()]]
    assert len(set(drawn)) == len(drawn) == 54


# -- the directory --------------------------------------------------------------------------------------------


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(10, checkpoint_seconds=0)
    run.create({}), run.keep([{"a": 1}]), run.log("train", score=1), run.tick(state), run.finish(state)
    assert list(tmp_path.iterdir()) == [] and run.clock == 1
    assert run.curve == [{"kind": "train", "round": 0, "samples": 0, "score": 1}]


def test_the_directory_is_readable_without_us(tmp_path):
    run = run_to(tmp_path, 2)
    assert json.loads((tmp_path / "run.json").read_text())["recipe"] == "grpo"
    assert [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()] == run.curve
    assert json.loads((tmp_path / "ledger.json").read_text())["samples"] == 20
    assert names(tmp_path / "completions") == ["00000001.parquet", "00000002.parquet"]
    table = pyarrow.parquet.read_table(tmp_path / "completions" / "00000002.parquet")
    assert table.to_pylist() == [{"round": 2, "completion": "text 2"}]
    assert names(tmp_path / "checkpoints" / "00000002") == ["state.json", "tensors.safetensors"]


def test_a_directory_holds_one_run(tmp_path):
    run_to(tmp_path, 1)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(BadRun, match=r"already holds a run; choose another --out, or: frugal resume"):
        Run(10, out=tmp_path).create({"recipe": "ppo"})
    assert (tmp_path / "run.json").read_text() == before


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRun, match="cannot write to the folder"):
        Run(10, out=tmp_path / "file" / "run").create({})


# -- checkpoints ----------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    saved = run_to(tmp_path, 1)
    run = loaded(tmp_path)
    assert run.state.keys() == STATE.keys()
    for name, value in STATE.items():
        if isinstance(value, torch.Tensor):
            got = run.state[name]
            assert got.dtype == value.dtype and got.shape == value.shape
            assert got.view(torch.uint8).tolist() == value.view(torch.uint8).tolist()  # bit for bit
    assert run.state["parts/steps"] == 1 and run.state["parts/nested"] == STATE["parts/nested"]
    assert (run.clock, run.curve) == (1, saved.curve)
    assert run.ledger == saved.ledger and type(run.ledger.evaluation) is Spent


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickle")

    for module, name in ((pickle, "dump"), (pickle, "load"), (pickle, "loads"), (torch, "save"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    run_to(tmp_path, 1)
    assert loaded(tmp_path).clock == 1
    files = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {".json", ".jsonl", ".parquet", ".safetensors"}


def test_few_checkpoints_are_kept(tmp_path):
    run_to(tmp_path, 5)
    assert CHECKPOINTS_KEPT == 2 and names(tmp_path / "checkpoints") == ["00000004", "00000005"]


def test_saving_twice_in_one_round_keeps_the_later_state(tmp_path):
    run = run_to(tmp_path, 2)
    run.save(state(77))
    assert names(tmp_path / "checkpoints") == ["00000001", "00000002"]
    assert loaded(tmp_path).state["parts/steps"] == 77


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_second_save_in_one_round_leaves_the_checkpoint_whole_at_any_moment(tmp_path, monkeypatch, capsys, renames):
    class Killed(BaseException):
        pass

    left, replace = iter(range(renames)), os.replace

    def dying(*paths):
        if next(left, None) is None:
            raise Killed
        replace(*paths)

    run = run_to(tmp_path, 1)
    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        run.save(state(77))
    monkeypatch.undo()
    assert loaded(tmp_path).clock == 1 and capsys.readouterr().out == ""


def damage_byte(file, at):
    data = bytearray(file.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("at", [i / 12 for i in range(13)])
def test_a_damaged_byte_means_the_checkpoint_before(tmp_path, capsys, name, at):
    run_to(tmp_path, 2)
    damage_byte(tmp_path / "checkpoints" / "00000002" / name, at)
    run = loaded(tmp_path)
    assert (run.clock, run.state["parts/steps"], run.ledger.samples) == (1, 1, 10)
    assert "00000002 is damaged; going back to 00000001" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["empty", "half", "missing"])
def test_a_file_cut_short_means_the_checkpoint_before(tmp_path, capsys, name, how):
    run_to(tmp_path, 2)
    file = tmp_path / "checkpoints" / "00000002" / name
    data = file.read_bytes()
    file.unlink() if how == "missing" else file.write_bytes(b"" if how == "empty" else data[: len(data) // 2])
    assert loaded(tmp_path).clock == 1
    assert "is damaged" in capsys.readouterr().out


def test_a_damaged_checkpoint_is_not_among_those_that_are_kept(tmp_path):
    run_to(tmp_path, 5)
    damage_byte(tmp_path / "checkpoints" / "00000005" / "state.json", 0.5)
    run = loaded(tmp_path)
    assert names(tmp_path / "checkpoints") == ["00000004"]
    run.save(state())
    assert loaded(tmp_path).clock == 4


def test_all_checkpoints_damaged_means_the_beginning(tmp_path, capsys):
    run_to(tmp_path, 2)
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        damage_byte(checkpoint / "state.json", 0.5)
    run = loaded(tmp_path)
    assert (run.clock, run.state, run.curve, run.ledger.samples) == (0, None, [], 0)
    assert names(tmp_path / "completions") == [] and (tmp_path / "curve.jsonl").read_text() == ""
    said = capsys.readouterr().out
    assert "00000002 is damaged; going back to 00000001" in said
    assert "00000001 is damaged; going back to the beginning" in said


def test_a_run_without_a_checkpoint_begins_again(tmp_path):
    run = Run(100, out=tmp_path)
    run.create({})
    run.log("train", score=1)
    assert loaded(tmp_path).curve == [] and (tmp_path / "curve.jsonl").read_text() == ""


def test_what_was_written_after_the_checkpoint_is_taken_back(tmp_path):
    saved = run_to(tmp_path, 2)
    saved.clock = 3
    saved.log("train", score=3)  # the lost rounds: a line of the curve, half a line, a table, half a table
    with open(tmp_path / "curve.jsonl", "a") as file:
        file.write('{"kind": "tr')
    for name in ("00000003.parquet", ".00000004.parquet.part"):
        (tmp_path / "completions" / name).write_bytes(b"half")
    (tmp_path / "checkpoints" / ".00000003.part").mkdir()
    run = loaded(tmp_path)
    assert run.clock == 2 and run.curve == saved.curve[:2]
    assert names(tmp_path / "checkpoints") == ["00000001", "00000002"]
    lines = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.curve
    assert names(tmp_path / "completions") == ["00000001.parquet", "00000002.parquet"]


def test_going_on_after_a_resume_writes_the_same_curve(tmp_path):
    straight = run_to(tmp_path / "straight", 3)
    run_to(tmp_path / "killed", 2)
    again = loaded(tmp_path / "killed")
    again.ledger.samples += 10
    again.log("train", score=0.3)
    assert again.curve == straight.curve
    assert (tmp_path / "killed/curve.jsonl").read_text() == (tmp_path / "straight/curve.jsonl").read_text()


def test_a_failed_write_ends_the_run_and_spares_earlier_checkpoints(tmp_path, monkeypatch):
    run = run_to(tmp_path, 2)

    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", no_space)
    run.clock = 3
    with pytest.raises(RunFailed, match=r"No space left on device.*intact.*frugal resume"):
        run.save(state(3))
    monkeypatch.undo()
    assert names(tmp_path / "checkpoints") == ["00000001", "00000002"]
    assert loaded(tmp_path).state["parts/steps"] == 2


@pytest.fixture
def full_disk():
    """Files cannot grow beyond 4096 bytes: the system's own refusal, in whatever library meets it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what", ["tensors", "values", "completions"])
def test_a_disk_that_is_full_ends_the_run_and_spares_earlier_checkpoints(tmp_path, request, what):
    run = run_to(tmp_path, 2)
    run.clock = 3
    large = state(3)
    if what == "tensors":
        large["parts/large"] = torch.zeros(4096)
    elif what == "values":
        large["parts/large"] = "x" * 8192
    else:
        run.keep([{"completion": os.urandom(8192).hex()}])
    request.getfixturevalue("full_disk")
    with pytest.raises(RunFailed, match="File too large"):
        run.save(large)
    assert names(tmp_path / "checkpoints") == ["00000001", "00000002"]
    again = loaded(tmp_path)
    assert again.state["parts/steps"] == 2
    assert names(tmp_path / "completions") == ["00000001.parquet", "00000002.parquet"]


# -- time and interrupts --------------------------------------------------------------------------------------


def test_a_tick_saves_only_when_it_is_time(tmp_path):
    rare, often = Run(10, out=tmp_path / "rare"), Run(10, out=tmp_path / "often", checkpoint_seconds=0)
    for run in (rare, often):
        run.create({})
        run.tick(state)
    assert not (tmp_path / "rare" / "checkpoints").exists()
    assert names(tmp_path / "often" / "checkpoints") == ["00000001"]
    rare.finish(state)
    assert names(tmp_path / "rare" / "checkpoints") == ["00000001"]


def test_saving_takes_at_most_a_twentieth_of_the_time(tmp_path, monkeypatch):
    now = iter([0.0, 100.0, 107.0, 200.0, 247.0])  # made; save begins, ends; two ticks
    monkeypatch.setattr("frugal.core.run.time.monotonic", lambda: next(now))
    run = Run(10, out=tmp_path, checkpoint_seconds=60)
    run.create({})
    run.save(state())  # takes 7 s, so the next is due 140 s after it, at 247
    run.tick(state), run.tick(state)
    assert names(tmp_path / "checkpoints") == ["00000000"]


def test_an_interrupt_ends_the_round_saves_and_stops(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run = Run(10, out=tmp_path)
    run.create({})
    with pytest.raises(Stopped), run.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        run.log("train", score=1)  # the round goes on
        run.tick(state)
    assert loaded(tmp_path).clock == 1 and len(loaded(tmp_path).curve) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_stops_at_once(tmp_path):
    run = Run(10, out=tmp_path)
    with pytest.raises(KeyboardInterrupt), run.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_disk_that_is_full_for_the_curve_ends_the_run(tmp_path, request):
    run = run_to(tmp_path, 2)
    request.getfixturevalue("full_disk")
    with pytest.raises(RunFailed, match=r"File too large.*frugal resume"):
        run.log("train", text="x" * 8192)
    assert loaded(tmp_path).curve == run.curve[:2]

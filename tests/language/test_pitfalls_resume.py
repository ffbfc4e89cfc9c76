"""Pitfall 14, exact resume, and evaluation without a trace: the same bits, whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pyarrow.parquet
import pytest
import torch

import frugal
from frugal.core.recipe import Patch, patch
from frugal.core.run import Run
from tests.language.tinyrun import Dialogue, saved, weights

HERE = Path(__file__)
SAMPLES = 40

RECIPES = {  # a critic, a part with a memory and schedules; then filters, annealing and several steps a round
    "ppo": f"ppo(prompts=8, lr=linear(1e-2, 1e-3), beta=0.1, weight_decay=linear(0.0, 0.1))+{HERE}:remembers",
    "dapo": "dapo(prompts=2, group=4, epochs=2, minibatches=2, temperature=linear(1.0, 0.7), lr=1e-2)+ead+capo",
}


class Killed(BaseException):
    """As if the process ended: nothing catches it and nothing is tidied up."""


class Memory:
    """A bonus that depends on all rounds so far: the running mean of the scores."""

    mean, rounds = 0.0, 0

    def __call__(self, rows):
        return (rows.score - self.mean)[:, None].expand_as(rows.old)

    def learn(self, rows):
        self.rounds += 1
        self.mean += (float(rows.score.mean()) - self.mean) / self.rounds

    def state_dict(self):
        return {"mean": self.mean, "rounds": self.rounds}

    def load_state_dict(self, state):
        self.mean, self.rounds = state["mean"], state["rounds"]


@dataclass(frozen=True)
class Remembers:
    def begin(self, run):
        return Memory()


@patch
def remembers():
    return Patch(add={"credit.bonus": Remembers()})


def checkpoints_every_other_round():
    """By rounds and not by seconds, so that a test is the same on any machine."""
    tick = Run.tick

    def regular(self, state):
        self._saved_at = -1e9 if self.clock % 2 else 1e9
        self._every = 0.0
        tick(self, state)

    return mock.patch.object(Run, "tick", regular)


def begin(name, model, out, reporter=None):
    options = {"samples": SAMPLES, "seed": 3, "evaluations": 3, "eval_problems": 2, "eval_k": 1, "threads": 1}
    return frugal.run(RECIPES[name], Dialogue(), model=model, dtype="float32", out=out, reporter=reporter, **options)


def left_behind(out):
    """Curve, completions and final weights of a finished run, without the seconds."""
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    tables = sorted((out / "completions").glob("*.parquet"))
    rows = [row for table in tables for row in pyarrow.parquet.read_table(table).to_pylist()]
    ledger = json.loads((out / "ledger.json").read_text())
    ledger.pop("seconds"), ledger["evaluation"].pop("seconds")
    return curve, [t.name for t in tables], rows, ledger, (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module", params=RECIPES)
def finished(request, tmp_path_factory):
    """A run that nothing disturbed: (name of the recipe, model, what it left behind)."""
    folder = tmp_path_factory.mktemp(request.param)
    model = saved(folder / "start")
    with checkpoints_every_other_round():
        begin(request.param, model, folder / "out")
    curve, tables, *_ = result = left_behind(folder / "out")
    assert len(curve) >= 8 and len(tables) == 3 and tables[:2] == ["00000002.parquet", "00000004.parquet"]
    return request.param, model, result


def killing(at):
    """A reporter that dies when it is told the line `at` of the curve."""

    def reporter(run, line):
        if len(run.curve) == at + 1:
            raise Killed

    return reporter


@pytest.mark.parametrize("moments", [(0,), (1,), (4,), (6,), (7,), (2, 2, 5)], ids=str)
def test_pitfall_14_a_run_killed_at_a_line_of_its_curve_resumes_to_the_same_bits(finished, tmp_path, moments):
    name, model, wanted = finished
    out = tmp_path / "out"
    with checkpoints_every_other_round():
        with pytest.raises(Killed):
            begin(name, model, out, killing(moments[0]))
        for at in moments[1:]:
            with pytest.raises(Killed):
                frugal.resume(out, task=Dialogue(), reporter=killing(at))
        frugal.resume(out, task=Dialogue())
    assert left_behind(out) == wanted


@pytest.mark.parametrize("write", (1, 2, 3, 4, 7, 10, 12))
def test_pitfall_14_a_run_killed_in_the_middle_of_saving_resumes_to_the_same_bits(finished, tmp_path, write):
    """Dies just before the n-th time that something written is put in its place: table, checkpoint, ledger, ..."""
    name, model, wanted = finished
    out, replace, count = tmp_path / "out", os.replace, 0

    def dying(*paths):
        nonlocal count
        count += 1
        if count == 1 + write:  # the first is run.json
            raise Killed
        replace(*paths)

    with checkpoints_every_other_round():
        with mock.patch("frugal.core.run.os.replace", dying), pytest.raises(Killed):
            begin(name, model, out)
        frugal.resume(out, task=Dialogue())
    assert left_behind(out) == wanted


def test_pitfall_14_a_damaged_checkpoint_is_passed_over(finished, tmp_path, capsys):
    name, model, wanted = finished
    out = tmp_path / "out"
    with checkpoints_every_other_round():
        with pytest.raises(Killed):
            begin(name, model, out, killing(6))
        newest = max((out / "checkpoints").iterdir()) / "tensors.safetensors"
        data = bytearray(newest.read_bytes())
        data[-1] ^= 1
        newest.write_bytes(data)
        frugal.resume(out, task=Dialogue())
    assert "damaged" in capsys.readouterr().out and left_behind(out) == wanted


def test_pitfall_14_resuming_a_finished_run_changes_nothing(finished, tmp_path):
    name, model, wanted = finished
    with checkpoints_every_other_round():
        begin(name, model, tmp_path / "out")
        frugal.resume(tmp_path / "out", task=Dialogue())
    assert left_behind(tmp_path / "out") == wanted


SCRIPT = """
import sys, time, torch
torch.set_num_threads(1)
from tests.language import test_pitfalls_resume as here
with here.checkpoints_every_other_round():
    here.begin(*sys.argv[1:], reporter=lambda *_: time.sleep(0.2))
"""


@pytest.mark.parametrize("finished", ["ppo"], indirect=True)
def test_pitfall_14_a_process_that_is_really_killed_resumes_to_the_same_bits(finished, tmp_path):
    name, model, wanted = finished
    out, root = tmp_path / "out", HERE.parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    script = SCRIPT.replace("*sys.argv[1:]", "sys.argv[1], sys.argv[2], here.Path(sys.argv[3])")
    process = subprocess.Popen([sys.executable, "-c", script, name, model, str(out)], env=environment, cwd=root)
    curve, deadline = out / "curve.jsonl", time.monotonic() + 60
    while not (curve.exists() and curve.read_text().count("\n") >= 5):
        assert process.poll() is None and time.monotonic() < deadline, "the run did not get going"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "model").exists()
    with checkpoints_every_other_round():
        frugal.resume(out, task=Dialogue())
    assert left_behind(out) == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_evaluation_leaves_training_bit_identical(name, tmp_path):
    """Other evaluations, of other problems, at other times: the same weights, and the same lines of training."""
    model, found = saved(tmp_path), []
    for evaluations, problems in ((1, 2), (10, 6)):
        options = {"evaluations": evaluations, "eval_problems": problems, "eval_k": problems, "threads": 1}
        run = frugal.run(RECIPES[name], Dialogue(), samples=SAMPLES, model=model, dtype="float32", **options)
        lines = [line for line in run.curve if line["kind"] == "train"]
        found.append((weights(run.net), lines, len(run.curve) - len(lines)))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert found[0][2] == 2 and found[1][2] == len(found[1][1]) + 1, "evaluated after every round"

"""Exact resume: the same bits, wherever a run was killed, with environments that cannot save themselves."""

import json
import os
import signal
from unittest import mock

import pytest
from gymnasium.spaces import Discrete

import frugal
from frugal.core.errors import BadRun, RunFailed
from frugal.core.run import Run
from tests.control.tinyenv import Counter, Noise
from tests.control.tinyrun import small

RUNS = {  # priorities, n steps, schedules; moments that run along; several environments; memories of RMSProp, methods
    "dqn": (small("dqn", n=3, prioritised=True, envs=2).replace("capacity=500", "capacity=90"), "CartPole-v1"),
    "sac": (small("sac", normalise=True), "Pendulum-v1"),
    "td3": (
        small("td3").replace("warmup=20", "warmup=20, lr=linear(1e-3, 0.0)"),
        "HalfCheetah-v5(max_episode_steps=120)",
    ),
    "ppo": (small("control.ppo", normalise=True, envs=2), "CartPole-v1"),
    "a2c": (small("a2c"), "Pendulum-v1"),
    "adaptive-rr": (f"{small('sac')}+adaptive-rr(check=1, threshold=1e999)", "Pendulum-v1"),
    "harpg": (f"{small('control.reinforce')}+harpg", "CartPole-v1"),
    "pdppo": (f"{small('control.ppo')}+pdppo", "frugal/LotSizing-v0"),
}


class Killed(BaseException):
    """As if the process ended: nothing catches it and nothing is tidied up."""


def checkpoints_every_other_round():
    """By rounds and not by seconds, so that a test is the same on any machine."""
    tick = Run.tick

    def regular(self, state):
        self._saved_at = -1e9 if self.clock % 2 else 1e9
        self._every = 0.0
        tick(self, state)

    return mock.patch.object(Run, "tick", regular)


def begin(name, out, reporter=None):
    text, task = RUNS[name]
    if task.startswith("Half"):
        pytest.importorskip("mujoco")
    options = {"samples": 400, "seed": 3, "evaluations": 3, "eval_episodes": 2, "threads": 1}
    return frugal.run(text, task, out=out, reporter=reporter, **options)


def left_behind(out):
    """Curve, ledger and policy of a finished run, without the seconds."""
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    ledger = json.loads((out / "ledger.json").read_text())
    ledger.pop("seconds"), ledger["evaluation"].pop("seconds")
    model = out / "model"
    return curve, ledger, (model / "policy.safetensors").read_bytes(), (model / "policy.json").read_text()


def killing(at):
    """A reporter that dies when it is told the line `at` of the curve."""

    def reporter(run, line):
        if len(run.curve) == at + 1:
            raise Killed

    return reporter


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_any_line_of_its_curve_resumes_to_the_same_bits(name, tmp_path):
    with checkpoints_every_other_round():
        begin(name, tmp_path / "whole")
        wanted = left_behind(tmp_path / "whole")
        assert len(wanted[0]) >= 8 and len(list((tmp_path / "whole" / "checkpoints").iterdir())) == 2
        for moments in ((0,), (4,), (2, 6)):
            out = tmp_path / str(moments)
            with pytest.raises(Killed):
                begin(name, out, killing(moments[0]))
            for at in moments[1:]:
                with pytest.raises(Killed):
                    frugal.resume(out, reporter=killing(at))
            frugal.resume(out)
            assert left_behind(out) == wanted, moments


@pytest.mark.parametrize("file", ("tensors.safetensors", "state.json"))
def test_a_damaged_checkpoint_is_passed_over(file, tmp_path):
    out = tmp_path / "a"
    with checkpoints_every_other_round():
        begin("dqn", tmp_path / "whole")
        with pytest.raises(Killed):
            begin("dqn", out, killing(7))
        newest = sorted((out / "checkpoints").iterdir())[-1] / file
        written = bytearray(newest.read_bytes())
        written[len(written) // 2] ^= 1
        newest.write_bytes(bytes(written))
        frugal.resume(out)
    assert left_behind(out) == left_behind(tmp_path / "whole")


def test_ctrl_c_saves_and_names_the_way_on(tmp_path):
    from frugal.core.run import Stopped

    def interrupt(run, line):
        if len(run.curve) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    begin("sac", tmp_path / "whole")
    with pytest.raises(Stopped):
        begin("sac", tmp_path / "a", interrupt)
    assert frugal.resume(tmp_path / "a").ledger.samples == 400
    assert left_behind(tmp_path / "a") == left_behind(tmp_path / "whole")


class Fails(Noise):
    """Raises once, in step `at` of all steps of all its instances; then never again."""

    action_space = Discrete(2)
    at, steps = 0, 0

    def step(self, action):
        Fails.steps += 1
        if Fails.steps == Fails.at:
            raise ConnectionError("the robot is away")
        return super().step([action])


def test_an_environment_that_raises_leaves_a_run_that_goes_on(tmp_path):
    text = small("dqn")
    options = {"samples": 300, "evaluations": 1, "eval_episodes": 1, "threads": 1}
    Fails.steps, Fails.at = 0, 0
    frugal.run(text, Fails, out=tmp_path / "whole", **options)
    for at in (5, 60, 170):  # in the first evaluation, in the first round, in a later one
        Fails.steps, Fails.at = 0, at
        with checkpoints_every_other_round(), pytest.raises(RunFailed, match=r"robot is away.*frugal resume"):
            frugal.run(text, Fails, out=tmp_path / str(at), **options)
        frugal.resume(tmp_path / str(at), task=Fails)
        assert left_behind(tmp_path / str(at)) == left_behind(tmp_path / "whole")


def test_a_run_is_not_resumed_on_another_environment(tmp_path):
    with checkpoints_every_other_round(), pytest.raises(Killed):
        begin("dqn", tmp_path / "a", killing(4))
    with pytest.raises(BadRun, match=r"CartPole-v1, and .* is another environment"):
        frugal.resume(tmp_path / "a", task=lambda: Counter())

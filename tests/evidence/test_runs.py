"""Many runs at once: what dies is resumed, what fails is kept, what is there is reused."""

import errno
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import transformers.modeling_utils  # noqa: F401  (takes save_file by name, and must not take the one of a test)

from frugal.core.errors import BadRun, CannotWrite, MissingExtra, RunFailed
from frugal.core.recipe import Frozen
from frugal.evidence.runs import Job, bring_to_end, curve, failures, run_all
from frugal.language.tasks.modchain import ModChain

HERE = Path(__file__)
OPTIONS = Frozen({"threads": 1, "evaluations": 2, "eval_problems": 4})


DEADLY = """
import os, pathlib, signal
from frugal.language.tasks.modchain import ModChain

NOTE = pathlib.Path(__file__).with_name("calls")


class Deadly(ModChain):
    def score(self, problems, completions):
        calls = int(NOTE.read_text()) if NOTE.exists() else 0
        NOTE.write_text(str(calls + 1))
        if calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(problems, completions)
"""


def deadly(folder: Path) -> str:
    """A task that kills its process once, in the second round, and counts its calls in a file beside it."""
    (folder / "deadly.py").write_text(DEADLY)
    return f"{folder / 'deadly.py'}:Deadly"


@dataclass(frozen=True)
class Broken(ModChain):
    """Gives a score that is no number, in every third call."""

    calls = []

    def score(self, problems, completions):
        self.calls.append(1)
        return [math.nan if len(self.calls) % 3 == 0 else 0.0] * len(problems)


def job(out: Path, task="modchain", seed=0, recipe="grpo(prompts=2, group=4)") -> Job:
    return Job(recipe, task, 32, seed, out / f"seed-{seed}", OPTIONS)


def without_seconds(out: Path):
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in curve(out) + curve(out, "train")]


def test_a_worker_that_dies_is_tried_again_to_the_same_result(tmp_path):
    killed, plain = job(tmp_path / "a", deadly(tmp_path)), job(tmp_path / "b")
    run_all([killed, plain], processes=1)
    assert int((tmp_path / "calls").read_text()) > 3
    assert without_seconds(killed.out) == without_seconds(plain.out) != []


def test_a_run_that_fails_is_kept_as_failed_and_is_not_run_again(tmp_path):
    broken, plain = job(tmp_path / "a", f"{HERE}:Broken"), job(tmp_path / "b")
    run_all([broken, plain], processes=1)
    assert list(failures([broken, plain])) == [broken] and "no finite number" in failures([broken])[broken]
    assert curve(broken.out)
    run_all([broken, plain], processes=1)
    with pytest.raises(RunFailed, match=r"every run failed; grpo.*no finite number"):
        run_all([broken], processes=1)


def test_a_disk_that_is_full_is_no_failed_seed(tmp_path, monkeypatch):
    here, plain = job(tmp_path / "a"), job(tmp_path / "b")

    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", no_space)
    with pytest.raises(CannotWrite, match=r"No space left on device.*make room"):
        bring_to_end(here)
    monkeypatch.undo()
    assert failures([here]) == {}
    bring_to_end(here)
    bring_to_end(plain)
    assert without_seconds(here.out) == without_seconds(plain.out) != []


def test_a_curve_is_read_without_the_line_that_is_being_written(tmp_path):
    bring_to_end(job(tmp_path))
    here = job(tmp_path).out
    whole = curve(here, "train")
    text = (here / "curve.jsonl").read_text()
    (here / "curve.jsonl").write_text(text + '{"kind": "tr')
    assert curve(here, "train") == whole != []


def test_a_mistake_stops_everything_with_its_message(tmp_path):
    with pytest.raises(RunFailed, match=r"seed 0.*unknown task 'modchian'"):
        run_all([job(tmp_path / str(i), "modchian") for i in range(3)], processes=1)


@pytest.mark.parametrize("change,named", [({"seed": 7}, "another seed"), ({"versions": {"code": "x"}}, "another code")])
def test_a_directory_with_another_run_is_left_alone(tmp_path, change, named):
    here = job(tmp_path)
    bring_to_end(here)
    path = here.out / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = (here.out / "curve.jsonl").read_bytes()
    with pytest.raises(BadRun, match=named):
        bring_to_end(here)
    assert (here.out / "curve.jsonl").read_bytes() == before
    path.write_text("{")
    with pytest.raises(BadRun, match="is damaged; remove"):
        bring_to_end(here)


def test_on_a_ray_cluster_the_results_are_the_same_bits(tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    here, there, killed = job(tmp_path / "a"), job(tmp_path / "b"), job(tmp_path / "c", deadly(tmp_path))
    run_all([here], processes=1)
    run_all([there, killed], ray="local")
    assert without_seconds(here.out) == without_seconds(there.out) == without_seconds(killed.out)
    weights = [(one.out / "model" / "model.safetensors").read_bytes() for one in (here, there, killed)]
    assert weights[0] == weights[1] == weights[2]


def test_a_cluster_that_is_not_there(tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.raises(BadRun, match=r"no Ray cluster at 127.0.0.1:1"):
        run_all([job(tmp_path)], ray="127.0.0.1:1")


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"frugal-rl.ray."):
        run_all([job(tmp_path)], ray="local")

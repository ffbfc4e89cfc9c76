"""NaN and infinity: no step is made with them, their samples are written out, and a run that meets no others stops."""

import json
from dataclasses import dataclass

import pytest
import torch

from benchmarks import kills
from frugal.core.errors import RunFailed
from frugal.core.recipe import Patch
from frugal.core.run import Run
from frugal.language import grpo, loop
from frugal.language.evaluate import Evaluation
from tests.language.tinyrun import Letters, gradients, launch, policy, weights

SMALL = {"prompts": 2, "group": 4, "lr": 1e-2}


@dataclass(frozen=True, eq=False)
class Wrong:
    """`value` at the first token of row 1, in the given rounds."""

    run_of: list
    value: float
    rounds: range

    def begin(self, run):
        self.run_of.append(run)
        return self

    def __call__(self, *inputs):
        rows = inputs[-1]
        out = torch.zeros_like(rows.old)
        if self.run_of[-1].clock in self.rounds:
            out[1, 0] = self.value
        return out


def broken(place, value, rounds):
    return Patch(add={place: Wrong([], value, rounds)}, name="wrong")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["credit.rewards", "credit.bonus", "credit.weights", "learn.terms"])
def test_no_step_is_made_and_the_sample_is_written(place, value, tmp_path):
    net = policy()
    before = weights(net)
    run = launch(grpo(**SMALL) + broken(place, value, range(0, 1)), Letters(), net, samples=8, out=tmp_path)
    assert torch.equal(weights(net), before) and run.ledger.skipped_steps == 1 and run.ledger.gradient_steps == 0
    (sample,) = json.loads((tmp_path / "broken" / "00000000.json").read_text())
    assert sample["part"] == f"{place}.wrong" and sample["prompt"] and isinstance(sample["score"], float)
    json.loads((tmp_path / "curve.jsonl").read_text().splitlines()[-1], parse_constant=pytest.fail)


def test_the_run_goes_on_with_the_next_round():
    with gradients() as seen:
        run = launch(grpo(**SMALL) + broken("learn.terms", float("nan"), range(1, 3)), Letters(), policy(), samples=32)
    assert run.ledger.samples == 32 and run.ledger.skipped_steps == 2 and run.ledger.gradient_steps == len(seen) == 2


def test_three_rounds_in_a_row_stop_it_and_name_the_part(tmp_path):
    net = policy()
    recipe = grpo(**SMALL) + broken("credit.bonus", float("nan"), range(1, 9))
    with pytest.raises(RunFailed, match=r"credit\.bonus\.wrong was NaN or infinite for 3 rounds .* after 32 samples"):
        launch(recipe, Letters(), net, samples=64, out=tmp_path)
    assert len(list((tmp_path / "broken").iterdir())) == 3 and weights(net).isfinite().all()


def test_rounds_before_a_resume_count(tmp_path):
    recipe = grpo(**SMALL) + broken("credit.bonus", float("nan"), range(1, 9))
    with kills.checkpoints_every_other_round(), pytest.raises(RunFailed, match="after 32 samples"):
        launch(recipe, Letters(), policy(), samples=64, out=tmp_path)
    run, task = Run(64, out=tmp_path), Letters()
    run.load()
    assert run.clock == 2, "after one good round and one bad one"
    with pytest.raises(RunFailed, match="for 3 rounds in a row, the last after 32 samples"):
        loop.train(recipe, task, policy(), run, Evaluation(task, task.max_tokens, 1, problems=2, k=1))


def test_a_gradient_that_overflows_is_named_as_such():
    """Each part says a finite number; their product with the model's derivatives is none."""
    net = policy()
    before = weights(net)

    @dataclass(frozen=True)
    class Steep:
        def __call__(self, now, mini):
            return 3e38 * (now.logp - now.logp.detach())

    with pytest.raises(RunFailed, match="the gradient was NaN or infinite"):
        launch(grpo(**SMALL) + Patch(add={"learn.terms": Steep()}, name="steep"), Letters(), net, samples=64)
    assert torch.equal(weights(net), before)

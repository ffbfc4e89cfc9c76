"""The online-offline study: who labels, what is recorded and handed out again, and its two losses."""

from functools import reduce
from operator import add

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe, Clash
from frugal.core.run import Run
from frugal.preference import dpo, online_dpo, reward_model
from frugal.preference.methods.online_offline_gap import online, online_offline_gap
from frugal.preference.parts import Learned, Squared
from frugal.preference.reward import Fitted
from tests.language.tinyrun import policy
from tests.preference.rows import pairs
from tests.preference.test_loop import spy
from tests.preference.tinyrun import Compared, launch

GAP = online_offline_gap
SMALL = {"prompts": 4, "lr": 1e-3}


class Deaf(Compared):
    """Labelled data, and nobody to ask but in evaluations."""

    asked = 0

    def prefer(self, problems, first, second):
        self.asked += 1
        return super().prefer(problems, first, second)


def texts(net, rows):
    return [net.decode(t[:n].tolist()) for t, n in zip(rows.tokens, rows.length, strict=True)]


def test_a_reward_model_labels_what_the_policy_writes():
    """The one that the start policy and the first 64 pairs make; of the oracle only evaluations ask."""
    seen, task = [], Deaf()
    run = launch(online_dpo(**SMALL) + GAP(labels=64) + spy(seen), task, samples=32)
    assert (run.ledger.samples, run.ledger.labels) == (32, 64) and task.asked <= 4
    alone = Run(64)
    alone.net, alone.task = policy(), task
    fitted = Fitted(Learned(64), alone)
    for _, mini in seen:
        R = fitted(mini.rows.put(score=torch.full_like(mini.rows.score, torch.nan))).score
        assert mini.rows.drawn.all() and torch.equal(mini.y, (R[mini.a] > R[mini.b]).float())
    assert 0 < sum(float(mini.y.sum()) for _, mini in seen) < sum(len(mini) for _, mini in seen)


def recorded(recipe, samples=16, seed=0):
    """The pairs of every step of a run of rounds of four, those of the run before it included; and the run."""
    seen = []
    run = launch(recipe + spy(seen), Compared(), policy(), samples=samples, seed=seed)
    return [mini for _, mini in seen], run


def as_set(minis, net):
    """{(prompt, winner, loser): how often} of all pairs."""
    found = {}
    for mini in minis:
        words = texts(net, mini.rows)
        for won, lost in zip(mini.chosen.tolist(), mini.rejected.tolist(), strict=True):
            key = mini.rows.prompts[won], words[won], words[lost]
            found[key] = found.get(key, 0) + 1
    return found


def test_the_shuffled_pairs_are_those_of_the_online_run_in_another_order():
    minis, run = recorded(online_dpo(**SMALL) + GAP(labels=0, shuffled=True))
    plain, _ = recorded(online_dpo(**SMALL))
    before, after = minis[:4], minis[4:]
    assert as_set(before, run.net) == as_set(plain, run.net), "the online run is the one that it would be by itself"
    n = sum(map(len, before))
    assert 8 <= n <= 16 == run.ledger.samples == sum(map(len, after)), "as many as the budget asks for"
    assert run.ledger.labels == n, "each is asked for once"
    assert set(as_set(after, run.net)) == set(as_set(before, run.net))
    assert not torch.equal(torch.cat([m.y for m in after])[:n], torch.cat([m.y for m in before]))
    assert all(m.rows.drawn.all() for m in before) and not any(m.rows.drawn.any() for m in after)


def test_the_run_before_is_the_recipe_without_shuffling():
    recipe = online_dpo(**SMALL) + GAP(labels=7, shuffled=True, last=0.5, clone=True)
    assert online(recipe) == online_dpo(**SMALL) + GAP(labels=7, clone=True)


def test_the_policy_that_recorded_is_thrown_away():
    """The first pairs are learnt from by the policy that the run begins with: its log-ratios are 0."""
    _, run = recorded(online_dpo(loss="ipo", **SMALL) + GAP(labels=0, shuffled=True), samples=8)
    line = next(line for line in run.curve if line["kind"] == "train")
    assert line["loss"] == pytest.approx((1 / (2 * 0.1)) ** 2)
    assert run.ledger.gradient_steps == 4, "two of the run before, two of its own"


def test_the_last_share_is_what_the_better_policy_wrote():
    minis, run = recorded(online_dpo(**SMALL) + GAP(labels=0, shuffled=True, last=0.25), samples=32)
    whole = reduce(add, minis[:8])
    n = round(0.25 * len(whole))
    assert set(as_set(minis[8:], run.net)) == set(as_set([whole.take(torch.arange(len(whole))[-n:])], run.net))


def test_cloning_is_the_likelihood_of_the_winner():
    """Slopes of -1 at the winner and none at the loser; the base's has both."""
    z = torch.tensor([[0.3, 0.2], [0.1, 0.4]], requires_grad=True)
    mini = pairs([1.0, 0.0], [1] * 4)
    for loss, wanted in (
        (GAP(labels=0, clone=True).fill["learn.loss"], [[-1.0, 0.0], [0.0, -1.0]]),
        (Squared(0.5), None),
    ):
        (slope,) = torch.autograd.grad(loss(z[0], z[1], mini).sum(), z)
        assert slope.tolist() == wanted if wanted else (slope != 0).all()


@pytest.mark.parametrize("options", ["labels=32", "labels=0, shuffled=True", "labels=32, shuffled=True, last=0.5"])
def test_it_resumes_with_its_reward_model_and_its_records(options, tmp_path):
    from tests.language.test_pitfalls_resume import Killed, checkpoints_every_other_round, killing, left_behind

    text = f"online-dpo(prompts=4, lr=1e-3)+online-offline-gap({options})"
    asked = {"samples": 24, "seed": 3, "evaluations": 2, "eval_problems": 4, "threads": 1}
    with checkpoints_every_other_round():
        frugal.run(text, "pairs", out=tmp_path / "whole", **asked)
        with pytest.raises(Killed):
            frugal.run(text, "pairs", out=tmp_path / "cut", reporter=killing(5), **asked)
        frugal.resume(tmp_path / "cut")
    assert left_behind(tmp_path / "cut") == left_behind(tmp_path / "whole")


def test_what_it_refuses():
    with pytest.raises(BadRecipe, match="compares its own samples"):
        (dpo() + GAP(shuffled=True)).check()
    with pytest.raises(BadRecipe, match="compares log-ratios"):
        (reward_model() + GAP()).check()
    with pytest.raises(Clash, match="you chose it for online-dpo"):
        online_dpo(loss="ipo") + GAP(clone=True)
    for wrong in ({"labels": -1}, {"last": 0.5}, {"last": 0.0, "shuffled": True}):
        with pytest.raises(BadRecipe, match="give 0 or more labels"):
            GAP(**wrong)
    (dpo() + GAP(labels=0, clone=True)).check()

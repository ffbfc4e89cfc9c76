"""RSO: acceptance by hand and in the limit, the pairs, who is charged, and a run on a reward model that it fits."""

import math
from dataclasses import dataclass, field

import pytest
import torch

import frugal
from frugal import maths
from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.preference import dpo, iterative_nash, online_dpo, rso
from frugal.preference.methods.rso import FirstRound, Rejection
from tests.language.rows import rows
from tests.language.tinyrun import Letters, each_by_hand, exact, policy, reference_is
from tests.preference.test_loop import spy
from tests.preference.tinyrun import launch


def shares(R, beta, keep, times=4000):
    """How often each of the candidates is among the accepted."""
    rng, R = torch.Generator().manual_seed(0), torch.tensor(R)
    found = [Rejection(beta, keep).accepted(R, range(len(R)), rng) for _ in range(times)]
    return torch.bincount(torch.cat(found), minlength=len(R)) / times


def test_a_pass_accepts_in_proportion_to_the_reward():
    """beta = 2: the second is accepted in the pass of the best with probability 1/2, the third with 1/8; kept is one.

    Candidates go in order, so the first is kept where it passes: 1/8; else the second: 7/8 1/2; else the third.
    """
    found = shares([0.0, 2 * math.log(4), 2 * math.log(8)], 2.0, 1)
    wanted = torch.tensor([1 / 8, 7 / 16, 7 / 16])
    assert (found - wanted).abs().max() < 4 * (0.25 / 4000) ** 0.5  # four standard errors


def test_what_is_left_is_compared_with_the_best_that_is_left():
    """beta so small that only the largest of each pass is accepted: the three best, one a pass."""
    assert shares([0.3, 0.9, 0.1, 0.5], 1e-6, 3, times=20).tolist() == [1.0, 1.0, 0.0, 1.0]


def test_equal_rewards_are_all_accepted_at_once():
    assert shares([1.0] * 4, 0.5, 2, times=10).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_the_first_accepted_of_many_is_a_sample_of_the_tilted_policy():
    """Five responses with multiplicity: 3000 groups of 64 candidates of ref come to ref exp(R / beta) / Z."""
    rng = torch.Generator().manual_seed(1)
    ref, R = torch.tensor([0.3, 0.3, 0.2, 0.1, 0.1]), torch.tensor([0.0, 0.5, 1.0, 1.5, 0.2])
    drawn = torch.multinomial(ref, 3000 * 64, replacement=True, generator=rng).view(3000, 64)
    first = [int(d[Rejection(0.8, 1).accepted(R[d], d.tolist(), rng)]) for d in drawn]
    found = torch.bincount(torch.tensor(first), minlength=5) / 3000
    wanted = maths.tilted(ref, R, 0.8)
    assert ((found - wanted).abs() < 4 * (wanted * (1 - wanted) / 3000).sqrt()).all()
    assert (wanted - ref).abs().max() > 0.1


def test_accepted_texts_differ_and_stay_in_their_groups():
    batch = rows([1.0] * 6 + [2.0] * 3, [1] * 9, groups=[0] * 6 + [4] * 3)
    batch = batch.put(tokens=torch.tensor([5, 5, 6, 6, 7, 7, 5, 5, 5])[:, None])
    kept = Rejection(0.5, 4)(batch, torch.Generator().manual_seed(0))
    assert kept.group.tolist() == [0, 0, 0, 4]
    assert sorted(kept.tokens[:3, 0].tolist()) == [5, 6, 7] and kept.tokens[3, 0] == 5


@dataclass
class Charging:
    """Remembers what it charges."""

    seen: list = field(default_factory=list)

    def charge(self, y):
        self.seen.append(y)
        return y


def test_the_first_round_compares_each_response_once():
    """Groups of five, of two with equal rewards and of one, which is charged and no pair."""
    batch = rows([1.0, 9.0, 4.0, 3.0, 7.0, 2.0, 2.0, 5.0], [1] * 8, groups=[0] * 5 + [3] * 2 + [8])
    pairs = FirstRound()(batch, Charging())
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == [(0, 2), (1, 3), (5, 6), (7, 7)]
    assert pairs.y[:3].tolist() == [0.0, 1.0, 0.5] and pairs.y[3].isnan()


@pytest.fixture
def reward(tmp_path):
    """A reward that counts a's."""
    (tmp_path / "r.py").write_text("def score(prompts, completions):\n    return [c.count('a') for c in completions]\n")
    return f"{tmp_path / 'r.py'}:score"


def test_in_the_loop_the_start_writes_and_the_reward_labels(reward):
    net, reference, seen = policy(), policy(5), []
    recipe = online_dpo(prompts=3, lr=1e-2) + rso(candidates=12, keep=4, reward=reward)
    with reference_is(reference):
        run = launch(recipe + spy(seen), net=net, samples=12)
    spent = run.ledger
    assert (spent.samples, spent.labels, spent.completions % 12) == (12, 0, 0) and len(seen) >= 2
    for _, mini in seen:
        assert not mini.rows.drawn.any() and len(mini.rows) == 2 * len(mini) <= 12
        texts = [net.decode(t[:n].tolist()) for t, n in zip(mini.rows.tokens, mini.rows.length, strict=True)]
        for a, b, y in zip(mini.a.tolist(), mini.b.tolist(), mini.y.tolist(), strict=True):
            counts = texts[a].count("a"), texts[b].count("a")
            assert y == (0.5 if counts[0] == counts[1] else float(counts[0] > counts[1]))
        for said, own, wanted in zip(
            mini.rows.old, mini.rows.own, each_by_hand(exact(reference), mini.rows), strict=True
        ):
            torch.testing.assert_close(said[own].double(), wanted.detach(), atol=1e-5, rtol=1e-5)


def test_a_start_policy_that_always_says_the_same_comes_to_an_end(reward):
    recipe = online_dpo(prompts=3, temperature=1e-4) + rso(candidates=4, keep=2, reward=reward)
    run = launch(recipe, samples=8)
    assert (run.ledger.samples, run.ledger.gradient_steps) == (8, 0)


def test_it_fits_a_reward_model_whose_labels_stand_in_the_ledger():
    recipe = "online-dpo(prompts=8, lr=1e-3)+rso(labels=64, candidates=16)"
    run = frugal.run(recipe, "pairs", samples=32, evaluations=1, threads=1)
    assert (run.ledger.labels, run.ledger.samples) == (64, 32) and run.ledger.completions >= 128


def test_bad_combinations():
    with pytest.raises(BadTask, match="problems without a pair"):
        (online_dpo() + rso()).parts["act.answers"].check(Letters(), policy(), 6)
    with pytest.raises(Clash, match="dpo and rso clash"):
        dpo() + rso()
    with pytest.raises(Clash, match="rso makes old dead"):
        online_dpo() + rso() + iterative_nash()
    with pytest.raises(BadRecipe, match="2 <= keep <= candidates"):
        rso(keep=1)

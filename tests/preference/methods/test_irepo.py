"""iREPO: the loss by hand, what it comes to on the task pairs, and how votes are asked for and charged."""

import math

import pytest
import torch

from frugal import maths
from frugal.core.errors import BadRecipe, Clash
from frugal.preference import dpo, irepo, iterative_nash, online_dpo
from frugal.preference.methods.irepo import Regression
from tests.language.tinyrun import policy
from tests.preference.rows import pairs
from tests.preference.tables import minimum, policy_of, world
from tests.preference.test_loop import spy
from tests.preference.tinyrun import Compared, launch

MANY = 10**12  # votes, at which the half that is added to each side is nothing


def test_by_hand():
    """Three votes, all for a: p = 3.5 / 4 and logit p = log 7; beta (z_a - z_b) = 1."""
    loss = Regression(0.5, 3)(torch.tensor([2.0, 2.0]), torch.tensor([0.0, 0.0]), pairs([1.0, 0.0], [1] * 4))
    assert loss.tolist() == pytest.approx([(1 - math.log(7)) ** 2, (1 + math.log(7)) ** 2])


def test_the_order_of_a_pair_does_not_matter():
    z = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    mini = pairs([1.0, 0.0, 0.2, 0.6], [1] * 8)
    loss = Regression(0.5, 5)
    torch.testing.assert_close(loss(z[0], z[1], mini), loss(z[1], z[0], mini.put(y=1 - mini.y)))


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_with_exact_preferences_on_pairs_a_round_is_a_tilt_of_the_policy_by_the_reward(beta):
    r, P = world()
    ref, pi_t = policy_of(0), policy_of(1)
    found = minimum(online_dpo() + irepo(beta=beta, votes=MANY), ref, pi_t, P)
    torch.testing.assert_close(found, maths.tilted(pi_t, r, beta), atol=1e-7, rtol=0)


def test_votes_that_are_level_leave_the_policy_alone():
    pi_t = policy_of(1)
    found = minimum(online_dpo() + irepo(), policy_of(0), pi_t, torch.full((16, 16), 0.5, dtype=torch.float64))
    torch.testing.assert_close(found, pi_t, atol=1e-7, rtol=0)


class Mostly(Compared):
    """Says 0.7 of every pair."""

    def prefer(self, problems, first, second):
        return [0.7] * len(first)


def test_every_vote_is_asked_for_and_charged_and_no_pair_lacks_one():
    """Six prompts, four votes and 38 samples: six pairs, then three, and two votes that are too few for another."""
    seen = []
    run = launch(online_dpo(prompts=6, lr=0) + irepo(votes=4) + spy(seen), Mostly(), samples=38)
    spent = run.ledger
    assert (spent.samples, spent.labels, spent.identical_pairs) == (38, 38, 0)
    assert [len(mini) for _, mini in seen] == [6, 3]
    y = torch.cat([mini.y for _, mini in seen])
    assert set(y.tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0} and len(set(y.tolist())) > 2


def test_the_reference_is_the_policy_of_the_round():
    """At the first step of every round the regression begins at zero: the loss is (logit p)^2."""
    seen, net = [], policy()
    run = launch(online_dpo(prompts=6, lr=1e-2) + irepo(votes=4) + spy(seen), Mostly(), net, samples=72)
    lines = [line for line in run.curve if line["kind"] == "train"]
    assert len(lines) == len(seen) >= 3
    for line, (_, mini) in zip(lines, seen, strict=True):
        p = (4 * mini.y + 0.5) / 5
        assert line["loss"] == pytest.approx(float((p / (1 - p)).log().square().mean()), rel=1e-4)


def test_it_wants_what_the_policy_itself_wrote_and_owns_its_target():
    with pytest.raises(Clash, match="dpo makes old dead, so irepo would have no effect"):
        dpo() + irepo()
    with pytest.raises(Clash, match="irepo and iterative-nash clash"):
        online_dpo() + irepo() + iterative_nash()


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"votes": 0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="at least one vote"):
        irepo(**options)

"""Robust DPO: by hand, what it comes to where labels are turned round, and the data of ``pairs(flips=40)``."""

import math

import pytest
import torch

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.preference import dpo, robust_dpo
from frugal.preference.methods.robust_dpo import Unbiased
from frugal.preference.parts import Hinge, Logistic, Prospect, Squared
from frugal.preference.tasks.pairs import RESPONSES, ResponsePairs
from tests.preference.rows import pairs
from tests.preference.tables import minimum, policy_of, world


def test_by_hand():
    """beta h = log 3, a fifth wrong: (4/5 log 4/3 - 1/5 log 4) / (3/5) = log 4/3 - 1/3 log 3, and for the other label
    (4/5 log 4 - 1/5 log 4/3) / (3/5) = log 4 + 1/3 log 3."""
    mini = pairs([1.0, 0.0], [1] * 4)
    z = torch.tensor([math.log(3) / 0.5] * 2)
    loss = Unbiased(0.2, Logistic(0.5))(z, torch.zeros(2), mini)
    assert loss.tolist() == pytest.approx([math.log(4 / 3) - math.log(3) / 3, math.log(4) + math.log(3) / 3])


@pytest.mark.parametrize("loss", [Logistic(0.7), Squared(0.7), Hinge(0.7), Prospect(0.7)])
@pytest.mark.parametrize("flips", [0.1, 0.4])
def test_the_mean_over_flips_is_the_loss_without(loss, flips):
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mini = pairs([1.0, 0.0, 1.0, 0.0, 0.25, 0.5], [1] * 12)
    robust = Unbiased(flips, loss)
    mean = (1 - flips) * robust(*z, mini) + flips * robust(*z, mini.put(y=1 - mini.y))
    torch.testing.assert_close(mean, loss(*z, mini), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("flips", [0.1, 0.3])
def test_with_flipped_labels_in_expectation_it_comes_to_what_dpo_comes_to_without(flips):
    r, P = world()
    ref, flipped = policy_of(0), (1 - flips) * P + flips * (1 - P)
    wanted = maths.tilted(ref, r, 1.0)
    found = minimum(dpo(beta=1.0) + robust_dpo(flips=flips), ref, policy_of(1), flipped)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)
    assert (minimum(dpo(beta=1.0), ref, policy_of(1), flipped) - wanted).abs().max() > 0.05


def test_over_the_data_of_pairs_the_flips_cancel():
    """4096 pairs and the policy that is best at beta = 1/2: to four standard errors, and plain DPO beyond them."""
    z = 2 * ResponsePairs().matrices(RESPONSES)[0]
    true, flipped = (ResponsePairs(flips=share).problems("train") for share in (0, 40))

    def each(problems, loss):
        sides = [[RESPONSES.index(p.columns[side]) for p in problems] for side in ("chosen", "rejected")]
        where = [p.reference for p in problems]
        return loss(z[where, sides[0]], z[where, sides[1]], pairs([1.0] * len(problems), [1] * (2 * len(problems))))

    plain = each(true, Logistic(0.5))
    apart, biased = each(flipped, Unbiased(0.4, Logistic(0.5))) - plain, each(flipped, Logistic(0.5)) - plain
    error = len(plain) ** -0.5
    assert apart.mean().abs() < 4 * error * apart.std()
    assert biased.mean().abs() > 4 * error * biased.std()


@pytest.mark.parametrize("flips", [-0.1, 0.5, 1.0])
def test_nonsense_is_refused(flips):
    with pytest.raises(BadRecipe, match="from 0 to below 1/2"):
        robust_dpo(flips=flips)

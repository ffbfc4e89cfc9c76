"""RPO: its loss and slope by hand, in the loop, and which bases take it."""

import math

import pytest
import torch

from frugal.core.errors import BadRecipe
from frugal.language.policy import Now
from frugal.preference import dpo, reg_po, reward_model, rlhf
from frugal.preference.methods.reg_po import Imitation
from tests.language.tinyrun import assert_gradient, each_by_hand, exact, gradients, policy, reference_is
from tests.preference.rows import pairs
from tests.preference.test_loop import losses_by_hand, spy
from tests.preference.tinyrun import launch


def test_by_hand():
    """log pi of the preferred: -2 - 1 and -4, a tenth of it; three votes of four for -3 and one for -1: 0.25."""
    logp = torch.tensor([[-2.0, -1.0], [-9.0, 0.0], [-9.0, 0.0], [-4.0, 0.0], [-3.0, 0.0], [-1.0, 0.0]])
    mini = pairs([1.0, 0.0, 0.75], [2, 1, 1, 1, 1, 1])
    assert Imitation(0.1)(Now(logp, {}), mini).tolist() == pytest.approx([0.3, 0.4, 0.25])


def test_the_slopes_are_dpos_and_the_weight():
    """At beta h = log 3: -(beta / 4 + weight) for the preferred log-probability, beta / 4 for the other."""
    parts = (dpo(beta=0.5) + reg_po(weight=0.2)).parts
    logp = torch.tensor([[-1.0], [-1.0 - 2 * math.log(3)]], requires_grad=True)
    mini, z = pairs([1.0], [1, 1]), logp.sum(1)
    loss = parts["learn.loss"](z[:1], z[1:], mini) + parts["learn.terms.reg-po"](Now(logp, {}), mini)
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    assert slope[:, 0].tolist() == pytest.approx([-0.125 - 0.2, 0.125])


def test_the_gradient_in_the_loop():
    net, reference, seen = policy(), policy(5), []
    model = exact(net)
    with gradients() as grads, reference_is(reference):
        launch(dpo(beta=0.5, prompts=6, lr=0) + reg_po(weight=0.2) + spy(seen), net=net, samples=6)
    (_, mini), *_ = seen
    logp = each_by_hand(model, mini.rows)
    imitation = -0.2 * torch.stack([logp[i].sum() for i in mini.chosen.tolist()])
    assert_gradient(grads[0], (losses_by_hand(mini, model, reference, 0.5) + imitation).mean(), model)


@pytest.mark.parametrize("base", [reward_model, rlhf])
def test_a_base_without_log_ratios_is_refused(base):
    with pytest.raises(BadRecipe, match="reg-po leans on a recipe that compares log-ratios"):
        (base() + reg_po()).check()


def test_nonsense_is_refused():
    with pytest.raises(BadRecipe, match="give 0 or more"):
        reg_po(weight=-1.0)

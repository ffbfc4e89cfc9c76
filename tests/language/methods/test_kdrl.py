"""KDRL: the distillation term by hand, its gradient by enumeration, its annealing, and the whole in the loop."""

import math
from types import SimpleNamespace

import pytest
import torch

from frugal.core.errors import BadRecipe
from frugal.core.schedule import linear
from frugal.language.methods.kdrl import kdrl
from frugal.language.policy import Now
from frugal.language.recipes import grpo
from tests.language.rows import rows
from tests.language.tinyrun import (
    Constant,
    assert_gradient,
    each_by_hand,
    exact,
    given,
    gradients,
    launch,
    policy,
    sampled,
)


def term(beta, progress=0.0):
    return kdrl(beta).add["learn.terms"].begin(SimpleNamespace(progress=progress))


def test_equation_by_hand():
    """log pi = -1, log pi_T = -3: 0.25 * 2^2 / 2 = 1/2, and its slope 0.25 * 2 = 1/2."""
    logp = torch.tensor([[-1.0, -1.0]], requires_grad=True)
    mini = rows([0.0], [2]).put(columns={"teacher.logp": torch.tensor([[-3.0, -1.0]])})
    loss = term(0.25)(Now(logp, {}), mini)
    assert loss.tolist() == [[0.5, 0.0]]
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    assert slope.tolist() == [[0.5, 0.0]]


def test_its_expected_gradient_is_that_of_the_reverse_divergence():
    """Summed over five symbols as the policy draws them: sum_v pi_v d k2_v = d KL(pi, pi_T) for every logit."""
    rng = torch.Generator().manual_seed(0)
    z, teacher = (torch.randn(5, generator=rng, dtype=torch.float64) for _ in range(2))
    logp, log_t = z.requires_grad_().log_softmax(0), teacher.log_softmax(0)
    mini = rows([0.0], [5]).put(columns={"teacher.logp": log_t[None]})
    expected = (logp.exp().detach() * term(1.0)(Now(logp[None], {}), mini)[0]).sum()
    divergence = (logp.exp() * (logp - log_t)).sum()
    ours, wanted = (torch.autograd.grad(x, z, retain_graph=True)[0] for x in (expected, divergence))
    torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)
    assert wanted.abs().max() > 0.1


@pytest.mark.parametrize("progress, weight", [(0.0, 0.8), (0.25, 0.65), (1.0, 0.2)])
def test_the_coefficient_falls_over_the_run(progress, weight):
    mini = rows([0.0], [1]).put(columns={"teacher.logp": torch.tensor([[-1.0 - math.sqrt(2)]])})
    assert float(term(linear(0.8, 0.2), progress)(Now(torch.tensor([[-1.0]]), {}), mini)) == pytest.approx(weight)


def test_the_gradient_in_the_loop_is_that_of_the_distance_to_the_teacher():
    """Equal scores have no advantage, so what is left is the term: the rollouts' mean of its token means."""
    net, teacher = policy(), policy(5)
    net.others = {"teacher": teacher}
    batch, model = sampled(net, Constant()), exact(net)
    with gradients() as seen:
        launch(grpo(prompts=2, group=4) + kdrl(0.5) + given(batch), Constant(), net)
    ours, theirs = each_by_hand(model, batch), each_by_hand(exact(teacher), batch)
    pairs = zip(ours, theirs, strict=True)
    assert_gradient(seen[0], sum(0.25 * ((a - b.detach()) ** 2).mean() for a, b in pairs) / len(batch), model)


def test_a_teacher_that_is_the_student_teaches_nothing():
    """In float32 the two passes over one set of weights may differ in the last place."""
    net = policy()
    net.others = {"teacher": net.copy()}
    with gradients() as seen:
        launch(grpo(prompts=2, group=4) + kdrl(0.5), Constant(), net)
    assert max(float(g.abs().max()) for g in seen[0].values()) < 1e-6


@pytest.mark.parametrize("beta", [-0.1, linear(0.1, -0.1)])
def test_nonsense_is_refused(beta):
    with pytest.raises(BadRecipe, match="give 0 or more"):
        kdrl(beta)

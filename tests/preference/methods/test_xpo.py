"""XPO: the term by hand and on a table, who draws what, and the gradient in the loop."""

from types import SimpleNamespace

import pytest
import torch

from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.language.policy import Now
from frugal.preference import iterative_nash, online_dpo, reward_model, xpo
from frugal.preference.methods.xpo import Optimism
from tests.language.tinyrun import assert_gradient, each_by_hand, exact, gradients, policy, reference_is
from tests.preference.rows import pairs
from tests.preference.test_loop import losses_by_hand, spy
from tests.preference.tinyrun import launch


def test_by_hand():
    """The start policy's responses: the second of the first pair and the first of the second."""
    mini = pairs([1.0, 1.0], [2, 2, 2, 2])
    mini = mini.put(rows=mini.rows.put(drawn=torch.tensor([True, False, False, True])))
    logp = torch.tensor([[-9.0, -9.0], [-2.0, -1.0], [-4.0, -1.0], [-9.0, -9.0]])
    assert Optimism(0.5)(Now(logp, {}), mini).tolist() == [-1.5, -2.5]
    assert not Optimism(0.0)(Now(logp, {}), mini).any()


def test_on_a_table_the_term_takes_from_the_one_and_gives_to_all():
    """d alpha log softmax(x)_i / dx = alpha (e_i - pi), so that a step down the slope moves logits by their sum, 0."""
    x = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    logp = x.log_softmax(0)
    mini = pairs([1.0], [1, 1])
    mini = mini.put(rows=mini.rows.put(drawn=torch.tensor([True, False])))
    (slope,) = torch.autograd.grad(Optimism(0.3)(Now(logp[[1, 3], None], {}), mini).sum(), x)
    wanted = 0.3 * (torch.eye(5, dtype=torch.float64)[3] - logp.exp())
    torch.testing.assert_close(slope, wanted.detach(), rtol=1e-12, atol=1e-12)


def recipe(alpha=0.2, **options):
    return online_dpo(beta=0.5, prompts=6, lr=0) + xpo(alpha=alpha, **options)


def test_each_pair_has_a_response_of_the_policy_and_one_of_the_start():
    """Their log-probabilities are those of the policy that drew them, and their prompts the same."""
    net, reference, seen = policy(), policy(5), []
    with reference_is(reference):
        launch(recipe() + spy(seen), net=net, samples=6)
    (_, mini), *_ = seen
    drawn = mini.rows.drawn
    assert len(mini) >= 3 and drawn[mini.a].all() and not drawn[mini.b].any()
    for row, (ours, theirs) in enumerate(
        zip(each_by_hand(exact(net), mini.rows), each_by_hand(exact(reference), mini.rows), strict=True)
    ):
        said = mini.rows.old[row][mini.rows.own[row]].double()
        torch.testing.assert_close(said, (ours if drawn[row] else theirs).detach(), atol=1e-5, rtol=1e-5)
        assert (ours - theirs).abs().max() > 1e-3


def test_the_gradient_in_the_loop():
    net, reference, seen = policy(), policy(5), []
    model = exact(net)
    with gradients() as grads, reference_is(reference):
        launch(recipe() + spy(seen), net=net, samples=6)
    (_, mini), *_ = seen
    logp = each_by_hand(model, mini.rows)
    optimism = 0.2 * torch.stack([logp[i].sum() for i in mini.b.tolist()])
    assert_gradient(grads[0], (losses_by_hand(mini, model, reference, 0.5) + optimism).mean(), model)


@pytest.mark.parametrize("all_rounds, grows", [(True, True), (False, False)])
def test_it_learns_from_all_rounds_or_from_each_alone(all_rounds, grows):
    seen = []
    launch(recipe(all_rounds=all_rounds) + spy(seen), samples=18)
    sizes = [len(mini) for _, mini in seen]
    assert len(sizes) == 3 and (sizes[0] < sizes[1] < sizes[2]) == grows and (max(sizes) <= 6) != grows


def test_it_needs_an_oracle_and_a_policy_that_is_compared_with_the_start():
    with pytest.raises(BadTask, match="mute has nobody who labels"):
        recipe().parts["act.answers"].check(SimpleNamespace(name="mute"), None, 6)
    with pytest.raises(BadRecipe, match="xpo leans on a recipe that compares log-ratios"):
        (reward_model() + xpo()).check()
    with pytest.raises(Clash, match="clash at group: you chose it for online-dpo, xpo makes it dead"):
        online_dpo(group=4) + xpo()
    with pytest.raises(Clash, match="xpo makes old dead"):
        online_dpo() + xpo() + iterative_nash()
    with pytest.raises(BadRecipe, match="give 0 or more"):
        xpo(alpha=-1.0)

"""GRAO: its three terms against the two that they come to, the reference in the group, and the gradient in the loop."""

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.core.recipe import Patch
from frugal.language.parts import GroupRelative, Verified
from frugal.language.recipes import grpo
from frugal.preference import rlhf
from frugal.preference.methods.grao import Balanced, grao
from tests.language.rows import rows
from tests.language.tinyrun import assert_gradient, each_by_hand, exact, gradients, launch, policy, spy
from tests.preference.tinyrun import Compared

G = 4


def group(scores, y):
    """Samples of one group and after them its reference."""
    drawn = torch.tensor([True] * len(scores) + [False])
    return rows([*scores, y], [2] * (len(scores) + 1)).put(drawn=drawn)


@pytest.mark.parametrize("beta, lam", [(0.5, 0.6), (0.0, 0.0), (2.0, 0.0), (0.0, 3.0)])
def test_the_weights_collapse_the_three_terms(beta, lam):
    """Random rewards and likelihoods J: the mean over rows of w A J is the objective of the paper's eq. 3."""
    rng = torch.Generator().manual_seed(0)
    R, J = torch.rand(G + 1, generator=rng), -torch.rand(G + 1, generator=rng)
    batch = group(R[:G].tolist(), float(R[G]))
    A = GroupRelative()(batch.at_end(batch.score), batch)[:, 0]
    ours = (Balanced(beta, lam)(A[:, None], batch)[:, 0] * A * J).mean()
    three = (A[:G] * J[:G]).mean() + beta * A[G] * J[G] + lam * (A[:G] * (J[:G] - J[G])).mean()
    torch.testing.assert_close(ours, three, rtol=1e-5, atol=1e-6)


def test_advantages_by_hand():
    """Rewards 0, 0, 1, 1 and a reference of 3: mean 1, squares 1 + 1 + 0 + 0 + 4 over 4: spread sqrt(1.5)."""
    batch = group([0.0, 0.0, 1.0, 1.0], 3.0)
    A = GroupRelative()(batch.at_end(batch.score), batch)[:, 0]
    wanted = torch.tensor([-1.0, -1.0, 0.0, 0.0, 2.0]) / (1.5**0.5 + 1e-4)
    torch.testing.assert_close(A, wanted)


def test_groups_of_different_sizes_have_weights_of_their_own():
    """G = 1: 2 * 1.6 and 2 * 1.1; G = 2: 3 * 0.8 and 3 * 0.8."""
    two, one = group([0.0, 1.0], 1.0), group([0.0], 1.0)
    w = Balanced(0.5, 0.6)(None, two + one.put(group=one.group + 3))[:, 0]
    assert w.tolist() == pytest.approx([2.4, 2.4, 2.4, 3.2, 2.2])


def verified():
    return Patch(fill={"credit.score": Verified()}, name="verified", domain="preference")


def test_the_first_step_is_the_papers_gradient():
    net, seen, task = policy(), [], Compared()
    model = exact(net)
    recipe = rlhf(baseline="group", beta=0.0, prompts=3, group=G, lr=0) + grao() + verified()
    with gradients() as grads:
        run = launch(recipe + spy(seen), task, net, samples=3 * G)
    ((_, mini),) = seen
    assert len(mini) == 3 * (G + 1) and (~mini.drawn).sum() == 3
    assert (run.ledger.samples, run.ledger.demonstrations, run.ledger.verifier_calls) == (12, 3, 15)
    texts = [net.decode(t[:n].tolist()) for t, n in zip(mini.tokens, mini.length, strict=True)]
    assert task.score(mini.problems, texts) == pytest.approx(mini.score.tolist())
    J = [each.mean() for each in each_by_hand(model, mini)]
    loss = 0
    for g in mini.group.unique().tolist():
        mine = [b for b in range(len(mini)) if mini.group[b] == g]
        y = next(b for b in mine if not mini.drawn[b])
        assert texts[y] == mini.problems[y].columns["chosen"]
        R = mini.score[mine].double()
        A = dict(zip(mine, ((R - R.mean()) / (R.std() + 1e-4)).tolist(), strict=True))
        samples = [b for b in mine if b != y]
        loss -= sum(A[b] * J[b] for b in samples) / G + 0.5 * A[y] * J[y]
        loss -= 0.6 * sum(A[b] * (J[b] - J[y]) for b in samples) / G
    assert_gradient(grads[0], loss / 3, model)


def test_clashes_and_nonsense():
    with pytest.raises(BadRecipe, match="compares a group's rewards"):
        (rlhf() + grao()).check()
    with pytest.raises(Clash, match="you chose it for rlhf"):
        rlhf(baseline="group", epochs=2) + grao()
    with pytest.raises(BadRecipe, match="belongs to the preference domain"):
        grpo() + grao()
    from frugal.language.methods.d3s import d3s
    from frugal.language.methods.ngrpo import ngrpo

    with pytest.raises(Clash, match="baseline"):
        rlhf(baseline="group") + grao() + ngrpo(asymmetric=False)
    with pytest.raises(Clash, match="old"):
        rlhf(baseline="group") + grao() + d3s()
    with pytest.raises(BadRecipe, match="give 0 or more"):
        grao(lam=-0.1)

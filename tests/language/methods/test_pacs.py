"""PACS: weights, loss and gradient by hand, RLOO as its first step, and a second step against brute force."""

import math

import pytest
import torch

from frugal import maths
from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.capo import capo
from frugal.language.methods.ngrpo import ngrpo
from frugal.language.methods.pacs import OutcomePrediction, pacs
from frugal.language.policy import Now
from frugal.language.recipes import dapo, grpo, reinforce, rloo
from frugal.language.rows import Rows
from tests.language.rows import rows
from tests.language.tinyrun import Dialogue, Letters, assert_gradient, exact, given, gradients, launch, policy, sampled

LOG2 = math.log(2)


def loss_of(batch: Rows, log_ratio: torch.Tensor, beta: float = 1.0, balanced: bool = True) -> torch.Tensor:
    """The loss of each row, log_ratio [b,T]."""
    loss = OutcomePrediction(beta, balanced)(Now(log_ratio, {}), log_ratio.exp(), batch.A, (None, None), batch)
    assert loss.shape == batch.own.shape and torch.equal(loss, loss[:, :1].expand_as(loss))
    return loss[:, 0]


def test_one_success_in_four_by_hand():
    """Weights 2, 2/3, 2/3, 2/3, all psi = 0: log 2 each. dL/dpsi = (-1/4, 1/12, 1/12, 1/12), times 4/3 for h."""
    batch, log_ratio = rows([1.0, 0.0, 0.5, 0.0], [2, 1, 2, 2]), torch.zeros(4, 2, requires_grad=True)
    loss = loss_of(batch, log_ratio)
    torch.testing.assert_close(loss, LOG2 * torch.tensor([2.0, 2 / 3, 2 / 3, 2 / 3]))
    whole = maths.loss_mean(loss[:, None].expand(4, 2), batch.use, "rollout", 8)
    (slope,) = torch.autograd.grad(whole, log_ratio)
    torch.testing.assert_close(slope, torch.tensor([-1 / 3, 1 / 9, 1 / 9, 1 / 9])[:, None].expand(4, 2))


def test_a_score_by_hand():
    """h = 2 * (0.3 + 0.2), 2 * (-0.1), 0: psi = 1 - (-0.1), -0.2 - 0.5, 0 - 0.4; weights 3/2, 3/4, 3/4."""
    batch = rows([1.0, 0.0, 0.0], [2, 1, 2])
    loss = loss_of(batch, torch.tensor([[0.3, 0.2], [-0.1, 0.0], [0.0, 0.0]]), beta=2.0)
    wanted = [1.5 * math.log(1 + math.exp(-1.1)), *(0.75 * math.log(1 + math.exp(psi)) for psi in (-0.7, -0.4))]
    assert loss.tolist() == pytest.approx(wanted, rel=1e-5)


def test_groups_are_their_own_and_a_single_response_has_no_baseline():
    """Groups 7, 2, 7 interleaved: psi = 0.5 - (-0.5), -1, and 0.4 alone."""
    batch = rows([1.0, 0.0, 0.0], [1, 1, 1], [7, 2, 7])
    loss = loss_of(batch, torch.tensor([[0.5], [0.4], [-0.5]]))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(x)) for x in (-1.0, 0.4, -1.0)], rel=1e-5)


def test_what_all_responses_share_changes_nothing():
    batch, log_ratio = rows([1.0, 0.0, 0.0], [2, 2, 2]), torch.tensor([[0.3, 0.2], [-0.1, 0.0], [0.0, 0.5]])
    torch.testing.assert_close(loss_of(batch, log_ratio + 0.7), loss_of(batch, log_ratio))


def test_unanimous_groups_teach_nothing_at_first_and_later_draw_together():
    batch = rows([1.0, 1.0], [1, 1])
    for start, sign in ((0.0, 0), (1.0, 1)):
        log_ratio = torch.tensor([[start], [-start]], requires_grad=True)
        (slope,) = torch.autograd.grad(loss_of(batch, log_ratio).sum(), log_ratio)
        assert slope.sign()[:, 0].tolist() == [sign, -sign]


class Odd(Letters):
    """Right where the letters are odd in number, wrong elsewhere."""

    def score(self, problems, completions):
        return [float(len(text) % 2) for text in completions]


class OddTurns(Dialogue):
    """The same over three turns."""

    def score(self, problems, completions):
        return [float(len("".join(turns)) % 2) for turns in completions]


def test_its_first_step_without_weights_is_rloos():
    """RLOO sums over tokens and divides by the longest response, six tokens; beta scales the step."""
    with gradients() as ours:
        launch(grpo(prompts=2, group=4) + pacs(beta=2.0, balanced=False), Odd())
    with gradients() as theirs:
        run = launch(rloo(prompts=2, group=4), Odd())
    assert 0 < run.curve[1]["score"] < 1
    for name, gradient in ours[0].items():
        torch.testing.assert_close(gradient, 12 * theirs[0][name], rtol=1e-4, atol=1e-5)


def test_a_second_step_in_the_loop_equals_brute_force():
    """Likelihood ratios by two plain passes over the whole text, in float64, and cross-entropies written out."""
    small, second, batch, h = {"prompts": 2, "group": 4, "lr": 3e-3}, policy(), sampled(policy(), OddTurns()), []
    with gradients() as grads:
        launch(grpo(**small, epochs=2) + pacs() + given(batch), OddTurns())
    launch(grpo(**small) + pacs() + given(batch), OddTurns(), second)
    now_model, old_model = exact(second), exact(policy())
    for b, (prompt, n) in enumerate(zip(batch.prompts, batch.length.tolist(), strict=True)):
        tokens, own = batch.tokens[b, :n], batch.own[b, :n]
        ids = torch.tensor([[*prompt, *tokens.tolist()]])
        now, old = (m(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (now_model, old_model))
        h.append((now - old.detach()).gather(1, tokens[:, None])[own].sum())
    total = 0.0
    for g in set(batch.group.tolist()):
        mine = (batch.group == g).nonzero()[:, 0].tolist()
        labels = [float(batch.score[b]) for b in mine]
        for i, b in enumerate(mine):
            psi = h[b] - sum(h[j] for j in mine if j != b) / (len(mine) - 1)
            p = torch.sigmoid(psi) if labels[i] else 1 - torch.sigmoid(psi)
            weight = len(mine) / (2 * labels.count(labels[i])) if len(set(labels)) > 1 else 1.0
            total = total - weight * p.log()
    assert 0 < batch.score.mean() < 1 and max(abs(float(x.detach())) for x in h) > 0.05
    assert_gradient(grads[1], total / len(batch), now_model)


def test_what_it_makes_dead_clashes():
    """Masked tokens would leave a mean of equal numbers; rewards and advantages are not asked."""
    with pytest.raises(Clash, match=r"update\.mask"):
        grpo() + pacs() + capo()
    with pytest.raises(Clash, match="baseline"):
        grpo() + pacs() + ngrpo(asymmetric=False)
    with pytest.raises(Clash, match="you chose it for reinforce"):
        reinforce(beta=0.1) + pacs()
    with pytest.raises(Clash, match="mean"):
        grpo(mean="token") + pacs()
    assert (dapo() + pacs()).settings.mean == "rollout"


def test_nonsense_is_refused():
    with pytest.raises(BadRecipe, match="beta"):
        pacs(beta=0.0)

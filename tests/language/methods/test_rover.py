"""ROVER: the target by hand, the backup against a table of Q, and the second step of a round against brute force."""

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.lp_reg import lp_reg
from frugal.language.methods.rover import UniformBackup, VocabularyMean, following, rover
from frugal.language.policy import Now
from frugal.language.recipes import dr_grpo, grpo, gspo, ppo, reinforce, rloo
from tests.language.rows import rows
from tests.language.tinyrun import Dialogue, assert_gradient, exact, gradients, launch, listening, policy, spy, weights


def loss_of(part, log_ratio, A, now_mean, old_mean):
    """All [b,T]."""
    mini = rows([0.0] * len(A), [A.shape[1]] * len(A)).put(columns={"old.vmean": old_mean})
    return part(Now(log_ratio, {"vmean": now_mean}), log_ratio.exp(), A, (None, None), mini)


def test_equation_by_hand():
    """V = -1.5 + 1 = -0.5 before the second token: y = 1 - 0.5 and 1; Q = 0.2 and -0.1: 0.3^2 / 2 and 1.1^2 / 2."""
    log_ratio, A = torch.tensor([[0.2, -0.1]], requires_grad=True), torch.ones(1, 2)
    now_mean = torch.tensor([[-9.0, -1.5]], requires_grad=True)
    loss = loss_of(UniformBackup(1.0, 1.0), log_ratio, A, now_mean, torch.tensor([[-2.0, -1.0]]))
    torch.testing.assert_close(loss, torch.tensor([[0.045, 0.605]]))
    (slope,) = torch.autograd.grad(loss.sum(), log_ratio)
    torch.testing.assert_close(slope, torch.tensor([[0.2 - 0.5, -0.1 - 1.0]]))


def test_rho_scales_both_values_and_backup_the_next_one():
    log_ratio, A = torch.tensor([[0.2, -0.1]]), torch.ones(1, 2)
    means = torch.tensor([[-9.0, -1.5]]), torch.tensor([[-2.0, -1.0]])
    loss = loss_of(UniformBackup(2.0, 0.5), log_ratio, A, *means)
    torch.testing.assert_close(loss, torch.tensor([[(0.4 - (1 - 0.5)) ** 2 / 2, (-0.2 - 1) ** 2 / 2]]))


def test_the_backup_is_the_mean_of_a_table_of_q():
    """Q(s, a) of all actions written out, from two sets of logits."""
    rng = torch.Generator().manual_seed(0)
    now, old = (torch.randn(4, 9, generator=rng) for _ in range(2))
    Q = now.log_softmax(1) - old.log_softmax(1)
    column = VocabularyMean()
    torch.testing.assert_close(column(now, None, None) - column(old, None, None), Q.mean(1))
    assert Q.mean(1).abs().max() > 0.01


def test_the_next_state_is_the_policys_own():
    """Rows of three own tokens with two of the environment between them, of one token, and of none."""
    x = torch.tensor([[1.0, 7.0, 7.0, 2.0, 3.0], [4.0, 7.0, 7.0, 7.0, 7.0], [7.0] * 5])
    own = torch.tensor([[True, False, False, True, True], [True, False, False, False, False], [False] * 5])
    assert following(x, own).tolist() == [[2.0, 0.0, 0.0, 3.0, 0.0], [0.0] * 5, [0.0] * 5]


def test_a_second_step_in_the_loop_equals_brute_force():
    """Turns with the environment between them; every Q by two plain passes over the whole text, in float64."""
    seen: list = []
    recipe = grpo(prompts=2, group=4, lr=1e-2, epochs=2) + rover()
    with gradients() as grads:
        launch(recipe + spy(seen), Dialogue(), policy(), samples=8)
    (_, mini), second = seen[0], policy()
    launch(grpo(prompts=2, group=4, lr=1e-2) + rover(), Dialogue(), second, samples=8)
    now_model, old_model = exact(second), exact(policy())
    total = 0.0
    for b, (prompt, n) in enumerate(zip(mini.prompts, mini.length.tolist(), strict=True)):
        tokens, own = mini.tokens[b, :n], mini.own[b, :n]
        ids = torch.tensor([[*prompt, *tokens.tolist()]])
        now, old = (m(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (now_model, old_model))
        table = (now - old)[own]  # Q(s, a) of every action, before each own token
        Q = table.gather(1, tokens[own][:, None])[:, 0]
        A = float(mini.score[b] - mini.score[mini.group == mini.group[b]].mean())
        y = torch.tensor(
            [A + (float(table[t + 1].detach().mean()) if t + 1 < len(table) else 0.0) for t in range(len(table))]
        )
        total = total + ((Q - y) ** 2).mean() / 2
    assert_gradient(grads[1], total / len(mini), now_model)


def test_its_first_step_is_the_policy_gradient_with_centred_rewards():
    """Dr. GRPO's advantage with GRPO's mean; the value of the next state is 0 to the rounding of two forward passes."""
    with gradients() as ours:
        launch(grpo(prompts=2, group=4) + rover())
    with gradients() as plain:
        launch(dr_grpo(prompts=2, group=4, mean="rollout"))
    for name, gradient in ours[0].items():
        torch.testing.assert_close(gradient, plain[0][name], rtol=1e-4, atol=1e-6)


def test_without_backup_and_with_one_step_a_round_it_is_its_base():
    base, nets = grpo(prompts=2, group=4, lr=1e-2), (policy(), policy(), policy())
    same = base + rover(backup=0.0, unscaled=False)
    for recipe, net in zip((listening(base, same), same, base + rover(backup=0.0)), nets, strict=True):
        launch(recipe, net=net, samples=16)
    plain, bare, unscaled = map(weights, nets)
    assert torch.equal(bare, plain) and not torch.equal(unscaled, plain)


def test_what_it_makes_dead_clashes():
    with pytest.raises(Clash, match=r"lp-reg\(loose=False\)"):
        grpo() + rover() + lp_reg()
    assert grpo() + rover() + lp_reg(loose=False)
    with pytest.raises(Clash, match="you chose it for grpo"):
        grpo(clip=0.1) + rover()
    assert (gspo() + rover()).settings.unit == "token"


def test_it_wants_a_groups_mean_and_nothing_more():
    with pytest.raises(BadRecipe, match="'scale'"):
        rloo() + rover()
    (rloo() + rover(unscaled=False)).check()
    for base in (reinforce, ppo):
        with pytest.raises(BadRecipe, match="compares a group's rewards"):
            (base() + rover(unscaled=False)).check()


@pytest.mark.parametrize("options", [{"rho": 0.0}, {"backup": -1.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give rho > 0"):
        rover(**options)

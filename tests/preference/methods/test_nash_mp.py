"""Nash-MP: its gradient by enumeration, its half-steps in closed form, their rate on pairs, and who plays whom."""

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe, Clash
from frugal.core.recipe import Patch
from frugal.language.rollout import completions
from frugal.preference import dpo, online_dpo, reward_model
from frugal.preference.methods.nash_mp import nash_mp
from frugal.preference.parts import AllSoFar
from frugal.preference.tasks.pairs import RESPONSES, ResponsePairs
from tests.language.rows import rows
from tests.language.tinyrun import policy, weights
from tests.preference.rows import pairs
from tests.preference.test_loop import spy
from tests.preference.tinyrun import Compared, launch

K = len(RESPONSES)
BETA, ETA = 0.05, 0.1


def tables(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(-1)


class Anchored:
    """Stands for a run whose anchor says `logp` of the responses in their order."""

    def __init__(self, monkeypatch, logp):
        from contextlib import nullcontext
        from types import SimpleNamespace

        self.net = SimpleNamespace(seen_by=lambda view: nullcontext(SimpleNamespace(micro_tokens=0)))
        monkeypatch.setattr("frugal.language.gradient.look", lambda *_: {"logp": logp[:, None]})


def log_nu(monkeypatch, ref, anchor, beta=BETA, eta=ETA):
    part = nash_mp(beta, eta).fill["learn.reference"].begin(Anchored(monkeypatch, anchor))
    return part(rows([0.0] * K, [1] * K).put(columns={"ref.logp": ref[:, None]}))[:, 0]


def expected_loss(z, mu, P, beta=BETA, eta=ETA):
    """The loss of each response, over the opponent's and the labels in expectation. z, mu [K], P [K,K] -> [K]"""
    loss, mini = nash_mp(beta, eta).fill["learn.loss"], pairs([0.5], [1, 1])
    won, lost = (loss(z, z, mini.put(y=torch.tensor(y))) for y in (1.0, 0.0))
    p = P @ mu
    return p * won + (1 - p) * lost


def test_equation_by_hand():
    """beta = 0.1 and eta = 0.2: tau = 0.6. z = 2: a win (1/2 - 1) 2 + 0.6 * 4 / 2 = 0.2, a loss 2.2."""
    z = torch.tensor([2.0, 2.0])
    assert nash_mp().fill["learn.loss"](z, z, pairs([1.0, 0.0], [1] * 4)).tolist() == pytest.approx([0.2, 2.2])


def test_its_expected_gradient_is_that_of_the_regularised_game(monkeypatch):
    theta = torch.randn(K, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    ref, anchor, log_mu = tables(2, 3, K)
    P, mu, logp = ResponsePairs(cyclic=60).matrices(RESPONSES)[1][0], log_mu.exp(), theta.log_softmax(0)
    sampled = (logp.exp().detach() * expected_loss(logp - log_nu(monkeypatch, ref, anchor), mu, P)).sum()
    pi = logp.exp()
    game = mu @ P @ pi + BETA * (pi * (logp - ref)).sum() + BETA / ETA * (pi * (logp - anchor)).sum()
    ours, wanted = (torch.autograd.grad(x, theta, retain_graph=True)[0] for x in (sampled, game))
    torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-14)
    assert wanted.abs().max() > 1e-3


def step(monkeypatch, start, ref, anchor, mu, P, beta, eta):
    """A natural-gradient step of size 1 / tau, which on a table is theta - d loss / d z / tau. -> log pi [K]"""
    z = (start - log_nu(monkeypatch, ref, anchor, beta, eta)).requires_grad_()
    (slope,) = torch.autograd.grad(expected_loss(z, mu, P, beta, eta).sum(), z)
    return (start - slope / (beta * (1 + 1 / eta))).log_softmax(0)


def test_a_natural_step_from_anywhere_is_the_papers_half_step(monkeypatch):
    """log pi = (eta log ref + log pi_k + eta / beta P(y > mu)) / (1 + eta) + const."""
    start, ref, anchor, log_mu = tables(3, 4, K)
    P, mu = ResponsePairs(cyclic=60).matrices(RESPONSES)[1][0], log_mu.exp()
    wanted = ((ETA * ref + anchor + ETA / BETA * (P @ mu)) / (1 + ETA)).log_softmax(0)
    torch.testing.assert_close(step(monkeypatch, start, ref, anchor, mu, P, BETA, ETA), wanted, rtol=1e-9, atol=1e-9)


def rates(monkeypatch, lookahead, P, iterations=30):
    """KL(pi*, pi_{k+1}) / KL(pi*, pi_k) from some start, while it can be told from rounding."""
    ref, start = tables(4, 2, K)

    def after(log_pi, lookahead):
        mu = log_pi
        for _ in range(1 + lookahead):
            mu = step(monkeypatch, mu, ref, log_pi, mu.exp(), P, BETA, 2 * BETA)
        return mu

    star = ref
    for _ in range(300):
        star = after(star, True)
    far, found = start, []
    for _ in range(iterations):
        near = after(far, lookahead)
        a, b = ((star.exp() * (star - log_pi)).sum() for log_pi in (far, near))
        if a > 1e-9:
            found.append(float(b / a))
        far = near
    return found


@pytest.mark.parametrize("cyclic", [0, 60, 100])
def test_the_rate_on_pairs(cyclic, monkeypatch):
    """Theorem: each iteration, two queries, takes KL(pi*, pi_k) at least by 1 / (1 + 2 beta)."""
    P = ResponsePairs(cyclic=cyclic).matrices(RESPONSES)[1][0]
    found = rates(monkeypatch, True, P)
    assert len(found) > 10 and max(found) <= 1 / (1 + 2 * BETA)


def test_without_the_look_ahead_a_cycle_is_not_contracted(monkeypatch):
    P = ResponsePairs(cyclic=100).matrices(RESPONSES)[1][0]
    assert max(rates(monkeypatch, False, P)) > 1 / (1 + 2 * BETA)


def test_where_nobody_is_better_the_reference_stays(monkeypatch):
    (ref,) = tables(5, 1, K)
    half = step(monkeypatch, ref, ref, ref, ref.exp(), torch.full((K, K), 0.5, dtype=torch.float64), BETA, ETA)
    torch.testing.assert_close(half, ref, rtol=1e-12, atol=1e-12)


# -- in the loop ----------------------------------------------------------------------------------------------


def test_own_responses_come_first_and_only_they_are_learnt_from():
    seen = []
    launch(online_dpo(prompts=6, lr=1e-2) + nash_mp(rounds=1) + spy(seen), samples=12)
    for _, mini in seen:
        assert len(mini) and mini.rows.drawn[mini.a].all() and not mini.rows.drawn[mini.b].any()
        assert torch.equal(mini.rows.group[mini.a], mini.rows.group[mini.b])


class OneLetter(Compared):
    max_tokens = 1


def test_equal_responses_are_learnt_from_as_a_draw_and_what_was_not_paid_for_is_not():
    """Of one letter, many are equal; dropped, as the base drops them, they would bias the KL terms."""
    seen, net = [], policy()
    launch(online_dpo(prompts=8, lr=1e-4) + nash_mp(rounds=1) + spy(seen), OneLetter(), net, samples=36)
    assert [len(mini) for _, mini in seen] == [8, 8, 8, 8, 4]
    texts = [(completions(net, mini.rows), mini) for _, mini in seen]
    same = torch.tensor([x[a] == x[b] for x, mini in texts for a, b in zip(mini.a, mini.b, strict=True)])
    y = torch.cat([mini.y for _, mini in seen])
    assert same.any() and (y[same] == 0.5).all() and not same.all() and (y[~same] != 0.5).all()


@pytest.mark.parametrize("lookahead, anchors", [(True, [0, 0, 0, 0, 4]), (False, [0, 0, 2, 2, 4])])
def test_who_plays_whom(lookahead, anchors):
    """rounds=2: the opponent is renewed every two rounds, the anchor as often, or half as often with a look-ahead."""
    net, now = policy(), []
    recipe = online_dpo(prompts=4, lr=1e-2) + nash_mp(rounds=2, lookahead=lookahead)
    launch(recipe + watching(now, net), net=net, samples=20)
    by_round = [own for own, _, _ in now]
    assert len(now) == 5 and not torch.equal(by_round[0], by_round[4])
    for t, (_, opponent, anchor) in enumerate(now):
        assert torch.equal(opponent, by_round[2 * (t // 2)]) and torch.equal(anchor, by_round[anchors[t]])


def watching(now, net):
    """Notes the weights of policy, opponent and anchor at each round."""

    class Watch:
        def __call__(self, rows, rng):
            now.append([weights(one) for one in (net, net.others["opponent"], net.others["anchor"])])
            return rows

    return Patch(fill={"act.choose": Watch()}, name="watching", domain="preference")


def test_it_resumes_with_anchor_and_opponent(tmp_path):
    from tests.language.test_pitfalls_resume import Killed, checkpoints_every_other_round, killing, left_behind

    text = "online-dpo(prompts=4, lr=1e-3)+nash-mp(rounds=1)"
    options = {"samples": 24, "seed": 3, "evaluations": 2, "eval_problems": 4, "threads": 1}
    with checkpoints_every_other_round():
        frugal.run(text, "pairs", out=tmp_path / "whole", **options)
        with pytest.raises(Killed):
            frugal.run(text, "pairs", out=tmp_path / "cut", reporter=killing(5), **options)
        frugal.resume(tmp_path / "cut")
    assert left_behind(tmp_path / "cut") == left_behind(tmp_path / "whole")


def test_clashes_and_nonsense():
    memory = Patch(fill={"update.memory": AllSoFar()}, name="remembering", domain="preference")
    with pytest.raises(Clash, match=r"update\.memory"):
        online_dpo() + nash_mp() + memory
    with pytest.raises(Clash, match="you chose it for online-dpo"):
        online_dpo(epochs=2) + nash_mp()
    for base in (dpo, reward_model):
        with pytest.raises(BadRecipe, match="compares its own samples"):
            (base() + nash_mp()).check()
    for wrong in ({"beta": 0.0}, {"eta": -1.0}, {"rounds": 0}):
        with pytest.raises(BadRecipe, match="above 0"):
            nash_mp(**wrong)

"""HAPO: its four components by hand, against loops, and in the loop."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical
from transformers import LlamaForCausalLM

from frugal.core.errors import BadRecipe, Clash
from frugal.core.recipe import Patch
from frugal.language.methods.copo import copo
from frugal.language.methods.hapo import ByEntropy, TokenAverage, extremes, hapo, heterogeneity
from frugal.language.methods.ngrpo import ngrpo
from frugal.language.methods.remax import remax
from frugal.language.parts import GroupRelative, PPOClip
from frugal.language.policy import Now
from frugal.language.recipes import dapo, grpo, ppo, rloo, sft
from frugal.language.rows import Rows
from tests.language.rows import rows
from tests.language.tinyrun import assert_gradient, each_by_hand, exact, launch, policy, sampled, second_step

H = torch.tensor([1.0, 2.0, 4.0, 8.0, 32.0]) / 64  # log2: -6, -5, -4, -3, -1


def surrogate(ratio: Tensor, A: float, H: Tensor = H, low: float = 0.2, high: float = 0.4, **options) -> Tensor:
    """PPO's surrogate under `hapo`, c at the middle of H: g = -1, -1/2, 0, 1/3, 1. Five used tokens of ratio [1,T]."""
    part = hapo(**{"pivot": 0.5, **options}).wrap["learn.surrogate"]
    part = ByEntropy(part.redistribute, part.clip, part.pivot, PPOClip())
    bounds = torch.full_like(ratio, 1 - low), torch.full_like(ratio, 1 + high)
    now = Now(torch.zeros_like(ratio), {"entropy": H[None]})
    mini = rows([0.0], [ratio.shape[1]]).put(selected=torch.arange(ratio.shape[1])[None] < 5)
    return part(now, ratio, torch.full_like(ratio, A), bounds, mini)


# -- normalised entropy ---------------------------------------------------------------------------------------


def test_heterogeneity_by_hand():
    """From -6 to -1 around -4: (-2, -1) / 2, 0, (1, 3) / 3. What lies outside ends at -1 and 1."""
    marks = extremes(H, 0.5)
    torch.testing.assert_close(heterogeneity(H, marks), torch.tensor([-1, -1 / 2, 0, 1 / 3, 1]))
    assert heterogeneity(torch.tensor([0.0, 3.0]), marks).tolist() == [-1, 1]


@pytest.mark.parametrize("pivot, centre", [(0.0, 0), (0.8, 4), (0.74, 4), (0.66, 3), (1.0, 5)])
def test_the_centre_is_the_nearest_quantile(pivot, centre):
    u = torch.tensor([-3.0, -2.5, -2.0, -1.0, -0.5, -0.1])
    assert extremes(u.exp(), pivot)[1] == pytest.approx(u[centre].item())
    nearest = torch.quantile(u, pivot, interpolation="nearest")
    assert u[centre] == nearest


def test_equal_entropies_are_neither_open_nor_forced():
    same = torch.full((4,), 0.3)
    assert heterogeneity(same, extremes(same, 0.8)).tolist() == [0.0] * 4


# -- temperature ----------------------------------------------------------------------------------------------


def test_temperature_by_hand():
    """H of two tokens 0.3 apart, and the least and largest H of the last round: T = 1 + 0.1 g."""
    live = hapo(temperature=0.1, pivot=0.5).add["act.temperature"].begin(None)
    logits = torch.tensor([[0.0, 0.0], [0.0, 50.0]])
    assert live(logits, 0) == 1.0, "nothing is known before the first round"
    batch = rows([0.0, 0.0], [2, 1]).put(columns={"old.entropy": torch.tensor([[0.1, 0.2], [1.0, 99.0]])})
    live.learn(batch)  # the last entry is padding
    open_ = math.log(math.log(2) / 0.2) / math.log(1.0 / 0.2)
    torch.testing.assert_close(live(logits, 3), torch.tensor([1 + 0.1 * open_, 0.9]))
    again = hapo(temperature=0.1, pivot=0.5).add["act.temperature"].begin(None)
    again.load_state_dict(live.state_dict())
    assert torch.equal(again(logits, 3), live(logits, 3))
    fresh = hapo().add["act.temperature"].begin(None)
    fresh.load_state_dict(fresh.state_dict())
    assert fresh(logits, 0) == 1.0


@dataclass(frozen=True, eq=False)
class Rounds:
    """Remembers the rows of every round."""

    seen: list

    def __call__(self, A: Tensor, rows: Rows) -> Tensor:
        self.seen.append(rows)
        return rows.use


def test_the_loop_samples_at_the_temperature_of_the_round_before():
    """A rate of 0: in the second round every token is drawn from softmax(z / T)."""
    seen: list = []
    net, only = policy(), {"average": False, "redistribute": 0, "clip": 0}
    rounds = Patch(add={"update.select": Rounds(seen)}, name="rounds")
    launch(grpo(prompts=2, group=4, lr=0.0) + hapo(temperature=0.5, **only) + rounds, net=net, samples=16)
    first, second = seen
    torch.testing.assert_close(first.behaviour, first.old, rtol=0, atol=1e-6)  # by two routes
    g = heterogeneity(second.columns["old.entropy"], extremes(first.columns["old.entropy"][first.own], 0.8))
    for b, n in enumerate(second.length.tolist()):
        ids = torch.tensor([[*second.prompts[b], *second.tokens[b, :n].tolist()]])
        z = net.model(ids).logits[0, -n - 1 : -1].detach() / (1 + 0.5 * g[b, :n, None])
        mine = z.log_softmax(1).gather(1, second.tokens[b, :n, None])[:, 0]
        torch.testing.assert_close(second.behaviour[b, :n], mine, rtol=1e-4, atol=1e-5)
    assert (second.behaviour - second.old).abs().max() > 0.01


# -- advantage ------------------------------------------------------------------------------------------------


def test_advantages_by_hand():
    """Lengths 1 and 3, rewards 1 and 0: m = 1/4 (by response 1/2), s = sqrt(3)/4, A = sqrt(3) and -1/sqrt(3)."""
    batch = rows([1.0, 0.0, 1.0, 1.0], [1, 3, 2, 1], groups=[7, 7, 2, 2])
    A = TokenAverage()(batch.at_end(batch.score), batch)
    assert A.shape == (4, 3)
    assert A[:, 0].tolist() == pytest.approx([math.sqrt(3), -1 / math.sqrt(3), 0.0, 0.0], rel=1e-5)
    assert torch.equal(A, A[:, :1].expand(4, 3)) and not A[2:].any()
    assert (A * batch.own).sum() == pytest.approx(0, abs=1e-5)  # which is what it is for


def test_advantages_equal_the_mean_and_spread_of_all_tokens():
    rng = torch.Generator().manual_seed(0)
    groups, lengths = [3, 1] * 6, torch.randint(1, 9, (12,), generator=rng).tolist()
    batch = rows(torch.rand(12, generator=rng).tolist(), lengths, groups)
    A = TokenAverage()(batch.at_end(batch.score), batch)
    for g in (1, 3):
        mine = [b for b in range(12) if groups[b] == g]
        x = np.concatenate([np.full(lengths[b], float(batch.score[b])) for b in mine])
        wanted = [(float(batch.score[b]) - x.mean()) / (x.std() + 1e-6) for b in mine]
        assert A[mine, 0].tolist() == pytest.approx(wanted, rel=1e-5)


def test_a_group_with_an_extreme_advantage_keeps_grpos():
    """One short right response among 40 tokens: A = sqrt(40) > 5; a second group is untouched by that."""
    batch = rows([1.0, 0.0, 1.0, 0.0], [1, 40, 1, 3], groups=[0, 0, 1, 1], limit=40)
    r = batch.at_end(batch.score)
    A = TokenAverage()(r, batch)
    assert torch.equal(A[:2], GroupRelative()(r, batch)[:2])
    assert A[2:, 0].tolist() == pytest.approx([math.sqrt(3), -1 / math.sqrt(3)], rel=1e-5)


def test_rows_that_do_not_count_change_nothing():
    batch = rows([1.0, 0.0, 0.0], [1, 3, 3])
    A = TokenAverage()(batch.at_end(batch.score), batch.put(counts=torch.tensor([True, True, False])))
    assert A[:2, 0].tolist() == pytest.approx([math.sqrt(3), -1 / math.sqrt(3)], rel=1e-5)


# -- surrogate ------------------------------------------------------------------------------------------------


def test_clip_ranges_by_hand():
    """low = 0.2 (1 and 1/2 wider), high = 0.4 (1/3 and 1 wider), in the middle [0.8, 1.4]."""
    loss = surrogate(torch.full((1, 5), 9.0), 1.0, redistribute=0)
    torch.testing.assert_close(-loss, torch.tensor([[1.4, 1.4, 1.4, 1 + 0.4 * 4 / 3, 1.8]]))
    loss = surrogate(torch.full((1, 5), 0.1), -1.0, redistribute=0)
    torch.testing.assert_close(loss, torch.tensor([[0.6, 0.7, 0.8, 0.8, 0.8]]))


@pytest.mark.parametrize("A", [1.0, -2.0])
def test_redistribution_by_hand(A):
    """Inside the zone [0.9, 1.2] forced tokens shrink by 1 + g; outside it open ones grow by 1 + g."""
    inside, outside = torch.full((1, 5), 1.1), torch.full((1, 5), 1.3)
    torch.testing.assert_close(surrogate(inside, A, clip=0), -A * 1.1 * torch.tensor([[0, 1 / 2, 1, 1, 1]]))
    torch.testing.assert_close(surrogate(outside, A, clip=0), -A * 1.3 * torch.tensor([[1, 1, 1, 4 / 3, 2]]))
    half = surrogate(outside, A, clip=0, redistribute=0.5)
    torch.testing.assert_close(half, -A * 1.3 * torch.tensor([[1, 1, 1, 7 / 6, 3 / 2]]))


def test_the_neutral_zone_is_that_of_the_widened_range():
    """At 1.35 the most open token, whose range ends at 1.8, is inside its zone (to 1.4); at 1.45 it is not."""
    for ratio, factor in ((1.35, 1.0), (1.45, 2.0)):
        loss = surrogate(torch.full((1, 5), ratio), 1.0)
        assert float(-loss[0, 4]) == pytest.approx(ratio * factor)


def test_without_its_strengths_it_is_the_inner_surrogate():
    rng = torch.Generator().manual_seed(0)
    ratio, A = 1 + 0.5 * torch.randn(4, 5, generator=rng), torch.randn(4, 5, generator=rng)
    bounds = torch.full_like(ratio, 0.8), torch.full_like(ratio, 1.28)
    inputs = (
        Now(torch.zeros(4, 5), {"entropy": torch.rand(4, 5, generator=rng)}),
        ratio,
        A,
        bounds,
        rows([0.0] * 4, [5] * 4),
    )
    assert torch.equal(ByEntropy(0, 0, 0.8, PPOClip())(*inputs), PPOClip()(*inputs))


def test_what_is_not_used_does_not_count():
    """Two tokens beside the five, the most open and the most forced of all: the same losses of the five."""
    ratio, more = torch.full((1, 5), 1.3), torch.full((1, 7), 1.3)
    beside = surrogate(more, 1.0, torch.cat([H, torch.tensor([3.0, 1e-6])]))
    torch.testing.assert_close(beside[:, :5], surrogate(ratio, 1.0))


def test_the_loss_of_the_loop_is_the_equation():
    """The second step of a round, against the loss written out in float64; entropy takes no gradient."""
    net = policy()
    batch = sampled(net).put(score=torch.arange(8.0))
    rng = torch.Generator().manual_seed(0)
    old = batch.old + 0.3 * torch.randn(batch.old.shape, generator=rng) * batch.own
    batch = batch.put(old=old, columns={"old.entropy": torch.ones_like(old)})
    recipe = dapo(low=0.2, high=0.4, overlong=0, epochs=2, lr=0.0, prompts=2, group=4) + hapo()
    seen, loss = second_step(recipe, batch, net)
    model = exact(net)
    A = TokenAverage()(batch.at_end(batch.score), batch)[:, 0].tolist()
    logp, losses, kinds = each_by_hand(model, batch), [], set()
    entropies = [Categorical(logits=own_logits(model, batch, b)).entropy().detach() for b in range(8)]
    u = torch.cat(entropies).log().tolist()
    middle = sorted(u)[round(0.8 * (len(u) - 1))]
    for b in range(8):
        for t in range(len(logp[b])):
            h = math.log(float(entropies[b][t])) - middle
            g = h / (max(u) - middle) if h > 0 else h / (middle - min(u))
            low, high = 0.2 * (1 - min(g, 0)), 0.4 * (1 + max(g, 0))
            ratio = (logp[b][t] - old[b, t].double()).exp()
            clear = bool(1 - low / 2 < ratio < 1 + high / 2) == (g <= 0)
            a = A[b] * (1 + g) if clear else A[b]
            kinds.add((clear, g > 0))
            losses.append(-torch.minimum(ratio * a, ratio.clamp(1 - low, 1 + high) * a))
    assert len(kinds) == 4
    wanted = torch.stack(losses).mean()
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-4)
    assert_gradient(seen, wanted, model)


def own_logits(model: LlamaForCausalLM, batch: Rows, b: int) -> Tensor:
    """Logits of row b's response. [n,V]"""
    n = int(batch.length[b])
    ids = torch.tensor([[*batch.prompts[b], *batch.tokens[b, :n].tolist()]])
    return model(ids).logits[0, -n - 1 : -1]


# -- company --------------------------------------------------------------------------------------------------


def test_each_component_can_be_left_out():
    assert set(hapo(average=False).changes()) == {"learn.surrogate (wrapped)", "act.temperature.hapo"}
    assert set(hapo(redistribute=0, clip=0).changes()) == {"credit.advantage", "act.temperature.hapo"}
    copo_too = (grpo() + hapo() + copo()).parts["credit.advantage"]
    assert copo_too.inner == TokenAverage()


def test_clashes_with_what_clips_nothing_or_has_another_baseline():
    with pytest.raises(Clash, match=r"learn\.clip.*way out: hapo\(redistribute=0, clip=0\)"):
        rloo() + hapo()
    rloo() + hapo(redistribute=0, clip=0)
    with pytest.raises(Clash, match=r"credit\.advantage.*hapo\(average=False\)"):
        grpo() + hapo() + remax()
    with pytest.raises(Clash, match=r"learn\.clip"):
        grpo() + hapo(average=False) + remax()
    with pytest.raises(Clash, match="both own the baseline"):
        grpo() + hapo() + ngrpo()
    with pytest.raises(Clash):
        sft() + hapo(average=False)
    with pytest.raises(BadRecipe, match="compares a group's rewards"):
        (ppo() + hapo()).check()
    (ppo() + hapo(average=False)).check()


@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"redistribute": 1.5}, {"clip": -1.0}, {"pivot": 2.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give"):
        hapo(**options)

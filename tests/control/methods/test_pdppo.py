"""PDPPO: both rules by hand, what the second critic learns, and what it takes of an environment."""

from types import SimpleNamespace

import gymnasium
import pytest
import torch

from frugal.control.approximators import Encoder
from frugal.control.find import find_environment
from frugal.control.methods.pdppo import pdppo
from frugal.control.parts import GAE
from frugal.control.spaces import Spaces
from frugal.core.errors import BadRecipe, BadTask
from frugal.core.run import Run
from frugal.registry import recipe
from tests.control.rows import rows
from tests.control.tinyrun import launch, small, weights


def live(rule, lam=1.0, gamma=1.0, v_x=None, **settings):
    """The part at work on observations [2]; `v_x` makes V_x(s^x) that multiple of the first number of s^x."""
    run = Run(100)
    run.spaces = Spaces((2,), False, choices=(2,))
    run.net = SimpleNamespace(encoder=Encoder(), encode=lambda obs: obs)
    run.settings = SimpleNamespace(gamma=gamma, lr=1e-2, epochs=1, batch=None, max_grad_norm=100.0, **settings)
    wrapper = pdppo(rule=rule, hidden=() if v_x is not None else (16,)).wrap["credit.advantage"]
    part = type(wrapper)(rule, wrapper.hidden, GAE(lam).begin(run)).begin(run)
    if v_x is not None:  # one linear layer
        part.own.vector.copy_(torch.tensor([v_x, 0.0, 0.0]))
    return part


def window(r, r_x, first, ended=-1, term=True, **more):
    """A round of one environment: rewards, their certain share, the first number of s^x; ends after `ended`."""
    T = len(r)
    post = torch.stack([torch.tensor(first), torch.zeros(T)], 1)[None]
    over = torch.arange(T) == ended % T
    no = torch.zeros(1, T, dtype=torch.bool)
    columns = {"post": post, "post_reward": torch.tensor(r_x)[None, :, None]}
    return rows([r], term=over[None] if term else no, cut=no if term else over[None], columns=columns, **more)


def advantages(part, batch, v, v_next):
    with torch.no_grad():
        A, target = part(batch.reward, torch.tensor([v]), torch.tensor([v_next]), batch)
    return A[0].tolist(), target[0].tolist()


def test_the_larger_advantage_by_hand():
    """r = 4, 2 of which 1, 5 are certain: returns of the rest are 0, -3 and of the certain 6, 5.

    With V = 1, 1 and V_x = 2 s^x = 2, 8 the advantages are -1, -4 and 4, -3.
    """
    part = live("max", v_x=2.0)
    batch = window([4.0, 2.0], [1.0, 5.0], [1.0, 4.0])
    assert advantages(part, batch, [1.0, 1.0], [1.0, 0.0]) == ([4.0, -3.0], [0.0, -3.0])
    z, y = part.targets[0]
    assert z[:, 0].tolist() == [1.0, 4.0] and y.tolist() == [6.0, 5.0]


def test_the_larger_is_never_below_the_base_s():
    rng = torch.Generator().manual_seed(0)
    part, seen = live("max", lam=0.9, gamma=0.9), []
    for _ in range(20):
        r, r_x, first, v, v_next = torch.randn(5, 6, generator=rng).tolist()
        batch = window(r, r_x, first)
        A, _ = advantages(part, batch, v, v_next)
        rest = batch.reward - batch.columns["post_reward"][..., 0]
        base, _ = part.part.inner(rest, torch.tensor([v]), torch.tensor([v_next]), batch)
        assert all(a >= b for a, b in zip(A, base[0].tolist(), strict=True))
        seen += [a > b for a, b in zip(A, base[0].tolist(), strict=True)]
    assert any(seen) and not all(seen)


def test_a_cut_and_the_end_of_a_round_bootstrap_from_the_last_value():
    """gamma = 1/2, V_x = s^x: the step that is cut has the target r^x + s^x / 2, and so has the last one of a round."""
    part = live("max", v_x=1.0, gamma=0.5)
    part(
        torch.zeros(1, 3),
        torch.zeros(1, 3),
        torch.zeros(1, 3),
        window([0.0] * 3, [1.0, 1.0, 1.0], [2.0, 4.0, 8.0], 1, False),
    )
    assert part.targets[0][1].tolist() == [1 + 3 / 2, 3.0, 5.0]


def test_the_q_rule_by_hand_has_no_noise_of_the_step():
    """A = r^x + V_x - V = 1 + 2 - 1 and 5 + 8 - 1 whatever the rest of the reward; y - r^x is what V_x is to learn."""
    part = live("q", v_x=2.0)
    for noise in (0.0, 100.0):
        batch = window([1.0 + noise, 5.0 - noise], [1.0, 5.0], [1.0, 4.0])
        A, target = advantages(part, batch, [1.0, 1.0], [1.0, 0.0])
        assert A == [2.0, 12.0] and target == [6.0, 5.0 - noise]
        assert part.targets[-1][1].tolist() == [5.0, -noise]


def test_the_second_critic_learns_the_mean_over_the_noise():
    """Two decisions, then noise: V_x tends to the mean of what followed each, so A to r^x + mean - V."""
    rng = torch.Generator().manual_seed(0)
    first = torch.tensor([0.0, 1.0]).repeat(100)
    noise = torch.randn(200, generator=rng) + 3 * first
    ends = torch.ones(1, 200, dtype=torch.bool)
    part = live("q")
    part.run.settings.epochs = 1000
    batch = window(noise.tolist(), [0.0] * 200, first.tolist())
    batch.term = ends
    part(batch.reward, torch.zeros(1, 200), torch.zeros(1, 200), batch)
    part.learn(batch)
    A, _ = part(batch.reward, torch.zeros(1, 200), torch.zeros(1, 200), batch)
    for k in (0, 1):
        torch.testing.assert_close(A[0, first == k], noise[first == k].mean().expand(100), atol=0.02, rtol=0)


def test_each_round_s_targets_are_learnt_once_and_steps_that_did_not_happen_never():
    part = live("q")
    batch = window([1.0, 2.0, 9.0], [0.0] * 3, [1.0, 2.0, 3.0], ended=1, lengths=[2])
    part(batch.reward, torch.zeros(1, 3), torch.zeros(1, 3), batch)
    assert part.targets[0][0][:, 0].tolist() == [1.0, 2.0]
    before = part.own.vector.clone()
    part.learn(batch)
    assert part.targets == [] and not torch.equal(part.own.vector, before)


def test_it_is_saved_and_restored():
    part, other = live("q"), live("q")
    batch = window([1.0, 2.0], [0.0] * 2, [1.0, 2.0])
    part(batch.reward, torch.zeros(1, 2), torch.zeros(1, 2), batch)
    part.learn(batch)
    other.load_state_dict({k: v.clone() for k, v in part.state_dict().items()})
    assert torch.equal(other.own.vector, part.own.vector) and torch.equal(other.own.square, part.own.square)


def test_rules_differ_and_the_critic_of_the_base_learns_too():
    runs = [launch(f"{small('control.ppo')}+pdppo(rule={rule!r})", "frugal/LotSizing-v0", 96) for rule in ("max", "q")]
    assert not torch.equal(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize("rule", ["max", "q"])
def test_it_works_on_whole_episodes_of_several_environments(rule):
    run = launch(f"control.reinforce(envs=3, baseline=True)+pdppo(rule={rule!r})", "frugal/LotSizing-v0", 300)
    assert weights(run).isfinite().all() and run.ledger.gradient_steps == 2


class Short(gymnasium.Wrapper):
    def step(self, action):
        *rest, info = self.env.step(action)
        return *rest, {**info, "post": info["post"][:3]}


def test_what_an_environment_has_to_say():
    with pytest.raises(BadTask, match="'post'"):
        launch(f"{small('control.ppo')}+pdppo", "CartPole-v1", 50)
    with pytest.raises(BadTask, match="has 3 numbers"):
        launch(f"{small('control.ppo')}+pdppo", lambda: Short(find_environment("frugal/LotSizing-v0")()), 50)
    with pytest.raises(BadRecipe, match="choose from max, q"):
        recipe("control.ppo+pdppo(rule='min')")
    with pytest.raises(BadRecipe, match="off-policy"):
        recipe("sac+pdppo")

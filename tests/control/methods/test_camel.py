"""CAMEL: the box by hand, its density, who is masked when, and rules of the user's."""

import math
from types import SimpleNamespace

import pytest
import torch

from frugal.control.laws import Deterministic, TanhGaussian
from frugal.control.methods.camel import Box, Boxed, BoxedPolicy, camel, number
from frugal.control.policy import load
from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.registry import recipe
from tests.control.tinyenv import patch_of
from tests.control.tinyrun import launch, small, weights


def bounds(rule: str, width: float, share: float, progress: float, O: int = 2, A: int = 1):
    run = SimpleNamespace(
        progress=progress, spaces=SimpleNamespace(pixels=False, continuous=True, shape=(O,), actions=A)
    )
    return Box(rule, width, share).begin(run)


def test_box_and_mapping_by_hand():
    """Around 0 with width 0.5: -0.5 and 0.5. Around 1: 0.5 and 1, so that u = -1, 0, 1 become 0.5, 0.75, 1."""
    obs = torch.tensor([[0.3, 0.0], [0.3, 7.0], [0.3, -7.0]])
    low, high = bounds("pump", 0.5, math.inf, 1.0)(obs)
    assert low.tolist() == [[-0.5], [0.5], [-1.0]] and high.tolist() == [[0.5], [1.0], [-0.5]]
    low, high = torch.full((3, 1), 0.5), torch.ones(3, 1)
    law = Boxed(Deterministic(torch.tensor([[-1.0], [0.0], [1.0]])), low, high)
    assert law.mode.tolist() == [[0.5], [0.75], [1.0]]
    assert law.sample(torch.Generator())[1] is None
    assert Boxed(law.inner, low, low).mode.tolist() == [[0.5]] * 3, "no width: the rule itself"
    assert bounds("rest", 0.25, math.inf, 0.0, A=3)(obs)[1].tolist() == [[0.25] * 3] * 3


def test_the_whole_range_is_the_identity_bit_for_bit():
    u = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    obs = torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
    for width, share, progress in ((2.0, math.inf, 0.0), (0.1, 0.5, 0.5), (0.1, 0.0, 0.0)):
        assert torch.equal(Boxed(Deterministic(u), *bounds("pump", width, share, progress, A=2)(obs)).mode, u)


def test_the_density_is_that_of_the_mapped_action():
    """Half of the width in two dimensions: log p is larger by 2 log 2, and integrates to 1 over the box."""
    mean, log_std = torch.tensor([[0.3, -0.2]]).double(), torch.tensor([[-0.5, 0.2]]).double()
    low, high = torch.tensor([[0.0, -0.5]]).double(), torch.tensor([[1.0, 0.5]]).double()
    inner = TanhGaussian(mean, log_std)
    u, logp = inner.sample(torch.Generator().manual_seed(0))
    a, mapped = Boxed(inner, low, high).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(a, low + (u + 1) / 2 * (high - low), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mapped, logp + 2 * math.log(2), rtol=1e-12, atol=0)


def test_epsilon_falls_to_zero_and_who_is_masked_stays_so():
    assert [Box("rest", 0.5, 0.4).epsilon(p) for p in (0.0, 0.1, 0.2, 0.4, 1.0)] == pytest.approx([1, 0.75, 0.5, 0, 0])
    obs = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    before = torch.ones(20_000) > 0
    for progress in (0.0, 0.1, 0.2, 0.3, 0.4):
        low, _ = bounds("rest", 0.5, 0.4, progress, O=3)(obs)
        masked, epsilon = low[:, 0] > -1, 1 - progress / 0.4
        assert not (masked & ~before).any(), "as epsilon falls nobody is masked anew"
        assert abs(float(masked.float().mean()) - epsilon) <= 4 * math.sqrt(epsilon * (1 - epsilon) / 20_000) + 1e-9
        before = masked


@pytest.mark.parametrize("obs", (torch.arange(4096.0)[:, None], torch.cartesian_prod(*[torch.arange(16.0)] * 3)))
def test_numbers_look_drawn_where_observations_do_not(obs):
    """Of 4096 even draws a sixteenth is expected in each of 16 bins, with a standard deviation of 15.5; and neighbours
    are not alike: their mean distance is 1/3.
    """
    u = number(obs)
    counts = torch.histc(u.float(), 16, 0, 1)
    assert (counts - 256).abs().max() < 4 * 15.5 and 0 <= u.min() and u.max() < 1
    assert abs(float((u[1:] - u[:-1]).abs().mean()) - 1 / 3) < 0.02


class Sees:
    """Watches actions and observations."""

    def __init__(self):
        self.steps = []

    def __call__(self, ended):
        return {}

    def observe(self, step):
        self.steps.append((step.obs[0], float(step.act[0, 0])))


def near_the_rule(options: str) -> list[bool]:
    """Which actions of 200 are within 0.2 of the velocity's sign; the first 20 are drawn evenly from all."""
    sees = Sees()
    made = recipe(f"{small('td3')}+camel(rule='pump', width=0.2, {options})")
    launch(made + patch_of("sees", add={"start.reset": sees}), "Pendulum-v1", 200)
    return [abs(a - float(obs[-1].sign())) <= 0.2 + 1e-6 for obs, a in sees.steps]


def test_in_the_loop_actions_stay_in_the_box_while_masked_and_leave_it_afterwards():
    always, half = near_the_rule("share=1e999"), near_the_rule("share=0.5")
    assert all(always[20:]) and not all(always[:20])
    assert sum(half[20:60]) >= 12, "24 are expected, with a standard deviation of 3"
    assert sum(half[100:]) < 20


def test_a_policy_whose_mask_stays_is_saved_with_it(tmp_path):
    launch(small("td3") + "+camel(rule='brake', width=0.1, share=1e999)", "Pendulum-v1", 60, out=tmp_path / "a")
    policy = load(tmp_path / "a" / "model")
    for speed in (-2.0, 2.0):
        assert policy([1.0, 0.0, speed]) == pytest.approx(-math.copysign(2.0, speed), abs=0.2 + 1e-6), "torque up to 2"


def test_a_rule_from_a_file(tmp_path):
    file = tmp_path / "rules.py"
    file.write_text(
        "import numpy as np\n"
        "def push(obs):\n    return np.sign(np.asarray(obs)[:, 2:])\n"
        "def wide(obs):\n    return obs\n"
    )
    mine = launch(small("td3") + f"+camel(rule='{file}:push')", "Pendulum-v1", 100)
    shipped = launch(small("td3") + "+camel(rule='pump')", "Pendulum-v1", 100)
    assert torch.equal(weights(mine), weights(shipped))
    with pytest.raises(BadTask, match=r"rule .*wide' fails.*\[B,1\]"):
        launch(small("td3") + f"+camel(rule='{file}:wide')", "Pendulum-v1", 100)
    with pytest.raises(BadRecipe, match="there is no file"):
        camel(rule="rules.py:nothing")


def test_every_base_with_continuous_actions_takes_it():
    made = launch(small("sac") + "+camel(rule='pump', width=0.5, share=1e999)", "Pendulum-v1", 100)
    assert torch.isfinite(weights(made)).all()
    with pytest.raises(BadTask, match="continuous"):
        launch(small("dqn") + "+camel", "CartPole-v1", 100)
    with pytest.raises(BadRecipe, match="on-policy loop"):
        recipe("control.ppo+camel")


def test_clashes_and_nonsense():
    other = patch_of("other", wrap={"learn.policy": BoxedPolicy(Box("rest", 1.0, 1.0))})
    for one, two in ((camel(), other), (other, camel())):
        with pytest.raises(Clash, match=r"learn\.policy"):
            recipe("td3") + one + two
    with pytest.raises(BadRecipe, match="width > 0"):
        camel(width=0.0)

"""P3O: both clips by hand, what they are on the policy's own samples, and that a shift of the rewards is nothing."""

import math
from dataclasses import dataclass

import pytest
import torch

from frugal.core.errors import Clash
from frugal.core.recipe import Patch
from frugal.language.policy import Now
from frugal.language.recipes import rloo
from frugal.preference import rlhf
from frugal.preference.methods.p3o import Pairwise, p3o
from tests.language.rows import rows
from tests.language.tinyrun import Letters, given, gradients, launch, policy, sampled, second_step

LIMIT = Letters.max_tokens


def loss(joint, log_w, A, low=0.8, high=1.2):
    """The loss of two responses of two and one tokens; the first one's log-ratio is split between its tokens."""
    mini = rows([0.0, 0.0], [2, 1])
    log_ratio = torch.stack([torch.stack([log_w[0] / 4, 3 * log_w[0] / 4]), torch.stack([log_w[1], log_w[1] * 0])])
    A = torch.tensor([[A, A], [-A, -A]])
    bounds = torch.full((2, 2), low), torch.full((2, 2), high)
    return Pairwise(joint)(Now(log_ratio, {}), log_ratio.exp(), A, bounds, mini)


@pytest.mark.parametrize("log_w, A, wanted", [((0.1, -0.1), 2.0, None), ((0.5, 0.1), 2.0, (1.2, None))])
def test_separate_clip_by_hand(log_w, A, wanted):
    """Each ratio against its own advantage, times the other's ratio: of 0.5 and A > 0 no more than 1.2 counts."""
    w = [math.exp(x) for x in log_w]
    first, second = wanted or (None, None)
    found = loss(False, torch.tensor(log_w), A)
    assert found[0, 0] == pytest.approx(-w[1] * A * (first or w[0])) and found[0, 0] == found[0, 1]
    assert found[1, 0] == pytest.approx(w[0] * A * (second or w[1]))


@pytest.mark.parametrize(
    "log_w, A, wanted", [((0.05, -0.05), 2.0, 0.1), ((0.5, 0.1), 2.0, 0.2), ((0.5, 0.1), -2.0, 0.4)]
)
def test_joint_clip_by_hand(log_w, A, wanted):
    """d = log(w_1 / w_2) within 0.2 of 0, unless that would hide what went wrong; both responses say the same."""
    found = loss(True, torch.tensor(log_w), A)
    assert found.flatten().tolist() == pytest.approx([-math.exp(sum(log_w)) * A * wanted / 2] * 4)


def test_a_weight_is_a_tenth_at_least_and_ten_at_most():
    """log_w = (3, 4): each response times exp(2.3) instead of exp(4) and exp(3); jointly times 10 instead of exp(7)."""
    found = loss(False, torch.tensor([3.0, 4.0]), 2.0)
    assert found[:, 0].tolist() == pytest.approx([-10 * 2 * 1.2, 10 * 2 * math.exp(4)])
    assert loss(True, torch.tensor([3.0, 4.0]), 2.0)[0, 0] == pytest.approx(-10 * 2 * -1 / 2)
    assert loss(True, torch.tensor([-3.0, -4.0]), 2.0)[0, 0] == pytest.approx(-0.1 * 2 * 0.2 / 2)


@pytest.mark.parametrize("joint", [False, True])
def test_inside_the_range_it_is_the_pairwise_policy_gradient(joint):
    """-w_1 w_2 (R_1 - R_2) / 2 for the first response and its opposite for the second, averaged over both rows."""
    log_w = torch.tensor([0.03, -0.02], requires_grad=True)
    (slope,) = torch.autograd.grad(loss(joint, log_w, 3.0)[:, 0].mean(), log_w)
    wanted = math.exp(0.01) * 3.0 / 2
    assert slope.tolist() == pytest.approx([-wanted, wanted], rel=1e-6)


@dataclass(frozen=True)
class Shifted:
    """The task's score and, for every prompt, a number of its own."""

    by: float

    def __call__(self, rows, sampler):
        of = torch.tensor([self.by * (1 + 3 * (sum(prompt) % 5)) for prompt in rows.prompts])
        score = torch.tensor(Letters().score(rows.problems, [sampler.net.decode(t.tolist()) for t in rows.tokens]))
        return rows.put(score=(score * 6).round() / 8 + of)


def scored(by):
    return Patch(fill={"credit.score": Shifted(by)}, name="scored", domain="preference")


@pytest.mark.parametrize("joint", [False, True])
def test_a_reward_shifted_prompt_by_prompt_changes_no_bit(joint):
    """Eighths, and whole numbers added to them, which float32 holds exactly; two passes, so that ratios are not 1."""
    recipe = rlhf(prompts=4, beta=0.0, lr=1e-2) + p3o(joint)
    runs = []
    for by in (0.0, 1024.0):
        with gradients() as seen:
            launch(recipe + scored(by), samples=16)
        runs.append(seen)
    assert len(runs[0]) == len(runs[1]) == 4
    for plain, shifted in zip(*runs, strict=True):
        assert all(torch.equal(plain[name], shifted[name]) for name in plain)
    assert max(float(g.abs().max()) for g in runs[0][0].values()) > 1e-3


def test_ppos_gradient_does_change():
    """What the test above would miss: the same shift with the base alone."""
    runs = []
    for by in (0.0, 8.0):
        with gradients() as seen:
            launch(rlhf(prompts=8, beta=0.0) + scored(by), samples=8)
        runs.append(seen[0])
    assert max(float((runs[0][name] - runs[1][name]).abs().max()) for name in runs[0]) > 1e-3


@pytest.mark.parametrize("joint", [False, True])
def test_its_first_step_is_that_of_two_samples_each_the_others_baseline(joint):
    """rloo averages over rows and divides by the longest response; joint or separate, the ratio is 1."""
    net, task = policy(), Letters()
    batch = sampled(net, task, groups=4, n=2)
    with gradients() as ours:
        launch(
            rlhf(prompts=4, beta=0.0, epochs=1, lr=0)
            + p3o(joint)
            + Patch(fill={"credit.score": Kept()}, name="kept", domain="preference")
            + given(batch),
            task,
            net,
            samples=8,
        )
    with gradients() as theirs:
        launch(rloo(prompts=4, group=2, lr=0) + given(batch), task, net, samples=8)
    for name, g in theirs[0].items():
        torch.testing.assert_close(ours[0][name], g * LIMIT, rtol=1e-4, atol=1e-6)


@dataclass(frozen=True)
class Kept:
    """The scores that the rows have."""

    def __call__(self, rows, sampler):
        return rows


@pytest.mark.parametrize("joint", [False, True])
def test_ratios_so_large_that_they_overflow_are_numbers(joint):
    net = policy()
    batch = sampled(net, groups=2, n=2)
    kept = Patch(fill={"credit.score": Kept()}, name="kept", domain="preference")
    recipe = rlhf(prompts=2, beta=0.0, epochs=2, lr=0) + p3o(joint) + kept
    grads, value = second_step(recipe, batch.put(old=batch.old - 1000.0 * batch.own), net)
    assert math.isfinite(value) and all(g.isfinite().all() for g in grads.values())


def test_clashes():
    with pytest.raises(Clash, match="you chose it for rlhf"):
        rlhf(group=4) + p3o()
    with pytest.raises(Clash, match="you chose it for rlhf"):
        rlhf(unit="rollout") + p3o()
    assert (rlhf(clip=0.1) + p3o(joint=True)).parts["learn.clip"].low == 0.1

"""Mistakes with losses and statistics that the field keeps making; the numbers are those of its list."""

import math
from dataclasses import dataclass
from unittest import mock

import pytest
import torch

from frugal.core.errors import RunFailed
from frugal.core.recipe import Patch
from frugal.language import capo, cispo, dapo, dr_grpo, grpo, gspo, lp_reg, ppo, reinforce, rloo
from frugal.language.gradient import split
from frugal.maths import k1, k2, k3
from tests.language.tinyrun import (
    Constant,
    Dialogue,
    Letters,
    assert_gradient,
    each_by_hand,
    exact,
    given,
    gradients,
    launch,
    policy,
    reference_is,
    sampled,
    second_step,
    spy,
    weights,
)

SMALL = {"prompts": 2, "group": 4, "lr": 1e-2}


def entropy(logits, token, hidden):
    """A column: the entropy of the distribution that a token was sampled from."""
    return -(logits.log_softmax(-1).exp() * logits.log_softmax(-1)).sum(-1)


def far(rows, by):
    """The same rows, sampled by a policy that is `by` away in log-probability, now above and now below."""
    sign = torch.ones_like(rows.old)
    sign[:, ::2] = -1
    return rows.put(old=(rows.old - by * sign * torch.linspace(0.2, 1, len(rows))[:, None]) * rows.own)


# -- 1: micro-batches -----------------------------------------------------------------------------------------

BASES = {
    "grpo": lambda: grpo(beta=0.2, **SMALL),
    "dr-grpo": lambda: dr_grpo(**SMALL),
    "dapo": lambda: dapo(**SMALL),
    "gspo": lambda: gspo(**SMALL),
    "gspo by turn": lambda: gspo(unit="turn", **SMALL),
    "cispo": lambda: cispo(**SMALL),
    "rloo": lambda: rloo(beta=0.1, **SMALL),
    "ppo": lambda: ppo(prompts=8, lr=1e-2),
    "a quantile": lambda: grpo(mean="token", **SMALL) + lp_reg(rho=0.3, kappa=0.5),
    "a column with a gradient": lambda: grpo(**SMALL) + Patch(add={"learn.terms": Entropy()}, name="entropy"),
    "a mask": lambda: dapo(**SMALL) + capo(policy=1.0, objective=10.0),
}


@dataclass(frozen=True)
class Entropy:
    """A term with a gradient of its own, and a denominator over the minibatch."""

    needs = {"now.entropy": entropy}

    def __call__(self, now, mini):
        return -now["entropy"] / now["entropy"].detach().mean()


@pytest.mark.parametrize("name", BASES)
def test_pitfall_01_micro_batches_change_neither_loss_nor_gradient(name):
    found = []
    for micro_tokens in (4096, 320, 40, 1):
        net, pieces = policy(), []
        cut = mock.Mock(side_effect=lambda *a, p=pieces: p.append(split(*a)) or p[-1])
        with gradients() as seen, mock.patch("frugal.language.gradient.split", cut):
            run = launch(BASES[name](), Dialogue(), net, samples=8, micro_tokens=micro_tokens)
        lengths = {len(p) for p in pieces}
        found.append((seen, [line["loss"] for line in run.curve if "loss" in line], max(lengths)))
    whole, *others = found
    assert whole[2] == 1 and others[-1][2] == 8 and any(1 < pieces < 8 for *_, pieces in others)
    assert len(whole[1]) >= 1 and any(g.any() for g in whole[0][0].values())
    for seen, losses, _ in others:
        assert losses[0] == pytest.approx(whole[1][0], rel=1e-5, abs=1e-7)
        largest = max(float(g.abs().max()) for g in whole[0][0].values())
        for key, g in whole[0][0].items():  # float32 sums in another order
            torch.testing.assert_close(seen[0][key], g, rtol=1e-4, atol=1e-5 * largest)


# -- 2: numerator and denominator -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Some:
    """A mask that leaves rows of different shares, and of the first row nothing."""

    def __call__(self, *_):
        rows = _[-1]
        keep = (torch.arange(rows.own.shape[1]) + torch.arange(len(rows))[:, None]) % 3 > 0
        keep[0] = False
        return keep


@pytest.mark.parametrize("mean", ["token", "rollout", "constant"])
@pytest.mark.parametrize("place", ["update.mask", "update.select"])
def test_pitfall_02_what_is_masked_leaves_the_denominator_too(place, mean):
    net, seen = policy(), []
    rows = sampled(net, Dialogue())
    model, left = exact(net), Some()(rows) & rows.own
    recipe = grpo(mean=mean, **SMALL) + given(rows) + spy(seen) + Patch(add={place: Some()}, name="some")
    with gradients() as grads:
        launch(recipe, Dialogue(), net)
    A = torch.zeros(len(rows), dtype=torch.float64)
    for g in (0, 1):
        score = rows.score[rows.group == g].double()
        A[rows.group == g] = (score - score.mean()) / (score.std() + 1e-4)
    sums = [
        (-a * x[left[b][rows.own[b]]]).sum() for b, (a, x) in enumerate(zip(A, each_by_hand(model, rows), strict=True))
    ]
    counts = left.sum(1)
    assert counts[0] == 0 and len(set(counts.tolist())) > 2
    total = {
        "token": sum(sums) / counts.sum(),
        "rollout": sum(s / n for s, n in zip(sums, counts, strict=True) if n) / 7,  # of 8 rows one is masked whole
        "constant": sum(sums) / (7 * Dialogue.max_tokens),
    }
    assert_gradient(grads[0], total[mean], model)


# -- 6: spread ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [grpo, dr_grpo, dapo, gspo, cispo, rloo])
@pytest.mark.parametrize("value", [0.1, 1e6])
@pytest.mark.parametrize("group", [1, 3, 7])
def test_pitfall_06_one_reward_or_equal_ones_teach_exactly_nothing(base, value, group):
    """Not even rounding: Adam would blow 1e-8 up to a full step."""
    net = policy()
    options = {"overlong": 0} if base is dapo else {}
    launch(base(prompts=2, group=group, lr=1e-2, max_tokens=2, **options), Constant(value), net, samples=group * 2)
    assert torch.equal(weights(net), weights(policy()))


@pytest.mark.parametrize(
    "recipe,wanted",
    [  # scores 0, 1, 1: mean 2/3, unbiased deviation sqrt(1/3); the fourth row does not count
        (grpo(prompts=1), [-2 / 3 / (3**-0.5 + 1e-4), 1 / 3 / (3**-0.5 + 1e-4), 1 / 3 / (3**-0.5 + 1e-4)]),
        (dr_grpo(prompts=1), [-2 / 3, 1 / 3, 1 / 3]),
        (rloo(prompts=1), [-1.0, 0.5, 0.5]),
    ],
    ids=["grpo", "dr-grpo", "rloo"],
)
def test_pitfall_06_advantages_by_hand_with_a_row_that_does_not_count(recipe, wanted):
    net, seen = policy(), []
    rows = sampled(net, groups=1).put(score=torch.tensor([0.0, 1.0, 1.0, 7.0]))
    rows = rows.put(counts=torch.tensor([True, True, True, False]))
    launch(recipe + given(rows) + spy(seen), net=net, samples=4)
    torch.testing.assert_close(seen[0][1].A[:3, 0], torch.tensor(wanted), rtol=1e-6, atol=0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, None])
def test_pitfall_06_a_missing_reward_is_an_error_and_never_a_number(wrong):
    with pytest.raises(RunFailed, match="no finite number"):
        launch(grpo(**SMALL), Constant(wrong))


# -- 7: estimators of the divergence --------------------------------------------------------------------------

N = 1000  # samples on a grid: each token's share is within 1 / N of its probability


@dataclass(frozen=True)
class Penalty:
    """A divergence as a term of the loss."""

    estimator: object

    needs = {"ref.logp": "logp"}

    def __call__(self, now, mini):
        return self.estimator(now.logp, mini.columns["ref.logp"])


def term(estimator):
    return grpo(prompts=1, group=N) + Patch(add={"learn.terms": Penalty(estimator)}, name="penalty")


def divergences(net, reference):
    """(model, KL(pi, ref), KL(ref, pi)) of the first response token, by summing over the vocabulary."""
    model, prompt = exact(net), net.encode(Letters().problems("train")[PROBLEM].prompt)
    log_p = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    log_q = exact(reference)(torch.tensor([prompt])).logits[0, -1].log_softmax(-1).detach()
    return model, (log_p.exp() * (log_p - log_q)).sum(), (log_q.exp() * (log_q - log_p)).sum()


PROBLEM = 3


class OneToken(Constant):
    max_tokens = 1

    def problems(self, split):
        return [super().problems(split)[PROBLEM]]


def penalised(recipe):
    net, reference = policy(), policy(5)
    grid = (torch.arange(N)[:, None] + 0.5) / N
    sampling = mock.patch("frugal.language.rollout.torch.rand", lambda *size, generator: grid[: size[0]])
    with gradients() as seen, reference_is(reference), sampling:
        run = launch(recipe, OneToken(), net, samples=N)
    return seen[0], run.curve[1]["loss"], divergences(policy(), reference)


@pytest.mark.parametrize(
    "recipe,value,gradient",
    [
        (term(k1), "KL(pi, ref)", "none"),
        (term(k2), "neither", "KL(pi, ref)"),
        (term(k3), "KL(pi, ref)", "KL(ref, pi)"),
        (grpo(beta=1.0, prompts=1, group=N), "KL(pi, ref)", "KL(ref, pi)"),
        (reinforce(beta=1.0, prompts=1, group=N), None, "KL(pi, ref)"),
    ],
    ids=["k1 in the loss", "k2 in the loss", "k3 in the loss", "grpo's beta", "reinforce's beta"],
)
def test_pitfall_07_value_and_gradient_of_each_penalty(recipe, value, gradient):
    """The grid is off by at most 8 / N = 0.8% of a ratio; the two divergences' gradients differ by a third."""
    seen, loss, (model, forward, backward) = penalised(recipe)
    if value is not None:  # reinforce has it in the reward, so its loss is another number
        assert (loss == pytest.approx(forward.item(), rel=0.01)) == (value == "KL(pi, ref)")
    for name, divergence in (("KL(pi, ref)", forward), ("KL(ref, pi)", backward)):
        if name == gradient:
            assert_gradient(seen, divergence, model, rtol=0.01)
        else:
            with pytest.raises(AssertionError):
                assert_gradient(seen, divergence, model, rtol=0.1)
    if gradient == "none":
        assert max(float(g.abs().max()) for g in seen.values()) < 0.01


# -- 18: ratios of whole responses ----------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.05, 10.0])
def test_pitfall_18_one_ratio_and_one_clip_a_response_and_a_gradient_for_each_token(clip):
    """s = exp(mean over the policy's own tokens of log pi - log pi_old); unequal lengths, environment in between."""
    net, seen = policy(), []
    rows = sampled(net, Dialogue())
    rows = rows.put(old=rows.old + rows.own * torch.linspace(-0.3, 0.3, len(rows))[:, None])
    model, terms, outside = exact(net), [], 0
    recipe = gspo(low=min(clip, 0.99), high=clip, prompts=2, group=4, epochs=2, lr=0) + spy(seen)
    grad, loss = second_step(recipe, rows, net, Dialogue())
    for b, x in enumerate(each_by_hand(model, rows)):
        s = (x - rows.old[b][rows.own[b]].double()).mean().exp()
        a = float(seen[1][1].A[b, 0])
        outside += not 1 - min(clip, 0.99) <= s.item() <= 1 + clip
        terms.append(-torch.min(s * a, s.clamp(1 - min(clip, 0.99), 1 + clip) * a))
    assert (outside > 2) == (clip < 1)
    assert loss == pytest.approx(sum(terms).item() / len(rows), rel=1e-5, abs=1e-6)
    assert_gradient(grad, sum(terms) / len(rows), model)


# -- 19: overflow ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({"grpo", "dr-grpo", "dapo", "gspo", "cispo", "gspo by turn"} & set(BASES)))
@pytest.mark.parametrize("by", [100.0, 1e4])
def test_pitfall_19_ratios_beyond_floating_point_stay_finite(name, by):
    net = policy()
    recipe = BASES[name]() + Patch(set={"epochs": 2}, name="twice")
    rows = far(sampled(net, Dialogue()), by)
    launch(recipe + given(rows), Dialogue(), net)
    assert torch.isfinite(weights(net)).all() and not torch.equal(weights(net), weights(policy()))


@pytest.mark.parametrize("place", ["update.mask", "update.select"])
def test_pitfall_19_a_masked_overflow_is_not_a_number_times_zero(place):
    """The policy says -1000 where the reference says -1: exp of the difference is infinite, but it is masked."""
    net, reference = policy(), policy()
    with torch.no_grad():
        net.head.weight *= 300

    @dataclass(frozen=True)
    class Near:
        def __call__(self, x, rows):
            return rows.columns["ref.logp"] - rows.old < 20

    rows = sampled(reference, Dialogue())
    seen = []
    recipe = grpo(beta=0.1, prompts=2, group=4) + given(rows) + spy(seen)
    with reference_is(reference), gradients() as grads:
        launch(recipe + Patch(add={place: Near()}, name="near"), Dialogue(), net)
    distance = (seen[0][1].columns["ref.logp"] - seen[0][0].logp)[rows.own]
    assert distance.max() > 100 and all(torch.isfinite(g).all() for g in grads[0].values())


# -- 20: Dr. GRPO ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [6, 60])
@pytest.mark.parametrize("wider", [0, 5])
def test_pitfall_20_the_divisor_is_the_limit_and_not_the_padded_length(limit, wider):
    net, seen = policy(), []
    rows = sampled(net, groups=1)
    long = sampled(net, Dialogue(), groups=1).take(torch.arange(1)).put(limit=1, score=torch.zeros(1))
    rows = rows.put(score=torch.tensor([0.0, 1.0, 0.0, 1.0]), limit=limit)
    if wider:  # another row makes the batch wider; it has no share in the loss
        rows = rows + long.put(trains=torch.zeros(1).bool(), counts=torch.zeros(1).bool())
    model = exact(net)
    with gradients() as grads:
        launch(dr_grpo(prompts=1, group=4) + given(rows) + spy(seen), net=net, samples=4)
    sums = [x.sum() for x in each_by_hand(model, rows)][:4]
    assert_gradient(grads[0], -(sums[1] + sums[3] - sums[0] - sums[2]) / 2 / (4 * limit), model)

"""Our losses, gradients and advantages against those of TRL 1.16 on the same tensors, through the public loop."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

pytest.importorskip("trl", reason="needs TRL")

from frugal.language import cispo, dapo, dr_grpo, grpo, gspo
from tests.language.tinyrun import Dialogue, Letters, given, launch, policy, reference_is, sampled, second_step, spy
from tests.language.trl_reference import trl_advantages, trl_logp, trl_loss

STILL = {"epochs": 2, "lr": 0}  # the second step is at the same weights, and against the rows' own old ones
TEMPERATURE = 0.7

# name -> (our recipe, TRL's options); every clip has ratios on both sides of it
LOSSES = {
    "grpo": (lambda **s: grpo(clip=0.25, **s), {"loss_type": "grpo", "clip_low": 0.25, "clip_high": 0.25}),
    # TRL by default multiplies the penalty by the ratio, which is not in GRPO's equation 4
    "grpo with a penalty": (
        lambda **s: grpo(beta=0.3, **s),
        {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": False},
    ),
    "dr-grpo": (lambda **s: dr_grpo(clip=0.25, **s), {"loss_type": "dr_grpo", "clip_low": 0.25, "clip_high": 0.25}),
    "dapo": (lambda **s: dapo(overlong=0, **s), {"loss_type": "dapo", "clip_high": 0.28}),
    "gspo": (
        lambda **s: gspo(low=0.1, high=0.12, **s),
        {"loss_type": "grpo", "level": "sequence", "clip_low": 0.1, "clip_high": 0.12},
    ),
    # what TRL calls epsilon_high is for CISPO the largest weight itself, ours its distance from 1
    "cispo": (lambda **s: cispo(high=0.3, **s), {"loss_type": "cispo", "clip_high": 1.3}),
}


def batch(net, task, groups, n, seed=0):
    """Sampled rows with scores of our choice, as if they came from a policy some way off."""
    net.temperature = TEMPERATURE
    rows = sampled(net, task, groups, n)
    noise = torch.randn(rows.old.shape, generator=torch.Generator().manual_seed(seed))
    score = torch.linspace(0, 1, len(rows))[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    by_row = 0.3 * score.sub(0.5).sign()[:, None] * (torch.arange(len(rows)) % 3 - 1)[:, None]  # for means over rows
    return rows.put(old=rows.old + (0.4 * noise + by_row) * rows.own, score=score)


def as_trl(rows):
    """(prompts and mask, padded left; completions and mask, padded right)."""
    prompts = [torch.tensor(p).flip(0) for p in rows.prompts]
    left, mask = (pad_sequence(x, batch_first=True).flip(1) for x in (prompts, [torch.ones_like(p) for p in prompts]))
    return left, mask, rows.tokens, rows.valid


def theirs(net, rows, reference=None, **options):
    """(loss, {name: gradient}, advantages) by TRL, from the same scores."""
    groups = len(rows.group.unique())
    A = trl_advantages(rows.score, len(rows) // groups, "none" if options["loss_type"] == "dr_grpo" else "group")
    if reference is not None:
        options["ref_logp"] = trl_logp(reference.model, *as_trl(rows), temperature=TEMPERATURE)
    loss = trl_loss(
        net.model,
        *as_trl(rows),
        A,
        max_completion_length=rows.limit,
        old_logp=rows.old,
        temperature=TEMPERATURE,
        tool_mask=rows.own,
        **options,
    )
    names = dict(net.model.named_parameters())
    return loss.item(), dict(zip(names, torch.autograd.grad(loss, list(names.values())), strict=True)), A


@pytest.mark.parametrize("shape", [(2, 4), (3, 5)], ids=str)
@pytest.mark.parametrize("task", [Letters(), Dialogue()], ids=["one turn", "three turns"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_and_advantages_are_trls(name, task, shape):
    make, options = LOSSES[name]
    net, seen = policy(), []
    reference = policy(5) if "beta" in options else None
    rows = batch(net, task, *shape)
    loss, grads, A = theirs(net, rows, reference, **options)
    recipe = make(prompts=shape[0], group=shape[1], temperature=TEMPERATURE, **STILL) + spy(seen)
    with reference_is(reference):
        ours, our_loss = second_step(recipe, rows, net, task)
    now, mini = seen[1]
    torch.testing.assert_close(mini.A[:, 0], A, rtol=1e-5, atol=1e-6)
    check_that_it_is_hard(name, now.logp.detach() - rows.old, rows, A, options)
    assert our_loss == pytest.approx(loss, rel=1e-5, abs=1e-6)
    largest = max(float(g.abs().max()) for g in grads.values())
    assert largest > 1e-3 and ours.keys() == grads.keys()
    for key, g in grads.items():  # both are float32 sums, in other orders
        torch.testing.assert_close(ours[key], g, rtol=1e-5, atol=1e-5 * largest, msg=lambda m, key=key: f"{key}: {m}")


def check_that_it_is_hard(name, log_ratio, rows, A, options):
    """Unequal lengths, ratios inside, and outside where the clip cuts: above for A > 0 and below for A < 0."""
    if name == "gspo":
        ratio = ((log_ratio * rows.own).sum(1) / rows.own.sum(1)).exp()
    else:
        ratio, A = log_ratio[rows.own].exp(), A[:, None].expand_as(rows.old)[rows.own]
    low, high = 1 - options.get("clip_low", 0.2), 1 + options.get("clip_high", 0.2)
    high = options["clip_high"] if name == "cispo" else high
    assert len(set(rows.length.tolist())) > 2
    inside = (ratio > low) & (ratio < high)
    assert ((ratio > high) & (A > 0)).any() and ((ratio < low) & (A < 0)).any() and inside.any()


def test_the_first_step_is_trls_without_old_log_probabilities():
    net, losses = policy(), []
    rows = batch(net, Letters(), 2, 4)
    fresh = rows.put(old=rows.old * 0 - 5 * rows.own)  # ours ignores them at the first step, TRL is not given any
    loss = trl_loss(
        net.model,
        *as_trl(fresh),
        trl_advantages(rows.score, 4),
        loss_type="dapo",
        max_completion_length=6,
        temperature=TEMPERATURE,
    )
    run = launch(dapo(overlong=0, prompts=2, group=4, temperature=TEMPERATURE, lr=0) + given(fresh), net=net)
    losses = [line["loss"] for line in run.curve if line["kind"] == "train"]
    assert losses == [pytest.approx(loss.item(), rel=1e-5, abs=1e-6)]


@pytest.mark.parametrize("name", ["grpo", "dr-grpo", "dapo"])
def test_a_row_that_is_masked_whole_leaves_our_denominator_and_not_trls(name):
    """TRL keeps counting it in its mean over rows: with 1 of 8 masked, its loss is 7/8 of ours; DAPO's is the same."""
    make, options = LOSSES[name]
    net = policy()
    rows = batch(net, Letters(), 2, 4)
    rows = rows.put(trains=torch.arange(8) != 3)
    recipe = make(prompts=2, group=4, temperature=TEMPERATURE, **STILL)
    ours, our_loss = second_step(recipe, rows, net)
    loss, grads, _ = theirs(net, rows.put(own=rows.own & rows.trains[:, None]), **options)
    share = 1 if name == "dapo" else 7 / 8
    assert loss == pytest.approx(share * our_loss, rel=1e-5, abs=1e-6)
    largest = max(float(g.abs().max()) for g in grads.values())
    for key, g in grads.items():
        torch.testing.assert_close(share * ours[key], g, rtol=1e-5, atol=1e-5 * largest)

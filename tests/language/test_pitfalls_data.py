"""Mistakes with tokens, masks and sampling that the field keeps making; the numbers are those of its list."""

import math
from dataclasses import dataclass
from unittest import mock

import pytest
import torch

import frugal
from frugal.core.errors import BadTask, UnknownName
from frugal.core.recipe import Patch
from frugal.language import capo, dapo, dr_grpo, ead, grpo, ppo
from frugal.language.policy import Policy
from frugal.language.rollout import rows_of_text
from frugal.language.rows import Ask
from frugal.language.tasks.task import Problem
from frugal.language.tiny import character_tokenizer
from tests.language.tinyrun import (
    EOS,
    PAD,
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
    saved,
    spy,
    tiny_model,
    weights,
)

# log-probabilities by two routes through a float32 model agree to a few units in the last place of logits near 5
ROUNDING = 1e-5

SMALL = {"prompts": 2, "group": 4, "lr": 1e-2}


# -- 3: the end-of-sequence token -----------------------------------------------------------------------------


@pytest.mark.parametrize("pad_token", ["<pad>", "<eos>"])
def test_pitfall_03_the_end_token_is_sampled_trained_and_never_taken_for_padding(pad_token):
    net = policy()
    net.tokenizer.pad_token, seen = pad_token, []
    launch(grpo(**SMALL) + spy(seen), net=net)
    now, mini = seen[0]
    last = mini.length - 1
    ended = mini.tokens.gather(1, last[:, None])[:, 0] == EOS
    assert 0 < ended.sum() < len(mini) and torch.equal(ended, mini.done)
    assert mini.use.gather(1, last[:, None]).all() and now.logp.gather(1, last[:, None]).all()
    assert torch.equal(mini.use.sum(1), mini.length)
    assert (mini.tokens[mini.use] == PAD).any(), "a token with the padding id is an ordinary one where it was sampled"


def test_pitfall_03_a_response_that_is_only_the_end_token_has_a_gradient():
    net = policy()
    rows = sampled(net, groups=1, n=2)
    rows = rows.put(tokens=torch.tensor([[EOS], [2]]), own=torch.ones(2, 1).bool(), length=torch.tensor([1, 1]))
    one = torch.zeros(2, 1)
    rows = rows.put(old=one, behaviour=one, turn=one.long(), score=torch.tensor([1.0, 0.0]), done=one[:, 0] == 0)
    model = exact(net)
    end, letter = each_by_hand(model, rows)
    A = 0.5 / (math.sqrt(0.5) + 1e-4)
    with gradients() as seen:
        launch(grpo(prompts=1, group=2) + given(rows), net=net, samples=2)
    assert_gradient(seen[0], -A * (end.sum() - letter.sum()) / 2, model)


def test_pitfall_03_a_demonstration_ends_with_the_tokenizers_own_end_token():
    """A chat model names several ends; the one that its template writes is the tokenizer's, not the smallest id."""
    model = tiny_model()
    model.generation_config.eos_token_id = [PAD, EOS]
    net = Policy(model, character_tokenizer("abcdef"))
    assert set(net.ends.tolist()) == {PAD, EOS}
    rows = rows_of_text([Ask(Problem("a"), (2,), 0)], ["ab"], net, 6)
    assert rows.tokens.tolist() == [[2, 3, EOS]] and rows.own.all()


# -- 4: padding and truncation side ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_pitfall_04_padding_changes_no_log_probability(temperature):
    net = policy()
    net.temperature = temperature
    rows = sampled(net, groups=4)
    assert len({len(p) for p in rows.prompts}) == 4 and len(set(rows.length.tolist())) > 2
    together = net.columns(rows, {}).logp
    by_row = each_by_hand(exact(net), rows, temperature)
    for b, wanted in enumerate(by_row):
        torch.testing.assert_close(together[b][rows.own[b]].double(), wanted, atol=ROUNDING, rtol=0)
        torch.testing.assert_close(rows.old[b][rows.own[b]].double(), wanted, atol=ROUNDING, rtol=0)
    assert not together[~rows.own].any() and not rows.old[~rows.own].any()


def test_pitfall_04_the_tokenizers_sides_do_not_matter():
    after = []
    for side in ("left", "right"):
        net = policy()
        net.tokenizer.padding_side = net.tokenizer.truncation_side = side
        launch(grpo(**SMALL), net=net, samples=16)
        after.append(weights(net))
    assert torch.equal(*after) and not torch.equal(after[0], weights(policy()))


def test_pitfall_04_a_prompt_that_is_too_long_is_refused_and_not_cut(tmp_path):
    model = saved(tmp_path, max_position_embeddings=9)
    with pytest.raises(BadTask, match="the model's context holds 9"):
        frugal.run(grpo(**SMALL), Letters(), samples=8, model=model, dtype="float32")  # prompts of 4 and 6 tokens


# -- 5: truncated and masked responses ------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """Learn only from responses that ended by themselves."""

    def __call__(self, A, rows):
        return rows.done[:, None].expand_as(rows.own)


@dataclass(frozen=True)
class Nothing:
    def __call__(self, now, mini):
        return torch.zeros_like(mini.use)


class Endless(Letters):
    """Responses of two letters, which this model does not end in time."""

    max_tokens = 2


@pytest.mark.parametrize("base", [grpo, dr_grpo, dapo])
@pytest.mark.parametrize("patch", [{"update.select": Finished()}, {"update.mask": Nothing()}], ids=["select", "mask"])
def test_pitfall_05_a_round_without_anything_to_learn_from_changes_nothing(base, patch):
    net = policy(7)
    before, options = weights(net), {"overlong": 0} if base is dapo else {}
    net.ends = torch.tensor([-1])  # no token ends a response: all are cut
    run = launch(base(**SMALL, **options) + Patch(add=patch, name="p"), Endless(), net, samples=16)
    lines = [line for line in run.curve if line["kind"] == "train"]
    assert lines and all(line["truncated"] == 1.0 for line in lines)
    assert torch.equal(weights(net), before)
    for line in lines:
        assert all(math.isfinite(v) for v in line.values() if isinstance(v, float))
        assert line.get("loss", 0.0) == line.get("grad_norm", 0.0) == 0.0


def test_pitfall_05_overlong_penalty_by_hand():
    """Limit 6, buffer half of it: 4 tokens that ended cost 1/3, 6 that ended cost 1, and any cut response costs 1."""
    net, seen = policy(), []
    rows = sampled(net, groups=1, n=4)
    length = torch.tensor([2, 4, 6, 6])
    own = torch.arange(6) < length[:, None]
    wide = torch.full((4, 6), 3)
    rows = rows.put(tokens=wide * own, own=own, length=length, turn=wide * 0, old=wide * 0.0, behaviour=wide * 0.0)
    rows = rows.put(stale=own & False, done=torch.tensor([True, True, True, False]), score=torch.tensor([0.0, 0, 0, 1]))
    launch(dapo(overlong=0.5, prompts=1, group=4) + given(rows) + spy(seen), net=net, samples=4)
    reward = torch.tensor([0, -1 / 3, -1, 1 - 1], dtype=torch.float64)
    A = (reward - reward.mean()) / (reward.std() + 1e-4)
    torch.testing.assert_close(seen[0][1].A[:, 0].double(), A, atol=1e-6, rtol=0)


def test_pitfall_05_an_episode_that_the_environment_overfills_counts_as_cut():
    class Talkative(Dialogue):
        def reply(self, problem, turns):
            return "abcabcabcabc"

    rows = sampled(policy(), Talkative(), groups=4)
    ended = rows.tokens.gather(1, rows.length[:, None] - 1)[:, 0] == EOS
    assert ended.any(), "some turns did end before the reply found no room"
    assert not rows.done.any(), "and none of the episodes did"


# -- 9: what is sampled from ----------------------------------------------------------------------------------


def test_pitfall_09_what_the_models_generation_config_says_has_no_influence():
    after = []
    for extra in ({}, {"top_k": 1, "top_p": 0.1, "min_p": 0.5, "repetition_penalty": 9.0, "temperature": 0.1}):
        net = policy()
        net.model.generation_config.update(**extra)
        launch(grpo(**SMALL), net=net)
        after.append(weights(net))
    assert torch.equal(*after)


@pytest.mark.parametrize("option", ["top_p", "top_k", "min_p", "repetition_penalty"])
def test_pitfall_09_truncated_sampling_is_refused(option):
    with pytest.raises(UnknownName, match=option):
        grpo(**{option: 0.9})


@pytest.mark.parametrize("patches", [(), (ead(hot=1.5, cold=0.5),)], ids=["plain", "hot"])
def test_pitfall_09_every_token_is_drawn_as_often_as_its_recorded_probability_says(patches):
    """With uniform numbers on a grid of n points, counts are within 1 of n times the probability."""
    n, seen, net = 1000, [], policy()
    net.temperature = 0.7
    grid = (torch.arange(n)[:, None] + 0.5) / n
    recipe = grpo(prompts=1, group=n, max_tokens=1, lr=1e-9, temperature=0.7) + spy(seen)
    for patch in patches:
        recipe = recipe + patch
    with mock.patch("frugal.language.rollout.torch.rand", lambda *size, generator: grid[: size[0]]):
        launch(recipe, net=net, samples=n)
    rows = seen[0][1]
    counts = torch.bincount(rows.tokens[:, 0], minlength=8)
    assert (counts > 0).all()
    for token, count in enumerate(counts.tolist()):
        chosen = rows.tokens[:, 0] == token
        assert abs(count - n * float(rows.behaviour[chosen][0, 0].exp())) <= 1
    assert torch.equal(rows.old, rows.behaviour) == (not patches)


# -- 11: what the environment says ----------------------------------------------------------------------------


def dialogue(net):
    rows = sampled(net, Dialogue(), groups=2)
    heard = rows.valid & ~rows.own
    assert heard.any() and rows.turn.max() == 2
    return rows, heard


def test_pitfall_11_the_environments_tokens_have_no_loss_no_penalty_and_no_advantage_step():
    """The gradient is that of the own tokens alone, and these are conditioned on what the environment said."""
    net, reference = policy(), policy(5)
    rows, heard = dialogue(net)
    model, seen = exact(net), []
    with gradients() as grads, reference_is(reference):
        launch(grpo(beta=0.3, prompts=2, group=4) + given(rows) + spy(seen), Dialogue(), net)
    mini = seen[0][1]
    assert not mini.use[heard].any() and not mini.old[heard].any() and not mini.columns["ref.logp"][heard].any()
    loss = 0.0
    for b, (x, ref) in enumerate(zip(each_by_hand(model, rows), each_by_hand(exact(reference), rows), strict=True)):
        d = ref.detach() - x
        loss = loss + (-(x - x.detach()).exp() * float(mini.A[b, 0]) + 0.3 * (d.exp() - d - 1)).mean() / len(rows)
    assert_gradient(grads[0], loss, model)


def test_pitfall_11_generalised_advantages_step_over_the_environment():
    """The critic's head starts at 0, so delta is the score at the last own token: A = lam^(own tokens to come)."""
    rows, _ = dialogue(policy())
    rows = rows.put(score=torch.arange(1.0, 1 + len(rows)))
    seen = []
    with mock.patch("frugal.maths.whiten", lambda A, where: A):
        launch(ppo(lam=0.5, prompts=2, epochs=1) + given(rows) + spy(seen), Dialogue(), policy())
    mini = seen[0][1]
    assert not mini.A[~rows.own].any()
    for b in range(len(rows)):
        n = int(rows.own[b].sum())
        wanted = float(rows.score[b]) * 0.5 ** torch.arange(n - 1, -1, -1.0)
        torch.testing.assert_close(mini.A[b][rows.own[b]], wanted)


# -- 12: masked values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [grpo, dapo, ppo], ids=["grpo", "dapo", "ppo"])
@pytest.mark.parametrize("patches", [(), (ead(), capo(policy=1.0, objective=10.0))], ids=["plain", "ead+capo"])
def test_pitfall_12_what_is_masked_has_no_influence(base, patches):
    """Garbage in every position that is not the policy's own: NaN in what it said, other tokens in the padding."""
    after = []
    clean, _ = dialogue(policy())
    garbage = torch.full_like(clean.old, torch.nan)
    dirty = clean.put(
        tokens=torch.where(clean.valid, clean.tokens, 5),
        old=torch.where(clean.own, clean.old, garbage),
        behaviour=torch.where(clean.own, clean.behaviour, garbage),
        turn=torch.where(clean.valid, clean.turn, 0),
    )
    for rows in (clean, dirty):
        recipe = base(prompts=2, lr=1e-2, epochs=2) + given(rows)
        for patch in patches:
            recipe = recipe + patch
        net = policy()
        run = launch(recipe, Dialogue(), net)
        after.append((weights(net), [line for line in run.curve if line["kind"] == "train"]))
    assert torch.equal(after[0][0], after[1][0]) and after[0][1] == after[1][1]
    assert not torch.equal(after[0][0], weights(policy()))

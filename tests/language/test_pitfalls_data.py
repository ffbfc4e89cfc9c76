"""Mistakes with rollouts, tokens, masks and models that the field keeps making; the numbers are those of its list."""

import copy
import math
from dataclasses import dataclass
from unittest import mock

import pytest
import torch

import frugal
from frugal.core.errors import BadTask, UnknownName
from frugal.core.recipe import Patch
from frugal.language import capo, dapo, dr_grpo, ead, grpo, ppo, sft
from frugal.language.gradient import split
from frugal.language.policy import Policy
from frugal.language.rollout import rows_of_text
from frugal.language.rows import Ask
from frugal.language.tasks.task import Problem
from frugal.language.tiny import character_tokenizer
from tests.language.tinyrun import (
    EOS,
    PAD,
    Constant,
    Dialogue,
    Letters,
    assert_gradient,
    by_hand,
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
    rows = rows.put(done=torch.tensor([True, True, True, False]), score=torch.tensor([0.0, 0.0, 0.0, 1.0]))
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


# -- 10: train and eval mode ----------------------------------------------------------------------------------


def test_pitfall_10_sampler_and_trainer_are_one_policy_in_spite_of_dropout():
    model, seen = tiny_model(attention_dropout=0.5), []
    model.train()
    net = Policy(model, character_tokenizer("abcdef"))
    launch(grpo(**SMALL, epochs=2) + spy(seen), Dialogue(), net, samples=16)
    assert not net.model.training and len(seen) == 4
    for first, second in (seen[:2], seen[2:]):
        now, mini = first
        torch.testing.assert_close(now.logp, mini.old, atol=ROUNDING, rtol=0)
        assert (second[0].logp - second[1].old).abs().max() > 1e-3, "after a step the ratio is no longer 1"


def test_pitfall_10_replayed_rows_keep_their_ratio_at_the_first_step():
    """Only what the present policy sampled has ratio 1; an older row comes with its own log-probabilities."""
    net = policy()
    older = sampled(policy(5), groups=2)
    older = older.put(A=torch.ones_like(older.old), selected=older.own, old=older.old - 0.1)

    @dataclass(frozen=True, eq=False)
    class Replay:
        def __call__(self, rows):
            return older

    model = exact(net)
    with torch.no_grad():
        now = net.columns(older, {}).logp
    new = sampled(net, Constant(), groups=2)  # scores are equal: these teach nothing
    recipe = grpo(clip=0.9, mean="token", prompts=2, group=4) + Patch(add={"update.replay": Replay()}, name="replay")
    with gradients() as seen:
        launch(recipe + given(new), Constant(), net)
    terms = [
        torch.minimum((x - o[: len(x)].double()).exp(), torch.tensor(1.9)).sum()
        for x, o in zip(each_by_hand(model, older), older.old, strict=True)
    ]
    assert (now - older.old)[older.own].abs().max() > 0.1
    assert_gradient(seen[0], -sum(terms) / (older.own.sum() + new.own.sum()), model)


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
@pytest.mark.parametrize("patches", [(), (ead(), capo())], ids=["plain", "ead+capo"])
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


# -- 13: the reference ----------------------------------------------------------------------------------------


def passed(adapter: bool):
    """A policy whose configuration names something else than its weights; with an adapter that is not at zero."""
    model = tiny_model()
    model.config._name_or_path = "somebody/else"
    if adapter:
        peft = pytest.importorskip("peft")
        torch.manual_seed(0)
        model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    return Policy(model, character_tokenizer("abcdef"))


@pytest.mark.parametrize("adapter", [False, True])
def test_pitfall_13_the_reference_is_the_model_that_was_passed_and_stays_it(adapter):
    net, seen = passed(adapter), []
    start = copy.deepcopy(net.model)
    launch(grpo(beta=0.1, **SMALL) + spy(seen), net=net, samples=24)
    assert len(seen) == 3 and not torch.equal(weights(net), torch.cat([p.flatten() for p in start.parameters()]))
    for _, mini in seen:
        for b, n in enumerate(mini.length.tolist()):
            wanted = by_hand(start, mini.prompts[b], mini.tokens[b, :n].tolist())
            torch.testing.assert_close(mini.columns["ref.logp"][b, :n], wanted.detach(), atol=ROUNDING, rtol=0)
    assert (seen[-1][1].old - seen[-1][1].columns["ref.logp"]).abs().max() > 0.01


# -- 16: what training moves ----------------------------------------------------------------------------------


def test_pitfall_16_every_weight_moves_and_reaches_the_saved_model(tmp_path):
    model = saved(tmp_path / "start")
    run = frugal.run(grpo(**SMALL), Letters(), samples=32, model=model, dtype="float32", out=tmp_path / "out")
    before, after = dict(policy().model.named_parameters()), dict(run.net.model.named_parameters())
    assert len(after) == 21 and before.keys() == after.keys()
    assert [name for name in after if torch.equal(before[name], after[name])] == []
    from transformers import AutoModelForCausalLM

    kept = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").named_parameters())
    assert all(torch.equal(kept[name], after[name]) for name in after)


def test_pitfall_16_an_adapter_moves_and_nothing_else(tmp_path):
    pytest.importorskip("peft")
    model = saved(tmp_path)
    run = frugal.run(grpo(beta=0.1, **SMALL), Letters(), samples=32, model=model, dtype="float32", lora=2)
    seen = {"adapter": 0, "frozen": 0}
    start = dict(policy().model.named_parameters())
    for name, p in run.net.model.named_parameters():
        if "lora_B" in name:  # which starts at zero
            assert p.any(), name
            seen["adapter"] += 1
        elif "lora_A" not in name:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(p, start[plain]), name
            seen["frozen"] += 1
    assert seen == {"adapter": 14, "frozen": 21}  # 7 linear layers in each of 2 blocks


def test_pitfall_16_steps_below_the_precision_of_bfloat16_add_up():
    """One step of 3e-4 vanishes beside a bfloat16 weight of 1/8 or more; fifty in one direction do not."""
    net = Policy(tiny_model().bfloat16(), character_tokenizer("abcdef"))
    before = net.head.weight.detach().clone()
    launch(sft(prompts=2, lr=3e-4), Demonstrated(), net, samples=100)
    large = before.abs() > 1 / 8
    assert (net.head.weight != before)[large].float().mean() > 0.5


class Demonstrated(Letters):
    def demonstrate(self, problem, random):
        return "aab"


# -- 17: token in, token out ----------------------------------------------------------------------------------


class Merges(Letters):
    """A tokenizer for which ab is one token, so that a sampled a, b would come back as another token."""

    @staticmethod
    def tokenizer():
        from tokenizers import Tokenizer, decoders, models
        from transformers import PreTrainedTokenizerFast

        ids = {t: i for i, t in enumerate(["<pad>", "<eos>", "a", "b", "c", "d", "ab", "cd"])}
        plain = Tokenizer(models.BPE(ids, [("a", "b"), ("c", "d")]))
        plain.decoder = decoders.Fuse()
        return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")


class MergesDialogue(Dialogue):
    def problems(self, split):
        return [Problem("abc"[: 1 + i % 3]) for i in range(12)]

    def reply(self, problem, turns):
        return "dcba" if len(turns) < 3 else None


def test_pitfall_17_the_sampled_ids_are_the_context_of_the_next_turn_and_are_trained():
    net = Policy(tiny_model(), Merges.tokenizer())
    rows = sampled(net, MergesDialogue(), groups=3, n=8)
    again = [
        net.tokenizer(net.decode(row[own].tolist()))["input_ids"]
        for row, own in zip(rows.tokens, rows.own, strict=True)
    ]
    own = [[t for t in row[own].tolist() if t > EOS] for row, own in zip(rows.tokens, rows.own, strict=True)]
    later = [(rows.own[b] & (rows.turn[b] > 0)).any() for b in range(len(rows))]
    changed = [x != y and bool(z) for x, y, z in zip(again, own, later, strict=True)]
    assert any(changed), "some text of several turns has other tokens when it is read again"
    for b, wanted in enumerate(each_by_hand(exact(net), rows)):
        torch.testing.assert_close(rows.old[b][rows.own[b]].double(), wanted, atol=ROUNDING, rtol=0)
    seen = []
    launch(grpo(prompts=3, group=8) + given(rows) + spy(seen), MergesDialogue(), net, samples=24)
    assert torch.equal(seen[0][1].tokens, rows.tokens)


def test_pitfall_17_an_environment_that_says_nothing_still_gives_a_turn():
    class Silent(Dialogue):
        def reply(self, problem, turns):
            return "" if len(turns) < 3 else None

    rows = sampled(policy(), Silent(), groups=4)
    assert rows.tokens.dtype == torch.int64 and rows.turn.max() == 2 and torch.equal(rows.own, rows.valid)


@pytest.mark.parametrize("end", ["<eos>", ""], ids=["written", "left to the sampler"])
def test_pitfall_17_a_chat_templates_reply_is_neither_lost_nor_doubled(end):
    net = policy()
    net.tokenizer.chat_template = (
        "{% for m in messages %}{{ 'e' if m.role == 'user' else 'f' }}{{ m.content }}"
        f"{{{{ '{end}' }}}}{{% endfor %}}{{% if add_generation_prompt %}}f{{% endif %}}"
    )
    letters = {c: i + 2 for i, c in enumerate("abcdef")}
    tail = [EOS] if end else []
    assert list(net.encode("ab")) == [letters["e"], 2, 3, *tail, letters["f"]]
    assert list(net.encode_reply("ab")) == [letters["e"], 2, 3, *tail, letters["f"]]


# -- 21: groups -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minibatches", [1, 2, 3, 4])
@pytest.mark.parametrize("micro_tokens", [1, 4096])
def test_pitfall_21_groups_stay_together_and_each_is_seen_once_an_epoch(minibatches, micro_tokens):
    seen = []
    recipe = grpo(prompts=4, group=4, epochs=2, minibatches=minibatches) + spy(seen)
    launch(recipe, samples=16, micro_tokens=micro_tokens)
    assert len(seen) == 2 * minibatches, "as many steps as were asked for"
    for epoch in (seen[:minibatches], seen[minibatches:]):
        groups = [int(g) for _, mini in epoch for g in mini.group.unique()]
        assert sorted(groups) == [0, 1, 2, 3]
    for _, mini in seen:
        assert all((mini.group == g).sum() == 4 for g in mini.group.unique())
        assert all(len({mini.prompts[b] for b in (mini.group == g).nonzero()}) == 1 for g in mini.group.unique())
    if micro_tokens == 1:
        assert all(len(split(mini, 1)) == len(mini) for _, mini in seen)


def test_pitfall_21_flat_and_rejected_groups_are_counted():
    """The first two problems of every three score alike; dynamic sampling rejects these groups and charges for them."""

    class Sometimes(Letters):
        def problems(self, split):
            return [Problem("abcdef"[i % 6], reference=i % 3) for i in range(12)]

        def score(self, problems, completions):
            return [float(p.reference == 2 and i % 2) for i, p in enumerate(problems)]

    kept, rejected = (launch(base(prompts=2, group=4), Sometimes(), samples=160) for base in (grpo, dapo))
    assert kept.ledger.samples == rejected.ledger.samples == 160  # 40 groups
    flat = sum(line["groups"] for line in kept.curve if line["kind"] == "train") - 40
    assert flat == 0 and 0 < kept.ledger.flat_groups < 40 and kept.ledger.rejected_groups == 0
    learnt = sum(line["groups"] for line in rejected.curve if line["kind"] == "train")
    assert rejected.ledger.rejected_groups == rejected.ledger.flat_groups == 40 - learnt > 0

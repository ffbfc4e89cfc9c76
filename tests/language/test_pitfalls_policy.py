"""Mistakes with models, weights, turns and groups that the field keeps making; the numbers are those of its list."""

import copy
from dataclasses import dataclass

import pytest
import torch

import frugal
from frugal.core.recipe import Patch
from frugal.language import dapo, grpo, sft
from frugal.language.gradient import split
from frugal.language.policy import Policy
from frugal.language.tasks.task import Problem
from frugal.language.tiny import character_tokenizer
from tests.language.tinyrun import (
    EOS,
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
    sampled,
    saved,
    spy,
    tiny_model,
    weights,
)

# log-probabilities by two routes through a float32 model agree to a few units in the last place of logits near 5
ROUNDING = 1e-5

SMALL = {"prompts": 2, "group": 4, "lr": 1e-2}


# -- 10: train and eval mode ----------------------------------------------------------------------------------


def test_pitfall_10_sampler_and_trainer_are_one_policy_in_spite_of_dropout():
    model, seen = tiny_model(attention_dropout=0.5), []
    model.train()
    net = Policy(model, character_tokenizer("abcdef"))
    looked = {"now_first": lambda logits, token, hidden: hidden[:, 0]}  # else what the sampler said is taken for known
    launch(grpo(**SMALL, epochs=2) + spy(seen, **looked), Dialogue(), net, samples=16)
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

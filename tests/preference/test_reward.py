"""Reward models: what they read, how they are saved and loaded, and rlhf against one."""

import math

import pytest
import torch

import frugal
from frugal.core.errors import BadModel, UnknownName
from frugal.core.run import Run
from frugal.language.tasks.task import Problem
from frugal.preference import loop, reward_model, rlhf
from frugal.preference.oracles import find_oracle
from frugal.preference.reward import Silent, from_policy, given, load_reward, read
from tests.language.tinyrun import policy, sampled
from tests.preference.tinyrun import Compared


def fitted(seed=4, **config):
    net = from_policy(policy(seed, **config))
    loop.train(reward_model(prompts=4, lr=3e-3), Compared(), net, Run(40), Silent(6))
    return net


@pytest.mark.parametrize("config", [{}, {"hidden_act": "gelu"}], ids=["llama body", "generic body"])
def test_the_reward_is_read_off_the_state_after_the_last_token(config):
    """By one plain, unpadded pass of each whole text, and independent of what is padded beside it."""
    net, rows = fitted(**config), sampled(policy())
    assert len(set(rows.length.tolist())) > 1
    found = net.values(rows)
    for b, prompt in enumerate(rows.prompts):
        ids = torch.tensor([[*prompt, *rows.tokens[b, : rows.length[b]].tolist()]])
        state = net.backbone(ids).last_hidden_state[0, -1]
        assert float(found[b]) == pytest.approx(net.head(state).item(), abs=1e-5)
    assert found.std() > 0.1
    torch.testing.assert_close(net.values(rows.take(torch.arange(3))), found[:3], atol=1e-6, rtol=0)


def test_a_saved_reward_model_is_one_of_transformers_and_says_the_same(tmp_path):
    from transformers import AutoModelForSequenceClassification

    net = fitted()
    net.model.save_pretrained(tmp_path), net.tokenizer.save_pretrained(tmp_path)
    problems, texts = [Problem("abc"), Problem("b")], ["aaaa", "fc"]
    before = read(net, problems, texts)
    again = read(load_reward(str(tmp_path)), problems, texts)
    torch.testing.assert_close(again, before, atol=1e-6, rtol=0)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    for i, (problem, text) in enumerate(zip(problems, texts, strict=True)):
        ids = [*net.encode(problem.prompt), *net.tokenizer(text)["input_ids"], net.end]
        assert plain(torch.tensor([ids])).logits.item() == pytest.approx(float(before[i]), abs=1e-5)
    (P,) = find_oracle(f"model:{tmp_path}")(problems[:1], texts[:1], texts[1:])
    swapped = find_oracle(f"model:{tmp_path}")(problems[:1], texts[1:], texts[:1])
    assert P > 0.5 and swapped == [pytest.approx(1 - P)]


def test_no_reward_model(tmp_path):
    with pytest.raises(BadModel, match="cannot load the reward model"):
        load_reward(str(tmp_path))


def test_the_policy_below_is_left_alone():
    net = policy()
    head = from_policy(net)
    head.head.weight.data += 1
    for p in head.model.parameters():
        p.data += 1
    assert torch.equal(net.body.net.embed_tokens.weight, policy().body.net.embed_tokens.weight)


# -- rlhf -----------------------------------------------------------------------------------------------------

SMALL = {"evaluations": 1, "eval_problems": 8, "threads": 1}


def test_rlhf_is_scored_by_a_model_that_it_fits_and_measured_by_the_truth():
    run = frugal.run("rlhf(labels=64, prompts=16, lr=1e-3)", "rm-lab", samples=32, **SMALL)
    assert run.ledger.labels == 64 and run.ledger.samples == 32 and run.ledger.verifier_calls == 0
    first, last = [line for line in run.curve if line["kind"] == "evaluation"]
    assert first["win"] == 0.5 and {"reward", "kl", "win_data", "accuracy", "length"} <= last.keys()


def test_rlhf_with_a_function_is_ppo_on_that_score(tmp_path):
    (tmp_path / "r.py").write_text("def score(prompts, completions):\n    return [c.count('a') for c in completions]\n")
    options = {"seed": 1, "samples": 32, **SMALL}
    run = frugal.run(f"rlhf(reward='{tmp_path / 'r.py'}:score', prompts=16, lr=1e-3)", "rm-lab", **options)
    assert run.ledger.verifier_calls == 32 and run.ledger.labels == 0
    scores = [line["score"] for line in run.curve if line["kind"] == "train"]
    assert scores[0] > 0 and math.isclose(scores[0] * 16, round(scores[0] * 16), abs_tol=1e-4)


def test_a_reward_model_with_another_tokenizer_reads_text(tmp_path):
    """The same alphabet in another order: its tokens are not the policy's, its words are."""
    net = fitted()
    run = Run(8)
    run.net = policy()
    net.model.save_pretrained(tmp_path), net.tokenizer.save_pretrained(tmp_path)
    rows = sampled(policy()).put(score=torch.full((8,), float("nan")))
    done = rows.take(rows.done & ((rows.tokens > 0) | ~rows.own).all(1))  # <pad> is no text
    by_token = given(str(tmp_path), run)(done, None).score
    from frugal.language.rollout import Sampler
    from frugal.language.tiny import character_tokenizer

    run.net = policy()
    run.net.tokenizer = character_tokenizer("abcdefg")
    sampler = Sampler(policy(), Compared(), run.ledger)
    torch.testing.assert_close(given(str(tmp_path), run)(done, sampler).score, by_token, atol=1e-5, rtol=0)
    assert len(done) and run.ledger.verifier_calls == len(done)


def test_rlhf_refuses_an_unknown_baseline():
    with pytest.raises(UnknownName, match="choose from: critic, group"):
        rlhf(baseline="value")


def test_rlhf_takes_methods_of_the_language_domain():
    assert str(frugal.recipe("rlhf(baseline='group')+ead+capo")).startswith("rlhf")
    run = frugal.run(
        "rlhf(labels=32, baseline='group', prompts=2, group=4)+online-difficulty", "rm-lab", samples=16, **SMALL
    )
    assert run.ledger.samples >= 16


def test_a_cut_rlhf_run_resumes_to_the_same_bits_and_fits_its_reward_model_once(tmp_path):
    from tests.language.test_pitfalls_resume import Killed, checkpoints_every_other_round, killing, left_behind

    recipe = "rlhf(labels=32, prompts=8, lr=1e-3)"
    options = {"samples": 40, "seed": 3, **SMALL}
    with checkpoints_every_other_round():
        frugal.run(recipe, "rm-lab", out=tmp_path / "whole", **options)
        with pytest.raises(Killed):
            frugal.run(recipe, "rm-lab", out=tmp_path / "cut", reporter=killing(4), **options)
        run = frugal.resume(tmp_path / "cut")
    assert run.ledger.labels == 32
    assert left_behind(tmp_path / "cut") == left_behind(tmp_path / "whole")

"""Other models that look at the rows: whose log-probabilities they are, where they come from, what they cost."""

import pytest
import torch

import frugal
from frugal.core.errors import BadModel, Clash, UnknownName
from frugal.core.recipe import Patch
from frugal.language import grpo
from frugal.language.models import load, load_others
from frugal.language.policy import Policy
from frugal.language.tiny import character_tokenizer
from tests.language.tinyrun import (
    Dialogue,
    Letters,
    Spy,
    each_by_hand,
    exact,
    launch,
    policy,
    saved,
    spy,
    tiny_model,
    weights,
)

SMALL = {"prompts": 2, "group": 4, "lr": 1e-2}


def first_logit(logits, token, hidden):
    return logits[:, 0]


def test_a_teacher_reads_every_round_at_the_policys_temperature_and_stays_itself():
    """A larger one, in pieces of eight tokens; what the environment said is nobody's."""
    larger = Policy(tiny_model(5, intermediate_size=64), character_tokenizer("abcdef"))
    net, teacher, seen = policy(), larger, []
    net.others = {"teacher": teacher}
    before = weights(teacher)
    recipe = grpo(**SMALL, temperature=0.7) + spy(seen, teacher_logp=None, teacher_first=first_logit)
    run = launch(recipe, Dialogue(), net, samples=16, micro_tokens=8)
    assert len(seen) == 2 and torch.equal(weights(teacher), before)
    for _, mini in seen:
        logp = mini.columns["teacher.logp"]
        assert not logp[~mini.own].any() and (logp - mini.old)[mini.own].abs().max() > 0.1
        for b, wanted in enumerate(each_by_hand(exact(teacher), mini, 0.7)):
            torch.testing.assert_close(logp[b][mini.own[b]].double(), wanted, atol=1e-5, rtol=0)
        first = exact(teacher)(torch.tensor([mini.prompts[0]])).logits[0, -1, 0] / 0.7
        torch.testing.assert_close(mini.columns["teacher.first"][0, 0].double(), first, atol=1e-5, rtol=0)
    assert run.ledger.teacher_calls == 16


def test_the_reference_is_no_teacher_call():
    assert launch(grpo(**SMALL, beta=0.1)).ledger.teacher_calls == 0


def asks(name: str | None, view: str = "teacher", patch: str = "asks") -> Patch:
    return Patch(add={"update.mask": Spy([], {f"{view}.logp": name})}, name=patch)


def test_a_tiny_model_has_a_teacher_and_others_are_named(tmp_path):
    model, tokenizer = load("tiny-modchain")
    net = Policy(model, tokenizer)
    (made,) = load_others(grpo() + asks(None), "tiny-modchain", net).values()
    (named,) = load_others(grpo() + asks("tiny-modchain-teacher"), "anything", net).values()
    assert torch.equal(weights(made), weights(named)) and not torch.equal(weights(made), weights(net))
    assert not any(p.requires_grad for p in made.model.parameters())
    folder = saved(tmp_path, 5)
    two = grpo() + asks(folder) + asks(folder, "expert", "more")
    others = load_others(two, "anything", policy())
    assert sorted(others) == ["expert", "teacher"] and torch.equal(weights(others["expert"]), weights(policy(5)))
    assert load_others(grpo(beta=0.1) + spy([], now_first=first_logit), "anything", net) == {}


def test_a_teacher_of_other_tokens_or_none_is_refused_before_anything_is_written(tmp_path):
    folder = saved(tmp_path / "student")
    with pytest.raises(BadModel, match=r"needs a teacher for .*none is named"):
        frugal.run(grpo(**SMALL) + asks(None), Letters(), samples=8, model=folder, out=tmp_path / "run")
    with pytest.raises(BadModel, match="tiny-modchain-teacher has another tokenizer"):
        frugal.run(grpo(**SMALL) + asks("tiny-modchain-teacher"), Letters(), samples=8, model=folder)
    with pytest.raises(BadModel, match="needs a teacher for tiny-countdown"):
        frugal.run(grpo(**SMALL) + asks(None), "countdown", samples=8)
    with pytest.raises(UnknownName, match="did you mean 'tiny-modchain-teacher'"):
        load("tiny-modchain-teachers")
    assert not (tmp_path / "run").exists()


def test_two_teachers_of_one_view_clash():
    assert grpo() + asks("a") + asks("a", patch="more")
    with pytest.raises(Clash, match=r"teacher\.logp"):
        grpo() + asks("a") + asks("b", patch="more")

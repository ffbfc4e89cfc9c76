"""Mistakes with options and their limits that the field keeps making; the numbers are those of its list."""

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch
from frugal.core.schedule import linear
from frugal.language import dapo, grpo, gspo
from frugal.language.parts import KLTerm
from frugal.language.slots import Settings
from frugal.registry import bases, find, methods
from tests.language.tinyrun import (
    Dialogue,
    each_by_hand,
    exact,
    launch,
    listening,
    policy,
    reference_is,
    spy,
    weights,
)

SMALL = {"prompts": 2, "group": 4, "lr": 1e-2}


def entropy(logits, token, hidden):
    """A column: the entropy of the distribution that a token was sampled from."""
    return -(logits.log_softmax(-1).exp() * logits.log_softmax(-1)).sum(-1)


# -- 8: temperature -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.6, linear(0.6, 1.6)])
def test_pitfall_08_every_log_probability_and_entropy_is_at_the_policys_temperature(temperature):
    """Evaluations at temperature 1 lie between the rounds."""
    seen, reference = [], policy(5)
    recipe = grpo(beta=0.1, temperature=temperature, prompts=2, group=4, lr=0)
    recipe = recipe + spy(seen, old_entropy=entropy, now_entropy=entropy, ref_entropy=entropy)
    with reference_is(reference):
        run = launch(recipe, samples=24, evaluations=3)
    assert len([line for line in run.curve if line["kind"] == "evaluation"]) == 4 and len(seen) == 3
    for i, (now, mini) in enumerate(seen):
        tau = 0.6 if temperature == 0.6 else 0.6 + i / 3
        for net, logp, H in (
            (policy(), now.logp, now["entropy"]),
            (policy(), mini.old, mini.columns["old.entropy"]),
            (reference, mini.columns["ref.logp"], mini.columns["ref.entropy"]),
        ):
            for b, wanted in enumerate(each_by_hand(exact(net), mini, tau)):
                torch.testing.assert_close(logp[b][mini.own[b]].double(), wanted, atol=1e-5, rtol=0)
            first = (exact(net).requires_grad_(False)(torch.tensor([mini.prompts[0]])).logits[0, -1] / tau).softmax(-1)
            assert float(H[0, 0]) == pytest.approx(-float((first * first.log()).sum()), abs=1e-5)


# -- 15: an option acts or raises -----------------------------------------------------------------------------

OTHER = {  # another value for each option; the run below makes every one of them matter
    **{"clip": 0.01, "low": (0.01, 0.9), "high": (0.01, 9.0), "beta": 0.5, "overlong": 0.9, "gamma": 0.5, "lam": 0.5},
    **{"critic_lr": 1e-2, "prompts": 3, "group": 3, "max_tokens": 5, "temperature": 0.5, "epochs": 3},
    **{"minibatches": 2, "lr": 1e-3, "weight_decay": 0.5, "max_grad_norm": 1e-3},
}
WORDS = {"unit": ("token", "turn", "rollout"), "mean": ("token", "rollout", "constant")}


class Chatter(Dialogue):
    max_tokens = 7

    def reply(self, problem, turns):
        return "f" if len(turns) < 2 else None

    def demonstrate(self, problem, random):
        return "ab" * random.randint(1, 3)


def after(recipe):
    net = policy()
    net.others = {"teacher": policy(5)}
    launch(recipe, Chatter(), net, samples=16)
    return weights(net)


@pytest.mark.parametrize("name", sorted(name for name, make in bases().items() if make().domain.name == "language"))
def test_pitfall_15_an_option_acts_or_raises(name):
    make = bases()[name]
    plain = {"prompts": 2, "lr": 3e-2}
    for key, value in {"epochs": 2, "group": 4}.items():
        plain |= {key: value} if accepts(make, key, value) else {}
    own = [n for n, p in inspect.signature(make).parameters.items() if p.kind is not p.VAR_KEYWORD]
    before, acted, refused = after(make(**plain)), [], []
    for option in [*own, *(f.name for f in fields(Settings))]:
        values = [v for v in values_of(option) if v != getattr(make(**plain).settings, option, None)]
        if not all(accepts(make, option, value) for value in values):
            refused.append(option)
            continue
        acted.append(option)
        changed = [not torch.equal(after(make(**plain | {option: value})), before) for value in values]
        assert all(changed) if option in WORDS else any(changed), f"{name}({option}={values})"
    settings = {f.name for f in fields(Settings)}
    assert set(acted) | set(refused) == settings | set(own) and len(settings) == 11
    assert {"lr", "max_tokens", "prompts", "weight_decay", "max_grad_norm", "mean"} <= set(acted)


def values_of(option):
    values = WORDS[option] if option in WORDS else OTHER[option]
    return values if isinstance(values, tuple) else (values,)


def accepts(make, option, value):
    try:
        make(**{option: value})
    except BadRecipe:
        return False
    return True


@pytest.mark.parametrize("option,start,end", [("weight_decay", 0.0, 0.5), ("max_grad_norm", 1.0, 1e-3), ("lr", 0, 1)])
def test_pitfall_15_a_schedule_acts_after_the_first_round_too(option, start, end):
    """The first round is at the schedule's start, so it alone cannot tell."""
    plain = {"prompts": 2, "group": 4, "lr": 1e-2}
    one, other = (after(grpo(**plain | {option: value})) for value in (start, linear(start, end)))
    assert not torch.equal(one, other)


def test_pitfall_15_dtype_acts_on_a_shipped_model_too():
    run = frugal.run(grpo(prompts=2, group=2), "modchain", samples=4, dtype="bfloat16", evaluations=1, eval_problems=1)
    assert {p.dtype for p in run.net.model.parameters()} == {torch.bfloat16}


def test_the_rounding_between_sampling_and_training_is_reported_in_half_precision():
    """bfloat16 keeps 8 bits: a logit of a few units is off by a hundredth at most."""
    for dtype in ("float32", "bfloat16"):
        run = frugal.run(grpo(prompts=2, group=4), "modchain", samples=8, dtype=dtype, evaluations=1, eval_problems=1)
        (line,) = (line for line in run.curve if line["kind"] == "train")
        assert ("mismatch" in line) == (dtype == "bfloat16")
    assert 0 < line["mismatch"] < 0.05


def test_the_rounding_between_sampling_and_training_is_corrected_in_half_precision(monkeypatch):
    """With weights of at most one half, every weight is one half: so is the gradient."""

    def gradient(most, dtype):
        monkeypatch.setattr("frugal.language.loop.LARGEST_WEIGHT", most)
        run = frugal.run(grpo(prompts=2, group=4), "modchain", samples=8, dtype=dtype, evaluations=1, eval_problems=1)
        (line,) = (line for line in run.curve if line["kind"] == "train")
        return line["grad_norm"]

    assert gradient(0.5, "float32") == gradient(2.0, "float32") > 0
    half, whole = gradient(0.5, "bfloat16"), gradient(2.0, "bfloat16")
    assert half == pytest.approx(whole / 2, rel=0.02)


# -- 22: limits -----------------------------------------------------------------------------------------------

TWINS = {
    "gspo is grpo by rollout": lambda: (gspo(low=0.2, high=0.2, **MORE), grpo(unit="rollout", **MORE)),
    "dapo is grpo by token": lambda: (dapo(low=0.2, high=0.2, overlong=0, **MORE), grpo(mean="token", **MORE)),
    "no penalty": lambda: (grpo(beta=0.0, **MORE), grpo(**MORE)),
    "a penalty of weight zero": lambda: (
        grpo(**MORE) + Patch(add={"learn.terms": KLTerm(0.0)}, name="zero"),
        grpo(**MORE),
    ),
    "no decay": lambda: (grpo(weight_decay=0.0, **MORE), grpo(**MORE)),
    "a schedule that stands still": lambda: (grpo(temperature=linear(0.7, 0.7), **MORE), grpo(temperature=0.7, **MORE)),
}
MORE = {"prompts": 2, "group": 4, "lr": 1e-2, "epochs": 2}


@pytest.mark.parametrize("slug", ["ead", "capo", "ngrpo", "lp-reg", "online-difficulty"])
def test_pitfall_22_a_method_at_its_neutral_value_is_its_base_bit_for_bit(slug):
    """Over two epochs; all methods are held to it over one, in tests/test_every_method.py."""
    module = importlib.import_module(methods()[slug])
    base = bases()[getattr(module, "BASE", "grpo")]
    neutral = base(**MORE) + find(slug)(**module.NEUTRAL)
    assert torch.equal(after(neutral), after(listening(base(**MORE), neutral)))


@pytest.mark.parametrize("name", TWINS)
def test_pitfall_22_one_base_is_the_limit_of_another(name):
    one, other = TWINS[name]()
    assert one != other or name == "no penalty" or name == "no decay"
    assert torch.equal(after(one), after(other)) and not torch.equal(after(one), weights(policy()))


# -- all of them ----------------------------------------------------------------------------------------------


def test_every_pitfall_has_a_test():
    here = Path(__file__).parent
    files = sorted(here.glob("test_pitfalls_*.py"))
    names = [n for f in files for n in re.findall(r"^def test_pitfall_(\d\d)_", f.read_text(), re.MULTILINE)]
    assert {int(n) for n in names} == set(range(1, 23)) and len(names) >= 45 and len(files) == 5

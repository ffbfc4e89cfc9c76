"""The adapter to TRL against formulas worked out here: float64, one sequence at a time, without padding."""

import copy
import random

import pytest
import torch

pytest.importorskip("trl", reason="needs TRL")

from transformers import LlamaConfig, LlamaForCausalLM

from tests.language.trl_reference import trl_advantages, trl_logp, trl_loss, trl_rloo_advantages

LENGTHS = [(3, 4), (2, 2), (1, 3)]  # prompt, completion
TOKENS = sum(length for _, length in LENGTHS)
LIMIT = 6  # max_completion_length
A = [1.0, -0.7, -0.4]


@pytest.fixture(autouse=True)
def one_thread():
    """So small a model is many times slower on threads that have to wait for a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, initializer_range=0.2))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    prompts, completions = (torch.randint(2, 32, (3, n), generator=generator) for n in (3, 4))
    left = torch.stack([torch.arange(3) >= 3 - p for p, _ in LENGTHS])
    right = torch.stack([torch.arange(4) < c for _, c in LENGTHS])
    return prompts.where(left, 0), left, completions.where(right, 0), right


def sequences(model, batch, temperature=1.0):
    """The log-probabilities of each completion, as a list of tensors of its own length."""
    logp = []
    for prompt, left, completion, right in zip(*batch, strict=True):
        ids = torch.cat([prompt[left], completion[right]])
        table = (model(ids[None]).logits[0, :-1] / temperature).log_softmax(-1)
        logp.append(table.gather(1, ids[1:, None])[-right.sum() :, 0])
    return logp


def shifted(logp, seed):
    """A policy near the given one, [B, T], as other ratios than 1 need; garbage where there is no token."""
    noise = 0.4 * torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    for row, x in zip(noise, logp, strict=True):
        row[: len(x)] += x.detach().float()
        row[len(x) :] = -7.0
    return noise


def surrogate(ratio, a, low=0.2, high=0.3):
    return -torch.min(ratio * a, ratio.clamp(1 - low, 1 + high) * a)


def tokenwise(logp, old, a):
    return surrogate((logp - old).exp(), a)


def gspo(logp, old, a):
    return surrogate((logp - old).mean().exp(), a)


def rloo(logp, old, a):
    return surrogate((logp - old).sum().exp(), a)


def gmpo(logp, old, a):
    d = logp - old
    return -a * (d.clamp(max=0.3) if a > 0 else d.clamp(min=-0.2)).mean().exp()


def cispo(logp, old, a):
    return -(logp - old).exp().clamp(max=1.3).detach() * a * logp


FORMULAS = {
    "grpo": (tokenwise, lambda terms: sum(x.mean() for x in terms) / 3, {}),
    "dr_grpo": (tokenwise, lambda terms: torch.cat(terms).sum() / (3 * LIMIT), {}),
    "dapo": (tokenwise, lambda terms: torch.cat(terms).sum() / TOKENS, {}),
    "bnpo": (tokenwise, lambda terms: torch.cat(terms).mean(), {}),
    "cispo": (cispo, lambda terms: torch.cat(terms).sum() / TOKENS, {"clip_high": 1.3}),
    "gspo": (gspo, lambda terms: sum(terms) / 3, {"loss_type": "grpo", "level": "sequence"}),
    "gmpo": (gmpo, lambda terms: sum(terms) / 3, {}),
    "rloo": (rloo, lambda terms: sum(terms) / 3, {}),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_loss_and_gradient(name, model, batch):
    term, total, options = FORMULAS[name]
    exact = copy.deepcopy(model).double()
    logp = sequences(exact, batch, temperature=0.8)
    old = shifted(logp, seed=2)
    by_hand = total([term(x, row[: len(x)], a) for x, row, a in zip(logp, old, A, strict=True)])
    options = {"loss_type": name, "clip_high": 0.3, **options}
    options |= {"old_logp": old, "temperature": 0.8, "max_completion_length": LIMIT}
    loss = trl_loss(model, *batch, torch.tensor(A), **options)
    assert_same(model, loss, exact, by_hand)


@pytest.mark.parametrize("corrected", [False, True])
def test_penalty_and_tool_tokens(corrected, model, batch):
    exact = copy.deepcopy(model).double()
    logp = sequences(exact, batch)
    ref, tool = shifted(logp, seed=3), torch.ones(3, 4)
    tool[0, 1] = tool[2, 2] = 0  # read by the model, but without loss
    terms = []
    for x, row, keep, a in zip(logp, ref, tool, A, strict=True):
        d, ratio = row[: len(x)] - x, (x - x.detach()).exp()
        penalty = (d.exp() - d - 1) * (ratio if corrected else 1)
        terms.append((-a * ratio + 0.1 * penalty)[keep[: len(x)] > 0])
    by_hand = torch.cat(terms).sum() / (TOKENS - 2)
    options = {"loss_type": "dapo", "max_completion_length": LIMIT, "beta": 0.1, "ref_logp": ref}
    options |= {"tool_mask": tool, "use_bias_correction_kl": corrected}
    loss = trl_loss(model, *batch, torch.tensor(A), **options)
    assert_same(model, loss, exact, by_hand)
    options["num_items_in_batch"] = 2 * (TOKENS - 2)
    assert trl_loss(model, *batch, torch.tensor(A), **options).item() == pytest.approx(loss.item() / 2)


def test_leaves_no_trace(model, batch):
    def state():
        seeds = torch.get_rng_state().tolist(), random.getstate()
        return model.config.to_dict(), model.generation_config.to_dict(), set(vars(model)), seeds

    before = state()
    logp = trl_logp(model, *batch, temperature=2.0)
    assert state() == before
    torch.testing.assert_close(logp[batch[3]], torch.cat(sequences(model, batch, temperature=2.0)))
    assert not logp[~batch[3]].any()


def test_advantages():
    """The standard deviation of 1, 3 is sqrt(2); that of 1, 3, 5, 5 is sqrt(11 / 3)."""
    rewards = torch.tensor([1.0, 3.0, 5.0, 5.0])
    sizes = {"group": 1 / (2**0.5 + 1e-4), "batch": 1 / ((11 / 3) ** 0.5 + 1e-4), "none": 1.0}
    for scale, size in sizes.items():
        torch.testing.assert_close(trl_advantages(rewards, 2, scale), torch.tensor([-size, size, 0.0, 0.0]))
    assert not trl_advantages(rewards, 1).any()
    torch.testing.assert_close(trl_rloo_advantages(rewards, 2), torch.tensor([-2.0, 2.0, 0.0, 0.0]))
    missing = torch.tensor([1.0, 3.0, torch.nan, 5.0, torch.nan, torch.nan])
    expected = torch.tensor([-1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(trl_advantages(missing, 3, "none"), expected)
    torch.testing.assert_close(trl_rloo_advantages(missing, 3), 2 * expected)


def assert_same(model, loss, exact, by_hand):
    torch.testing.assert_close(loss.double(), by_hand, rtol=1e-5, atol=1e-6)
    ours = torch.autograd.grad(by_hand, list(exact.parameters()))
    theirs = torch.autograd.grad(loss, list(model.parameters()))
    assert max(g.abs().max() for g in ours) > 1e-3
    for g, h in zip(ours, theirs, strict=True):
        torch.testing.assert_close(h.double(), g, rtol=1e-4, atol=1e-5 * g.abs().max().item() + 1e-7)

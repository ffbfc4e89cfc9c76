"""The written-out body against transformers' own, on random rows: same states, same gradients, same samples."""

import pytest
import torch
import transformers
from torch.testing import assert_close

from frugal.language.body import Generic
from frugal.language.llama import Llama, Place, fits, seats
from frugal.language.policy import Policy
from frugal.language.rows import Rows
from frugal.language.sampler import sample
from frugal.language.tiny import character_tokenizer

FAMILY = ("Llama", "Mistral", "Qwen2", "Qwen3")


def pair(family, heads=(4, 2), **more):
    """A random model of the family, and the two bodies over its weights."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=26,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=6,
        initializer_range=0.4,
        eos_token_id=1,
        pad_token_id=0,
        **({"sliding_window": None} if family == "Mistral" else {}),
        **more,
    )
    net = Policy(getattr(transformers, f"{family}ForCausalLM")(config), character_tokenizer("abcdefghijklmnopqrstuvwx"))
    assert isinstance(net.body, Llama) and fits(config)
    return net, net.body, Generic(net.backbone)


def rows(seed, prompts=3, most=5, T=9):
    """Random prompts, groups of unequal size in mixed order, unequal lengths, some positions not own."""
    rng = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high + 1, (), generator=rng))

    texts = [tuple(torch.randint(2, 26, (number(1, 7),), generator=rng).tolist()) for _ in range(prompts)]
    each = [texts[g] for g in range(prompts) for _ in range(number(1, most))]
    each = [each[i] for i in torch.randperm(len(each), generator=rng)]
    B = len(each)
    length = torch.randint(1, T + 1, (B,), generator=rng)
    valid = torch.arange(T) < length[:, None]
    own = valid & (torch.rand(B, T, generator=rng) < 0.8)
    none = torch.zeros(B)
    return Rows(
        problems=(None,) * B,
        prompts=tuple(each),
        tokens=torch.randint(2, 26, (B, T), generator=rng) * valid,
        own=own,
        turn=torch.zeros(B, T, dtype=torch.int64),
        old=torch.zeros(B, T),
        behaviour=torch.zeros(B, T),
        group=none.long(),
        score=none,
        done=none.bool(),
        counts=~none.bool(),
        trains=~none.bool(),
        greedy=none.bool(),
        drawn=none.bool(),
        stale=torch.zeros(B, T, dtype=torch.bool),
        length=length,
        limit=T,
    )


def gradients(net, body, batch):
    net.body = body
    net.model.zero_grad()
    logp = net.columns(batch, {}).logp
    weight = torch.linspace(-1, 1, logp.numel()).view_as(logp)
    (logp * weight).sum().backward()
    return logp.detach(), {name: p.grad for name, p in net.model.named_parameters()}


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("seed", range(4))
def test_states_and_gradients_are_those_of_transformers(family, seed):
    net, ours, theirs = pair(family)
    batch = rows(seed)
    logp, grads = gradients(net, ours, batch)
    wanted, reference = gradients(net, theirs, batch)
    assert_close(logp, wanted, atol=2e-5, rtol=0)  # logits near 10 in float32, by two routes
    for name, grad in grads.items():
        assert_close(grad, reference[name], atol=2e-5 * float(reference[name].abs().max()), rtol=1e-4)


@pytest.mark.parametrize("heads", [(4, 4), (4, 1)])
def test_any_number_of_key_heads(heads):
    net, ours, theirs = pair("Llama", heads)
    batch = rows(7)
    assert_close(gradients(net, ours, batch)[0], gradients(net, theirs, batch)[0], atol=2e-5, rtol=0)


def test_scaled_rotary_positions():
    scaling = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8}
    net, ours, theirs = pair("Llama", rope_parameters=scaling)
    batch = rows(8)
    assert_close(gradients(net, ours, batch)[0], gradients(net, theirs, batch)[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("batch", [rows(11, T=1), rows(12, prompts=1, most=1), rows(13, prompts=9, most=1, T=20)])
def test_shapes_at_the_edge(batch):
    net, ours, theirs = pair("Llama")
    assert_close(gradients(net, ours, batch)[0], gradients(net, theirs, batch)[0], atol=2e-5, rtol=0)


def test_no_position_asked():
    _, ours, _ = pair("Llama")
    batch = rows(14)
    assert ours.states(batch, torch.zeros_like(batch.own)).shape == (0, 24)


@pytest.mark.parametrize("family", FAMILY)
def test_samples_are_those_of_transformers_while_rows_end(family):
    """Long enough for the keys' room to grow, with rows that end at different times and groups that vanish."""
    net, ours, theirs = pair(family)
    rng = torch.Generator().manual_seed(3)
    prompts = [(5, 6, 7), (9,), (4, 4, 8, 2, 3), (11, 12)]
    index = torch.tensor([2, 0, 0, 1, 2, 2, 0, 3, 2, 1, 3, 3])
    limit = torch.randint(1, 151, (12,), generator=rng)
    u = torch.rand(12, 150, generator=rng)
    greedy = torch.arange(12) % 5 == 0
    found = []
    for body in (ours, theirs):
        net.body = body
        found.append(sample(net, prompts, index, limit, u, greedy))
    assert found[0].length.max() > 64 > found[0].length.min()
    assert torch.equal(found[0].tokens, found[1].tokens)
    assert_close(found[0].old, found[1].old, atol=5e-5, rtol=0)


def test_bfloat16_differs_by_its_rounding_only():
    """Both routes are as far from float32 as each other: neither is more wrong than bfloat16 itself."""
    net, ours, theirs = pair("Llama")
    batch = rows(15)
    exact = gradients(net, theirs, batch)[0]
    net.model.bfloat16()
    off = [(gradients(net, body, batch)[0] - exact).abs().mean() for body in (ours, theirs)]
    assert off[0] < 1.5 * off[1]


def test_what_is_not_of_the_family_is_left_to_transformers():
    assert not fits(transformers.GPT2Config())
    assert not fits(transformers.MistralConfig(sliding_window=16))
    assert not fits(transformers.LlamaConfig(hidden_act="gelu"))
    assert not fits(
        transformers.LlamaConfig(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    )


def test_a_grid_has_each_row_once():
    index = torch.tensor([1, 0, 1, 1, 3])
    where, m = seats(index, 4)
    assert m == 3 and where.tolist() == [3, 0, 4, 5, 9]
    place = Place(where, (4, m))
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(place.gather(place.spread(x)), x) and place.spread(x)[2].abs().sum() == 0
    assert torch.autograd.gradcheck(lambda x: place.gather(place.spread(x) ** 2), x)

"""AdamW with float32 masters: small updates add up, large gradients are clipped, a saved state goes on exactly."""

import pytest
import torch
from torch.nn import Parameter

from frugal.core.optimiser import Optimiser


def parameters(dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    return {
        "a.weight": Parameter(torch.randn(3, 4, generator=draw).to(dtype)),
        "a.bias": Parameter(torch.randn(4, generator=draw).to(dtype)),
    }


def give_gradients(named, seed):
    draw = torch.Generator().manual_seed(seed)
    for p in named.values():
        p.grad = torch.randn(p.shape, generator=draw).to(p.dtype)


def test_updates_below_a_step_of_bf16_add_up():
    # At 1 a step of bf16 is 2^-7 upwards and 2^-8 downwards; Adam's step on a constant gradient is lr = 1e-4.
    p, plain = (Parameter(torch.ones(1, dtype=torch.bfloat16)) for _ in range(2))
    optimiser, without = Optimiser({"p": p}), torch.optim.AdamW([plain], lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        p.grad, plain.grad = torch.ones_like(p), torch.ones_like(plain)
        optimiser.step(1e-4)
        without.step()
    assert plain.item() == 1.0  # each step is rounded away
    assert optimiser.masters["p"].dtype == torch.float32
    assert optimiser.masters["p"].item() == pytest.approx(0.99, abs=1e-5)  # 1 - 100 lr
    assert p.item() == float(torch.tensor(0.99).bfloat16())


def test_float32_is_pytorchs_adamw():
    ours, theirs = parameters(), parameters()
    optimiser = Optimiser(ours, weight_decay=0.1, max_grad_norm=1e9)
    reference = torch.optim.AdamW(theirs.values(), lr=0.01, weight_decay=0.1, foreach=False)
    for seed in range(5):
        give_gradients(ours, seed), give_gradients(theirs, seed)
        optimiser.step(0.01), reference.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-7)


def test_gradients_are_clipped_to_the_norm_and_the_true_norm_is_told():
    # One step of Adam does not show a scale, the first moment does: exp_avg = (1 - 0.9) g.
    p = Parameter(torch.zeros(2))
    optimiser = Optimiser({"p": p}, max_grad_norm=1.0)
    p.grad = torch.tensor([3.0, 4.0])
    assert optimiser.step(0.01) == pytest.approx(5.0)
    # g = (3, 4) / 5 = (0.6, 0.8)
    torch.testing.assert_close(optimiser.state_dict()["p/exp_avg"], torch.tensor([0.06, 0.08]), rtol=1e-5, atol=0)


def test_a_gradient_below_the_norm_is_left_as_it_is():
    p = Parameter(torch.zeros(2))
    optimiser = Optimiser({"p": p}, max_grad_norm=10.0)
    p.grad = torch.tensor([3.0, 4.0])
    optimiser.step(0.01)
    torch.testing.assert_close(optimiser.state_dict()["p/exp_avg"], torch.tensor([0.3, 0.4]), rtol=1e-6, atol=0)


def test_the_norm_is_over_all_parameters_together():
    named = {"a": Parameter(torch.zeros(1)), "b": Parameter(torch.zeros(1, dtype=torch.bfloat16))}
    named["a"].grad, named["b"].grad = torch.tensor([3.0]), torch.tensor([4.0], dtype=torch.bfloat16)
    assert Optimiser(named).step(0.01) == pytest.approx(5.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_cleared_and_do_not_leak_into_the_next_step(dtype):
    named = parameters(dtype)
    optimiser = Optimiser(named)
    give_gradients(named, 0)
    optimiser.step(0.01)
    assert all(p.grad is None for p in named.values())
    assert optimiser.step(0.01) == 0.0


def test_the_learning_rate_is_that_of_the_step():
    p = Parameter(torch.zeros(1))
    optimiser = Optimiser({"p": p})
    for lr, expected in ((0.1, -0.1), (0.0, -0.1), (0.01, -0.11)):  # a constant gradient: each step is lr
        p.grad = torch.ones(1)
        optimiser.step(lr)
        assert p.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_saved_state_goes_on_bit_for_bit(dtype, after):
    named, others = parameters(dtype), {k: Parameter(torch.zeros_like(p)) for k, p in parameters(dtype).items()}
    straight, resumed = Optimiser(named, weight_decay=0.1), Optimiser(others, weight_decay=0.1)
    for seed in range(after):
        give_gradients(named, seed)
        straight.step(0.01)
    saved = {name: value.clone() for name, value in straight.state_dict().items()}
    resumed.load_state_dict(saved)
    for seed in range(after, after + 4):
        assert all(torch.equal(named[name], others[name]) for name in named)
        give_gradients(named, seed), give_gradients(others, seed)
        assert straight.step(0.01) == resumed.step(0.01)
    assert all(torch.equal(named[name], others[name]) for name in named)
    first, second = straight.state_dict(), resumed.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_loading_does_not_tie_the_optimiser_to_what_it_was_loaded_from():
    named = parameters()
    optimiser = Optimiser(named)
    give_gradients(named, 0)
    optimiser.step(0.01)
    saved = {name: value.clone() for name, value in optimiser.state_dict().items()}
    before = {name: value.clone() for name, value in saved.items()}
    optimiser.load_state_dict(saved)
    give_gradients(named, 1)
    optimiser.step(0.01)
    assert all(torch.equal(saved[name], before[name]) for name in saved)

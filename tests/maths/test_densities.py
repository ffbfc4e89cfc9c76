"""Densities of actions against numerical integration, torch's distributions and float64."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from frugal import maths


def test_gaussian_logp_and_entropy_equal_those_of_torch():
    rng = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(5, 3, generator=rng).double() for _ in range(3))
    law = Independent(Normal(mean, log_std.exp()), 1)
    u = mean + log_std.exp() * noise
    torch.testing.assert_close(maths.gaussian_logp(noise, log_std), law.log_prob(u), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(maths.gaussian_entropy(log_std), law.entropy(), rtol=1e-12, atol=1e-12)


def test_the_density_of_tanh_actions_integrates_to_one():
    """Pitfall 6: a numerical change of variables, over two dimensions at once."""
    log_std, mean = torch.tensor([-0.5, 0.3]).double(), torch.tensor([0.4, -1.0]).double()
    edges = torch.linspace(-1, 1, 1201).double()
    middle = (edges[1:] + edges[:-1]) / 2
    a = torch.cartesian_prod(middle, middle)
    u = a.atanh()
    p = maths.tanh_gaussian_logp((u - mean) / log_std.exp(), log_std, u).exp()
    assert float(p.sum() * (edges[1] - edges[0]) ** 2) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("mean", (-20.0, -3.0, 0.0, 5.0, 20.0))
def test_saturated_actions_in_float32_equal_float64_by_another_formula(mean):
    """Pitfall 6: log(1 - tanh(u)^2) = -2 log cosh(u), which float64 has at |u| = 20 without a small constant."""
    noise, log_std = torch.tensor([[0.3, -1.2]]), torch.tensor([[-1.0, 0.2]])
    u = mean + log_std.exp() * noise
    exact = 0.0
    for e, s, x in zip(noise[0].tolist(), log_std[0].tolist(), u[0].tolist(), strict=True):
        exact += -0.5 * e * e - s - 0.5 * math.log(2 * math.pi) + 2 * (abs(x) + math.log1p(math.exp(-2 * abs(x))))
        exact -= 2 * math.log(2)
    got = maths.tanh_gaussian_logp(noise, log_std, u)
    assert got.shape == (1,) and float(got) == pytest.approx(exact, rel=1e-5)


def test_the_gradient_at_saturation_is_finite():
    mean = torch.tensor([[20.0]], requires_grad=True)
    maths.tanh_gaussian_logp(torch.zeros(1, 1), torch.zeros(1, 1), mean).sum().backward()
    assert float(mean.grad) == pytest.approx(2.0, abs=1e-6)  # d/du of -2 (log 2 - u - softplus(-2u)) for large u


def test_gaussian_kl_equals_that_of_torch():
    rng = torch.Generator().manual_seed(0)
    mean, log_std, other, other_log_std = (torch.randn(5, 3, generator=rng).double() for _ in range(4))
    p, q = Normal(mean, log_std.exp()), Normal(other, other_log_std.exp())
    wanted = kl_divergence(p, q).sum(1)
    torch.testing.assert_close(maths.gaussian_kl(mean, log_std, other, other_log_std), wanted, rtol=1e-12, atol=1e-12)
    assert maths.gaussian_kl(mean, log_std, mean, log_std).tolist() == [0] * 5

"""Gaussian processes: one observation by hand, and the joint density of observations and answers by torch."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from frugal import maths


def test_one_observation_by_hand():
    """K = c + noise^2 = 2 + 0.25; at the same point the mean is 2 / 2.25 y and the variance 2 - 4 / 2.25."""
    x, y = torch.tensor([[0.3]]), torch.tensor([0.9])
    far = torch.tensor([[0.3], [0.3 + 0.5], [99.0]])
    mean, std = maths.gp_posterior(x, y, far, 2.0, 0.5, 0.5)
    assert mean.tolist() == pytest.approx([0.8, 0.8 * math.exp(-0.5), 0.0], abs=1e-6)
    assert std[0].item() == pytest.approx((2 - 4 / 2.25) ** 0.5) and std[2].item() == pytest.approx(2**0.5)
    wanted = -0.5 * (0.81 / 2.25 + math.log(2.25) + math.log(2 * math.pi))
    assert maths.gp_evidence(x, y, 2.0, 0.5, 0.5) == pytest.approx(wanted, abs=1e-6)


def test_posterior_and_evidence_are_those_of_the_joint_normal():
    rng = torch.Generator().manual_seed(0)
    x, at = torch.rand(5, 2, generator=rng).double(), torch.rand(1, 2, generator=rng).double()
    y = torch.randn(5, generator=rng).double()
    both = torch.cat([x, at])
    K = 1.5 * (-torch.cdist(both, both).square() / (2 * 0.4**2)).exp()
    K[:5, :5] += 0.1**2 * torch.eye(5).double()
    seen = MultivariateNormal(torch.zeros(5).double(), K[:5, :5]).log_prob(y)
    assert maths.gp_evidence(x, y, 1.5, 0.4, 0.1) == pytest.approx(float(seen), abs=1e-9)
    mean, std = maths.gp_posterior(x, y, at, 1.5, 0.4, 0.1)
    joint = MultivariateNormal(torch.zeros(6).double(), K)
    for answer in (-1.0, 0.3, 2.0):
        conditional = joint.log_prob(torch.cat([y, torch.tensor([answer]).double()])) - seen
        wanted = torch.distributions.Normal(mean, std).log_prob(torch.tensor(answer).double())
        assert float(conditional) == pytest.approx(float(wanted), abs=1e-6)

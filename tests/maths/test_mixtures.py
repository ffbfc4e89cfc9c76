"""Mixtures of Gaussians: by hand, against torch's distributions, and on data of which the mixture is known."""

import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from frugal import maths


def rng():
    return torch.Generator().manual_seed(0)


def test_log_densities_equal_those_of_torch():
    share, mean = torch.tensor([0.3, 0.7]).double(), torch.randn(2, 3, generator=rng()).double()
    half = torch.randn(2, 3, 3, generator=rng()).double()
    covariance = half @ half.transpose(1, 2) + torch.eye(3)
    x = torch.randn(5, 3, generator=rng()).double()
    wanted = [share[j].log() + MultivariateNormal(mean[j], covariance[j]).log_prob(x) for j in range(2)]
    found = maths.mixture_log_densities(x, share, mean, covariance)
    torch.testing.assert_close(found, torch.stack(wanted, 1), rtol=1e-10, atol=1e-10)


def test_one_component_is_mean_and_covariance():
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
    share, mean, covariance, likelihood = maths.fit_mixture(x, 1, rng())
    assert share.tolist() == [1.0] and mean[0].tolist() == pytest.approx([1.0, 2.0], abs=1e-12)
    torch.testing.assert_close(covariance[0], torch.tensor([[1.0, 0.0], [0.0, 4.0]]).double(), atol=2e-6, rtol=0)
    assert likelihood == pytest.approx(-4 * (math.log(2 * math.pi) + math.log(2) + 1), abs=1e-4)


def test_two_blobs_are_found_with_their_shares():
    x = torch.cat([torch.randn(300, 2, generator=rng()), 0.1 * torch.randn(100, 2, generator=rng()) + 20])
    share, mean, covariance, _ = maths.fit_mixture(x, 2, rng())
    small = int(share.argmin())
    assert share[small].item() == pytest.approx(0.25, abs=1e-6)
    assert mean[small].tolist() == pytest.approx([20, 20], abs=0.05)
    assert covariance[small].diagonal().sqrt().tolist() == pytest.approx([0.1, 0.1], rel=0.25)


def test_more_rounds_never_lose_likelihood():
    x = torch.rand(80, 3, generator=rng())
    found = [maths.fit_mixture(x, 4, rng(), rounds=n, close=-math.inf)[3] for n in range(1, 12)]
    assert all(after >= before - 1e-3 for before, after in itertools.pairwise(found)), "but for the ridge"
    assert found[-1] > found[0]


def test_points_that_are_all_one_do_not_break_it():
    share, mean, covariance, likelihood = maths.fit_mixture(torch.ones(6, 2), 3, rng())
    assert all(x.isfinite().all() for x in (share, mean, covariance)) and math.isfinite(likelihood)


def test_akaike_counts_means_covariances_and_shares():
    """Two components in three dimensions: 2 * 3 means, 2 * 6 covariances, one share; 19 numbers."""
    assert maths.akaike(-10.0, 2, 3) == 2 * 19 + 20

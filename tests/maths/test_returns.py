"""Returns over steps of an environment, by hand and against loops in plain Python."""

import pytest
import torch

from frugal import maths


def test_n_step_by_hand():
    r = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [3.0, 9.0, 9.0]])
    valid = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    R, discount = maths.n_step(r, valid, gamma=0.5)
    assert R.tolist() == [1 + 1 + 1, 1 + 1, 3] and discount.tolist() == [0.125, 0.25, 0.5]


def test_n_step_of_one_step_is_the_reward():
    R, discount = maths.n_step(torch.tensor([[3.0], [4.0]]), torch.ones(2, 1).bool(), 0.9)
    assert R.tolist() == [3, 4] and discount.tolist() == pytest.approx([0.9, 0.9])


def by_loop(r, v, v_next, term, ended, gamma, lam):
    """Advantages by their definition: the sum of discounted errors up to the end of the episode."""
    out = torch.zeros_like(r)
    for i in range(r.shape[0]):
        for t in range(r.shape[1]):
            factor = 1.0
            for k in range(t, r.shape[1]):
                after = 0.0 if term[i, k] else float(v_next[i, k])
                out[i, t] += factor * (float(r[i, k]) + gamma * after - float(v[i, k]))
                if ended[i, k]:
                    break
                factor *= gamma * lam
    return out


def test_gae_episodes_over_several_episodes_equals_its_definition():
    rng = torch.Generator().manual_seed(1)
    r, v, v_next = (torch.randn(3, 7, generator=rng) for _ in range(3))
    term = torch.zeros(3, 7).bool()
    cut = torch.zeros(3, 7).bool()
    term[0, 2] = term[1, 6] = cut[1, 3] = cut[2, 0] = True
    got = maths.gae_episodes(r, v, v_next, term, term | cut, 0.9, 0.8)
    torch.testing.assert_close(got, by_loop(r, v, v_next, term, term | cut, 0.9, 0.8), rtol=1e-5, atol=1e-5)


def test_gae_episodes_with_lambda_one_is_the_return_minus_the_value():
    r, v = torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[5.0, 6.0, 7.0]])
    v_next = torch.tensor([[6.0, 7.0, 10.0]])
    no = torch.zeros(1, 3).bool()
    last = torch.tensor([[False, False, True]])
    assert maths.gae_episodes(r, v, v_next, last, last, 1.0, 1.0).tolist() == [[3 - 5, 2 - 6, 1 - 7]]
    assert maths.gae_episodes(r, v, v_next, no, last, 1.0, 1.0).tolist() == [[13 - 5, 12 - 6, 11 - 7]]

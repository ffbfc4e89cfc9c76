"""Shorter ways to the same gradient: what the sampler said is known, and what teaches nothing passes no model."""

from unittest import mock

import torch

from frugal.language.gradient import accumulate
from tests.language.tinyrun import policy, sampled

PLAIN = 10**6  # tokens of a micro-batch: all rows at once


def slope_of(net, rows, known, micro_tokens=PLAIN):
    """The gradient of a sum of advantage times log-probability, and how many tokens passed the model."""
    net.model.zero_grad()
    forward, seen = net.body.forward, []
    with mock.patch.object(net.body, "forward", lambda ids, *a: seen.append(len(ids)) or forward(ids, *a)):
        loss = accumulate(net, rows, {}, lambda now: (now.logp * rows.A).sum(), micro_tokens, known)
    return loss, {n: p.grad.clone() for n, p in net.model.named_parameters() if p.grad is not None}, sum(seen)


def assert_same(one, other):
    for name, grad in one.items():
        torch.testing.assert_close(grad, other[name], atol=1e-5 * float(other[name].abs().max()), rtol=1e-4)


def test_what_the_sampler_said_is_not_computed_again():
    net = policy()
    rows = sampled(net, groups=3)
    rows = rows.put(A=torch.randn(rows.old.shape, generator=torch.Generator().manual_seed(0)) * rows.own)
    plain, known = slope_of(net, rows, known=False), slope_of(net, rows, known=True)
    assert abs(plain[0] - known[0]) < 1e-4
    assert_same(known[1], plain[1])
    pieces = slope_of(net, rows, known=False, micro_tokens=8), slope_of(net, rows, known=True, micro_tokens=8 * 8)
    assert_same(pieces[1][1], plain[1])
    assert pieces[0][2] == 2 * pieces[1][2], "in pieces of one size the model is asked once instead of twice"


def test_tokens_without_a_derivative_do_not_pass_the_model():
    net = policy()
    rows = sampled(net, groups=3)
    A = torch.ones_like(rows.old) * rows.own
    A[rows.group == 1] = 0  # a group without spread
    A[:, 2:] = 0  # and nothing is learnt after the second token
    rows = rows.put(A=A)
    plain, known = slope_of(net, rows, known=False), slope_of(net, rows, known=True)
    assert_same(known[1], plain[1])
    used = rows.group != 1
    assert known[2] <= sum(map(len, {p for p, u in zip(rows.prompts, used, strict=True) if u})) + int(used.sum())
    assert known[2] < plain[2]


def test_a_round_without_any_derivative_has_a_gradient_of_zero():
    net = policy()
    rows = sampled(net, groups=2)
    rows = rows.put(A=torch.zeros_like(rows.old))
    loss, gradient, tokens = slope_of(net, rows, known=True)
    assert loss == 0 and tokens == 0 and len(gradient) == len(list(net.model.parameters()))
    assert not any(grad.any() for grad in gradient.values())

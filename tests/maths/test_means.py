"""The means of a loss: numerator and denominator share one mask, and what is masked cannot be seen."""

import math

import pytest
import torch

from frugal import maths

NAN, INF = float("nan"), float("inf")
MODES = ["token", "rollout", "constant"]

LOSS = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0], [100.0, 200.0, 300.0, 400.0]])
USE = torch.tensor([[True, True, False, False], [True, True, True, True], [False, False, False, False]])


@pytest.mark.parametrize(
    "mean, expected",
    [
        ("token", (1 + 2 + 10 + 20 + 30 + 40) / 6),
        ("rollout", ((1 + 2) / 2 + (10 + 20 + 30 + 40) / 4) / 2),  # the third rollout is in no denominator
        ("constant", (1 + 2 + 10 + 20 + 30 + 40) / (2 * 8)),  # by the limit, not by the padded length
    ],
)
def test_the_three_means_by_hand(mean, expected):
    assert maths.loss_mean(LOSS, USE, mean, limit=8).item() == pytest.approx(expected)


def test_masked_mean_by_hand():
    assert maths.masked_mean(LOSS, USE).item() == pytest.approx(103 / 6)
    assert maths.masked_mean(LOSS, USE, dim=1).tolist() == pytest.approx([1.5, 25.0, 0.0])
    assert maths.masked_mean(LOSS, USE, dim=0).tolist() == pytest.approx([5.5, 11.0, 30.0, 40.0])


@pytest.mark.parametrize("mean", MODES)
@pytest.mark.parametrize("masked", [NAN, INF, -INF, 1e30])
def test_masked_losses_change_neither_value_nor_gradient(mean, masked):
    plain, other = LOSS.clone().requires_grad_(), LOSS.where(USE, masked).requires_grad_()
    values = [maths.loss_mean(loss, USE, mean, 8) for loss in (plain, other)]
    for value in values:
        value.backward()
    assert values[0] == values[1]
    assert torch.equal(plain.grad, other.grad) and (plain.grad[~USE] == 0).all()


@pytest.mark.parametrize("mean", MODES)
def test_padding_and_unused_rollouts_change_nothing(mean):
    padded, use = torch.zeros(5, 9), torch.zeros(5, 9, dtype=torch.bool)
    padded[:3, :4], use[:3, :4] = LOSS, USE
    assert maths.loss_mean(padded, use, mean, 8) == maths.loss_mean(LOSS, USE, mean, 8)
    assert maths.loss_mean(LOSS[:2], USE[:2], mean, 8) == maths.loss_mean(LOSS, USE, mean, 8)


@pytest.mark.parametrize("mean", MODES)
def test_nothing_used_is_a_loss_of_zero_with_a_gradient_of_zero(mean):
    loss = torch.full((2, 3), NAN, requires_grad=True)
    value = maths.loss_mean(loss, torch.zeros(2, 3, dtype=torch.bool), mean, 8)
    value.backward()
    assert value.item() == 0.0 and loss.grad.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("mean", ["token", "rollout"])
def test_the_mean_of_a_constant_is_the_constant(mean):
    assert maths.loss_mean(torch.full((3, 4), 2.5), USE, mean, 8).item() == 2.5


def test_the_means_agree_on_rollouts_of_the_longest_length():
    values = [maths.loss_mean(LOSS, torch.ones(3, 4, dtype=torch.bool), mean, limit=4).item() for mean in MODES]
    assert values == pytest.approx([LOSS.mean().item()] * 3)
    assert math.isclose(LOSS.mean().item(), 1110 / 12)


def test_an_unknown_mean_raises():
    with pytest.raises(ValueError, match="'sum'; choose token, rollout or constant"):
        maths.loss_mean(LOSS, USE, "sum", 8)

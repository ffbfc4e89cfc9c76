"""KL estimators as values and as losses: what is right for the one is wrong for the other. Entropy."""

import math

import pytest
import torch

from frugal import maths

LOGITS = torch.tensor([0.3, -1.0, 1.2, 0.1], dtype=torch.float64)  # of the policy p
REFERENCE = torch.tensor([-0.2, 0.4, 0.9, -1.5], dtype=torch.float64).log_softmax(0)  # log q


def kl(logp, logq):
    return (logp.exp() * (logp - logq)).sum()


def gradient(loss_of_logp):
    """d loss / d logits, the loss being a function of log p."""
    logits = LOGITS.clone().requires_grad_()
    loss_of_logp(logits.log_softmax(0)).backward()
    return logits.grad


def as_loss(estimator):
    """The gradient of the estimator's mean over tokens drawn from p, who draws them being held fixed."""
    p = LOGITS.softmax(0)
    return gradient(lambda logp: (p * estimator(logp, REFERENCE)).sum())


FORWARD = gradient(lambda logp: kl(logp, REFERENCE))  # of KL(p, q)
BACKWARD = gradient(lambda logp: kl(REFERENCE, logp))  # of KL(q, p)


def test_values_by_hand():
    # log p = log 1/2, log q = log 1/4: log p - log q = log 2, q/p = 1/2
    logp, ref = torch.tensor([0.5], dtype=torch.float64).log(), torch.tensor([0.25], dtype=torch.float64).log()
    assert maths.k1(logp, ref).item() == pytest.approx(math.log(2))
    assert maths.k2(logp, ref).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert maths.k3(logp, ref).item() == pytest.approx(0.5 - 1 + math.log(2))


@pytest.mark.parametrize("estimator", [maths.k1, maths.k2, maths.k3])
def test_equal_policies_have_no_divergence(estimator):
    logp = LOGITS.log_softmax(0)
    assert estimator(logp, logp).tolist() == [0.0] * 4


@pytest.mark.parametrize("estimator", [maths.k1, maths.k3])
def test_the_mean_of_k1_and_of_k3_is_the_divergence(estimator):
    logp = LOGITS.log_softmax(0)
    assert (logp.exp() * estimator(logp, REFERENCE)).sum().item() == pytest.approx(
        kl(logp, REFERENCE).item(), rel=1e-12
    )


def test_k2_is_biased_as_a_value_but_near_for_near_policies():
    logp = LOGITS.log_softmax(0)
    mean = (logp.exp() * maths.k2(logp, REFERENCE)).sum().item()
    assert abs(mean / kl(logp, REFERENCE).item() - 1) > 0.01
    # KL = f''(1) eps^2 / 2 + O(eps^3) for both, so their quotient goes to 1 with the distance
    near = (LOGITS + 1e-4 * REFERENCE).log_softmax(0)
    mean = (near.exp() * maths.k2(near, logp)).sum().item()
    assert mean == pytest.approx(kl(near, logp).item(), rel=1e-3)


def test_k3_is_never_negative():
    logp = LOGITS.log_softmax(0)
    assert (maths.k3(logp, REFERENCE) >= 0).all() and (maths.k1(logp, REFERENCE) < 0).any()


def test_sampled_means_agree_with_the_exact_divergence():
    logp = LOGITS.log_softmax(0)
    tokens = torch.multinomial(logp.exp(), 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    exact = kl(logp, REFERENCE).item()
    for estimator in (maths.k1, maths.k3):
        drawn = estimator(logp, REFERENCE)[tokens]
        error = drawn.std().item() / math.sqrt(len(tokens))
        assert abs(drawn.mean().item() - exact) < 4 * error and error < 0.01 * exact


def test_k1_as_a_loss_has_a_gradient_of_mean_zero():
    torch.testing.assert_close(as_loss(maths.k1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-15)
    assert FORWARD.abs().max() > 0.1  # where that of the divergence is not


def test_k2_as_a_loss_has_the_gradient_of_the_divergence():
    torch.testing.assert_close(as_loss(maths.k2), FORWARD, rtol=1e-12, atol=1e-15)


def test_k3_as_a_loss_has_the_gradient_of_the_other_divergence():
    torch.testing.assert_close(as_loss(maths.k3), BACKWARD, rtol=1e-12, atol=1e-15)
    assert (BACKWARD - FORWARD).abs().max() > 0.1


def test_k1_in_the_reward_has_the_gradient_of_the_divergence():
    # the score function weighs each token's log-probability with its k1, held fixed
    held = maths.k1(LOGITS.log_softmax(0), REFERENCE)
    p = LOGITS.softmax(0)
    torch.testing.assert_close(gradient(lambda logp: (p * held * logp).sum()), FORWARD, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("far", [-1000.0, -100.0, 100.0])
def test_k3_of_policies_far_apart_is_finite_and_so_is_its_gradient(far):
    logp = torch.tensor([-1.0, far], requires_grad=True)
    loss = maths.k3(logp, torch.tensor([-1.5, -1.0]))
    assert loss.isfinite().all() and loss[1] > 15
    # masked: the gradient of the far token is 0, not inf times 0
    maths.loss_mean(loss[None], torch.tensor([[True, False]]), "token", 2).backward()
    assert logp.grad.tolist() == pytest.approx([1 - math.exp(-0.5), 0.0])


def test_entropy_by_hand():
    # 1/2, 1/4, 1/4: (log 2 + log 4) / 2; alike: log V; minus infinity is a token that cannot be
    logits = torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, 1.0], [0.5, 0.5, 0.0]], dtype=torch.float64).log() + 7
    assert maths.entropy(logits).tolist() == pytest.approx([1.5 * math.log(2), math.log(3), math.log(2)], rel=1e-12)


def test_entropy_and_its_gradient_equal_those_of_torchs_distribution():
    logits = LOGITS.clone().requires_grad_()
    torch.distributions.Categorical(logits=logits).entropy().backward()
    torch.testing.assert_close(gradient(lambda logp: maths.entropy(logp)), logits.grad, rtol=1e-12, atol=1e-15)
    wanted = torch.distributions.Categorical(logits=LOGITS).entropy()
    assert maths.entropy(LOGITS).item() == pytest.approx(wanted.item(), rel=1e-12)


def test_entropy_of_an_almost_certain_token_keeps_its_digits():
    # e = e^-12: H = log(1 + e) + 12 e / (1 + e); float32 knows the first term to 6e-8, a thousandth of H
    e = math.exp(-12)
    wanted = math.log1p(e) + 12 * e / (1 + e)
    assert maths.entropy(torch.tensor([12.0, 0.0])).item() == pytest.approx(wanted, abs=6e-8)


def test_entropys_gradient_is_finite_where_a_token_cannot_be():
    logits = torch.tensor([0.0, 1.0, float("-inf"), -200.0], requires_grad=True)
    maths.entropy(logits).backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().max() > 0.1


def test_categorical_kl_by_hand():
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): 1/2 ln 2 - 1/4 ln 2, whatever is added to all logits."""
    p, q = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    assert maths.categorical_kl(p + 3, q - 2).tolist() == pytest.approx([math.log(2) / 4], rel=1e-6)
    assert maths.categorical_kl(p, p).tolist() == [0]

"""CAPO against an output layer written out in full: five tokens, hidden states of three numbers."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from frugal.core.errors import BadRecipe
from frugal.language.methods import capo as module
from frugal.language.policy import Now
from frugal.language.rows import Rows
from tests.language.rows import rows

INF = float("inf")


def begin(V: int = 5, D: int = 3, step: float = 1e-4, temperature: float = 1.0, **options) -> module.LiveMask:
    net = SimpleNamespace(head=SimpleNamespace(weight=torch.zeros(V, D)))
    run = SimpleNamespace(net=net, settings=SimpleNamespace(lr=step, temperature=temperature))
    return module.capo(**options).add["update.mask"].begin(run)


def view(live: module.LiveMask, W: Tensor, hidden: Tensor, tokens: Tensor, A: Tensor) -> tuple[Now, Rows]:
    """What the mask is given for two rollouts of 3 and 2 tokens, from W [V,D], hidden [5,D], tokens [5], A [5]."""
    mini = rows([0.0, 0.0], [3, 2])
    logits = hidden @ W.T / live.run.settings.temperature
    flat = {name: column(logits, tokens, hidden) for name, column in live.part.needs.items()}
    own = mini.own

    def placed(x: Tensor) -> Tensor:
        out = x.new_zeros(*own.shape, *x.shape[1:])
        out[own] = x
        return out

    columns = {name.removeprefix("now."): placed(column) for name, column in flat.items()}
    return Now(torch.zeros(own.shape), columns), mini.put(tokens=placed(tokens), A=placed(A))


def example(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return (
        torch.randn(5, 3, generator=rng),
        torch.randn(5, 3, generator=rng),
        torch.randint(5, (5,), generator=rng),
        torch.randn(5, generator=rng),
    )


@pytest.fixture
def predicted(monkeypatch) -> list[tuple[Tensor, Tensor]]:
    """Every (m_F, m_H) that a mask compares with its thresholds."""
    seen, shifts = [], module.shifts
    monkeypatch.setattr(module, "shifts", lambda *inputs: seen.append(shifts(*inputs)) or seen[-1])
    return seen


def test_two_tokens_by_hand(predicted):
    """p = (1/2, 1/2), h = A = 1, rate a: m_F = a^2 / 8 and m_H = a / 2, the second-order terms cancelling."""
    a = 0.25
    live = begin(V=2, D=1, model="sgd", step=a, policy=INF, objective=INF)
    one = torch.ones(5, 1)
    live(*view(live, torch.zeros(2, 1), one, torch.zeros(5, dtype=torch.int64), one[:, 0]))
    m_F, m_H = predicted[0]
    assert m_F.tolist() == [0.125 * a**2] * 5
    assert m_H.tolist() == [0.5 * a] * 5


@pytest.mark.parametrize("options, kept", [({"policy": 0.9e-2}, 0), ({"policy": 1.1e-2}, 5)])
@pytest.mark.parametrize("A", [1.0, -1.0])
def test_the_policy_threshold(options, kept, A):
    """m_F = a^2 / 8 = 0.01 at a^2 = 0.08."""
    live = begin(V=2, D=1, model="sgd", step=0.08**0.5, objective=INF, **options)
    one = torch.ones(5, 1)
    mask = live(*view(live, torch.zeros(2, 1), one, torch.zeros(5, dtype=torch.int64), A * one[:, 0]))
    assert mask.sum() == kept


@pytest.mark.parametrize("options, kept", [({"objective": 0.09}, 0), ({"objective": 0.11}, 5)])
@pytest.mark.parametrize("A", [1.0, -1.0])
def test_the_objective_threshold_holds_on_both_sides(options, kept, A):
    live = begin(V=2, D=1, model="sgd", step=0.2, policy=INF, **options)
    one = torch.ones(5, 1)
    mask = live(*view(live, torch.zeros(2, 1), one, torch.zeros(5, dtype=torch.int64), A * one[:, 0]))
    assert mask.sum() == kept


def test_a_large_fall_of_the_objective_is_masked_too(predicted):
    """p_a = 1 / (1 + e^5), A = -1, a step so long that the second-order term is the larger one."""
    live = begin(V=2, D=1, model="sgd", step=4.0, policy=INF, objective=1.0)
    W, one = torch.tensor([[0.0], [5.0]]), torch.ones(5, 1)
    assert not live(*view(live, W, one, torch.zeros(5, dtype=torch.int64), -one[:, 0])).any()
    assert (predicted[0][1] < -20).all()


def in_full(W, h, a, A, top_k, step, moments) -> tuple[float, float, Tensor]:
    """m_F, m_H and g of one token, with every matrix formed in float64. `moments` (m, q, n), or None for SGD."""
    z = W.double() @ h.double()
    support = set(z.topk(top_k).indices.tolist())
    if a not in support:
        support = {*z.topk(top_k - 1).indices.tolist(), a}
    inside = torch.tensor([j in support for j in range(len(z))])
    p = z.masked_fill(~inside, -INF).softmax(0)
    v = torch.eye(len(z), dtype=torch.float64)[a] - p
    F = torch.diag(p) - torch.outer(p, p)
    g = A.double() * torch.outer(v, h.double())
    D = step * g
    if moments is not None:
        m, q, n = moments
        m, q = 0.9 * m + 0.1 * g, 0.999 * q + 0.001 * g**2
        D = step * (m / (1 - 0.9**n)) / ((q / (1 - 0.999**n)).sqrt() + 1e-8)
    u = (D @ h.double()) * inside
    H = A.double() * (torch.outer(v, v) - F)
    m_H = (g * D * inside[:, None]).sum() + u @ H @ u / 2
    return float(u @ torch.outer(v, v) @ u / 2), float(m_H), g


@pytest.mark.parametrize("top_k", [2, 3, 5, 50])
@pytest.mark.parametrize("model", ["adam", "sgd"])
def test_equals_the_matrices_written_out(model, top_k, predicted):
    """Three steps, so that Adam's moments have a past; some tokens are masked and must not enter them."""
    k = min(top_k, 5)
    live = begin(model=model, step=0.1, top_k=top_k, policy=0.03, objective=INF)
    m, q = torch.zeros(2, 5, 3, dtype=torch.float64)
    masked = 0
    for n in (1, 2, 3):
        W, hidden, tokens, A = example(n)
        now, mini = view(live, W, hidden, tokens, A)
        kept = live(now, mini)[mini.own]
        moments = (m, q, n) if model == "adam" else None
        full = [in_full(W, h, int(a), x, k, 0.1, moments) for h, a, x in zip(hidden, tokens, A, strict=True)]
        m_F, m_H = predicted[-1]
        torch.testing.assert_close(m_F, torch.tensor([f[0] for f in full]), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(m_H, torch.tensor([f[1] for f in full]), rtol=1e-4, atol=1e-7)
        assert kept.tolist() == [f[0] <= 0.03 for f in full]
        masked += int((~kept).sum())
        for j in range(5):  # the mean over the kept tokens that have row j among their top_k
            rows_j = [f[2][j] for f, keep in zip(full, kept, strict=True) if keep and f[2][j].any()]
            if rows_j:
                mean = torch.stack(rows_j).mean(0)
                m[j], q[j] = 0.9 * m[j] + 0.1 * mean, 0.999 * q[j] + 0.001 * mean**2
    assert 0 < masked < 15
    if model == "adam":
        torch.testing.assert_close(live.m.double(), m, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(live.q.double(), q, rtol=1e-4, atol=1e-6)
        assert live.steps == 3


def test_is_the_true_change_to_second_order(predicted):
    """W + D, D from autograd: m_H is the change of A pi / pi_old, m_F half the squared change of log pi, to step^3."""
    W, hidden, tokens, A = example()
    weight = W.double().requires_grad_()
    token = torch.arange(5), tokens

    def log_pi(weight: Tensor) -> Tensor:
        return (hidden.double() @ weight.T / 0.7).log_softmax(1)

    errors = []
    for step in (4e-2, 2e-2):
        live = begin(model="sgd", step=step, temperature=0.7, policy=INF, objective=INF)
        live(*view(live, W, hidden, tokens, A))
        m_F, m_H = predicted[-1]
        moved = []
        for t in range(5):
            (g,) = torch.autograd.grad(A[t].double() * log_pi(weight)[token][t], weight)
            moved.append((log_pi(weight + step * g) - log_pi(weight))[token][t].detach())
        moved = torch.stack(moved)
        errors.append((A * moved.expm1() - m_H, moved.square() / 2 - m_F))
        assert (m_H.abs() > 1e-4).all()  # so that the errors are errors of something
    for coarse, fine in zip(*errors, strict=True):
        big = coarse.abs() > 1e-4
        assert big.any()
        assert (coarse[big] / fine[big] > 5).all()  # a third-order error falls by 8, a second-order one by 4


def test_m_F_averages_to_the_divergence(predicted):
    """E_a m_F = KL(p, p') to third order for one change of logits u and all tokens a that could be sampled."""
    z, direction = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    p, errors = z.softmax(0), []
    for size in (0.02, 0.01):
        u = size * direction
        m_F, _ = module.shifts(torch.ones(5), p.expand(5, 5), torch.eye(5) - p, u.expand(5, 5))
        kl = (p * (p.log() - (z + u).log_softmax(0))).sum()
        errors.append(float(kl - p @ m_F))
        assert float(kl) > 10 * abs(errors[-1])
    assert 7 < errors[0] / errors[1] < 9


def test_the_support_holds_the_sampled_token():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]])
    p, ids, h = module.LastLayer(2)(logits, torch.tensor([3, 1]), torch.tensor([[5.0], [6.0]])).split([2, 2, 1], 1)
    assert ids.tolist() == [[0, 3], [0, 1]] and h.tolist() == [[5.0], [6.0]]
    torch.testing.assert_close(p, torch.tensor([[3.0, 0.0], [3.0, 2.0]]).softmax(1))


@pytest.mark.parametrize("model", ["adam", "sgd"])
def test_no_threshold_keeps_every_used_token_and_no_other(model):
    live = begin(model=model, **module.NEUTRAL)
    now, mini = view(live, *example())
    assert torch.equal(live(now, mini), mini.use)


def test_a_saved_state_continues_the_run():
    live, again, fresh = (begin(step=0.1, policy=0.1, objective=INF) for _ in range(3))
    live(*view(live, *example(1)))
    again.load_state_dict(live.state_dict())
    here, there = live(*view(live, *example(2))), again(*view(again, *example(2)))
    assert torch.equal(here, there) and here.any()
    assert torch.equal(live.m, again.m) and torch.equal(live.q, again.q) and live.steps == again.steps == 2
    fresh(*view(fresh, *example(2)))
    assert not torch.equal(fresh.m, live.m)


def test_masked_tokens_leave_the_moments_alone():
    live = begin(step=1.0, policy=0.0, objective=0.0)
    assert not live(*view(live, *example())).any()
    assert live.steps == 1 and not live.m.any() and not live.q.any()


@pytest.mark.parametrize("options", [{"policy": -1.0}, {"top_k": 1}, {"model": "adamw"}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give"):
        module.capo(**options)

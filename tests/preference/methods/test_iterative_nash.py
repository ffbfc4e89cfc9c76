"""INPO: a step of mirror descent on the task pairs, its limits, and the gradient in the loop."""

import pytest
import torch

from frugal import maths
from frugal.core.errors import BadRecipe, Clash
from frugal.evidence.experiment import load
from frugal.preference import dpo, iterative_nash, online_dpo
from frugal.preference.tasks.find import find_task
from frugal.preference.tasks.pairs import RESPONSES
from tests.language.rows import rows
from tests.language.tinyrun import assert_gradient, each_by_hand, exact, gradients, policy, reference_is
from tests.preference.tables import minimum, policy_of, world
from tests.preference.test_loop import spy
from tests.preference.tinyrun import launch


@pytest.mark.parametrize("eta, tau", [(0.3, 0.1), (0.5, 0.4)])
@pytest.mark.parametrize("cyclic", [0, 60])
def test_the_least_loss_on_pairs_is_a_step_of_mirror_descent(eta, tau, cyclic):
    """pi_{t+1} ~ ref^(tau/eta) pi_t^(1 - tau/eta) exp(P(. beats pi_t) / eta)."""
    _, P = world(cyclic=cyclic)
    ref, pi_t = policy_of(0), policy_of(1)
    wanted = (tau / eta * ref.log() + (1 - tau / eta) * pi_t.log() + P @ pi_t / eta).softmax(0)
    found = minimum(online_dpo() + iterative_nash(eta=eta, tau=tau), ref, pi_t, P)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)
    assert (wanted - pi_t).abs().max() > 0.05


@pytest.mark.parametrize("eta", [0.3, 0.9])
def test_it_stays_at_the_nash_policy_of_the_game_with_a_divergence(eta):
    """That is the policy which is its own best answer: pi ~ ref exp(P(. beats pi) / tau)."""
    _, P = world(cyclic=60)
    pi = ref = policy_of(0)
    for _ in range(2000):
        pi = (0.95 * pi.log() + 0.05 * maths.tilted(ref, P @ pi, 0.3).log()).softmax(0)
    found = minimum(online_dpo() + iterative_nash(eta=eta, tau=0.3), ref, pi, P)
    torch.testing.assert_close(found, pi, atol=1e-7, rtol=0)
    assert (pi - ref).abs().max() > 0.05


def test_no_reward_explains_the_experiments_game():
    """The exploitabilities in its docstring: the start, policies of the best Bradley-Terry reward, the Nash policy."""
    asked = load("iterative-nash")
    _, P = find_task(asked.task).matrices(tuple(RESPONSES))
    ref = torch.full(P.shape[:2], 1 / len(RESPONSES), dtype=torch.float64)
    R = torch.zeros_like(ref, requires_grad=True)
    optimiser = torch.optim.LBFGS([R], max_iter=500)

    def loss():
        optimiser.zero_grad()
        unlikely = -(P * torch.nn.functional.logsigmoid(R[:, :, None] - R[:, None, :])).sum() + 1e-6 * R.square().sum()
        unlikely.backward()
        return unlikely

    optimiser.step(loss)
    tilted = [(R.detach() / beta).softmax(1) for beta in (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)]
    least = min(float(maths.exploitability(policy, P).mean()) for policy in tilted)
    pi = ref
    for _ in range(4000):  # steps of size 0.1 towards ref exp(P(. beats pi) / 0.03)
        answer = torch.einsum("nvw,nw->nv", P, pi)
        pi = (0.003 * ref.log() + 0.997 * pi.log() + 0.1 * answer).softmax(1)
    assert float(maths.exploitability(ref, P).mean()) == pytest.approx(0.13, abs=0.005)
    assert least == pytest.approx(0.09, abs=0.005)
    assert float(maths.exploitability(pi, P).mean()) == pytest.approx(0.025, abs=0.0005)


def test_at_tau_equal_to_eta_the_reference_is_the_start_alone():
    batch = rows([0.0], [2]).put(old=torch.tensor([[-7.0, -7.0]]), columns={"ref.logp": torch.tensor([[-1.0, -3.0]])})
    share = {tau: (online_dpo() + iterative_nash(eta=0.4, tau=tau)).parts["learn.reference"] for tau in (0.1, 0.4)}
    assert share[0.1](batch).tolist() == [[-5.5, -6.0]] and share[0.4](batch).tolist() == [[-1.0, -3.0]]


def test_the_gradient_in_the_loop():
    net, reference, seen = policy(), policy(5), []
    model = exact(net)
    recipe = online_dpo(prompts=6, lr=0) + iterative_nash(eta=0.5, tau=0.2)
    with gradients() as grads, reference_is(reference):
        launch(recipe + spy(seen), net=net, samples=6)
    (_, mini), *_ = seen
    now, ref = each_by_hand(model, mini.rows), each_by_hand(exact(reference), mini.rows)
    z = [(a - 0.4 * b.detach() - 0.6 * a.detach()).sum() for a, b in zip(now, ref, strict=True)]
    won, lost = mini.chosen.tolist(), mini.rejected.tolist()
    losses = [(z[a] - z[b] - 1.0) ** 2 for a, b in zip(won, lost, strict=True)]
    assert_gradient(grads[0], torch.stack(losses).mean(), model)


def test_it_wants_what_the_policy_itself_wrote():
    with pytest.raises(Clash, match=r"dpo makes old dead, so iterative-nash .*"):
        dpo() + iterative_nash()
    with pytest.raises(Clash, match="online-dpo makes old dead"):
        online_dpo(data=True) + iterative_nash()


@pytest.mark.parametrize("options", [{"tau": 0.0}, {"eta": 0.1, "tau": 0.2}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give 0 < tau <= eta"):
        iterative_nash(**options)

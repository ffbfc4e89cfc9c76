"""ReMax: the greedy baseline by hand, and its gradient against the exact one of a bandit."""

import pytest
import torch

from frugal.core.errors import Clash
from frugal.language.methods.remax import GreedyBaseline, GreedyRow, remax
from frugal.language.recipes import grpo, reinforce
from frugal.language.rows import Rows
from tests.language.rows import rows
from tests.language.tinyrun import Letters, launch, policy, spy


def with_greedy(scores: list[float], greedy: float, group: int = 0) -> Rows:
    """Rollouts of one group of two tokens each, and after them the greedy one."""
    n = len(scores)
    counted = torch.tensor([True] * n + [False])
    return rows([*scores, greedy], [2] * (n + 1), [group] * (n + 1)).put(
        counts=counted, trains=counted, greedy=~counted
    )


def advantage(batch: Rows, extra: torch.Tensor | float = 0.0) -> torch.Tensor:
    return GreedyBaseline()(batch.at_end(batch.score) + extra, batch)


def test_reward_minus_the_greedy_response_s():
    A = advantage(with_greedy([1.0, 0.25, 0.5], greedy=0.5))
    assert A[:3].tolist() == [[0.5, 0.5], [-0.25, -0.25], [0.0, 0.0]]


def test_a_response_equal_to_the_greedy_one_has_no_advantage():
    assert not advantage(with_greedy([0.75] * 3, greedy=0.75))[:3].any()


def test_later_rewards_only():
    """r = (-0.1, 1 - 0.2) at two tokens, greedy 0.5: A = (0.7 - 0.5, 0.8 - 0.5)."""
    A = advantage(with_greedy([1.0], greedy=0.5), torch.tensor([[-0.1, -0.2], [0.0, 0.0]]))
    torch.testing.assert_close(A[0], torch.tensor([0.2, 0.3]))


def test_each_group_has_its_own_baseline():
    batch = with_greedy([1.0, 0.0], greedy=1.0, group=4) + with_greedy([1.0, 0.0], greedy=0.0, group=2)
    assert advantage(batch)[:, 0].tolist() == [0.0, -1.0, 0.0, 1.0, 0.0, 0.0]


def test_a_group_without_a_greedy_row_has_baseline_zero():
    batch = rows([1.0, 0.5], [2, 2])
    assert advantage(batch)[:, 0].tolist() == [1.0, 0.5]


def test_asks_once_for_one_greedy_row_a_prompt():
    batch = rows([0.0] * 4, [2] * 4, [3, 3, 1, 1])
    asks = GreedyRow()(batch, 0).asks
    assert [(a.group, a.n, a.greedy, a.counts, a.trains) for a in asks] == [
        (1, 1, True, False, False),
        (3, 1, True, False, False),
    ]
    assert asks[0].problem is batch.problems[2] and asks[1].problem is batch.problems[0]
    assert not GreedyRow()(batch, 1).asks


@pytest.mark.parametrize("baseline", [-2.0, 0.0, 0.3, 5.0])
def test_the_estimator_is_unbiased_for_every_baseline(baseline):
    """Three arms, enumerated: E[-(R - b) grad log pi] = -grad E[R]; the greedy arm's reward is just one b."""
    z = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64, requires_grad=True)
    R = [1.0, 0.5, 0.25]
    logp, surrogate = z.log_softmax(0), remax().fill["learn.surrogate"]
    A = advantage(with_greedy(R, greedy=baseline))[:3, 0].double()
    loss = surrogate(type("Now", (), {"logp": logp}), None, A, (None, None), None)
    expected = (logp.detach().exp() * loss).sum()
    (estimate,) = torch.autograd.grad(expected, z, retain_graph=True)
    (exact,) = torch.autograd.grad(-(logp.exp() * torch.tensor(R)).sum(), z)
    torch.testing.assert_close(estimate, exact)
    assert exact.abs().max() > 0.01


def test_in_the_loop():
    """The greedy responses are sampled, charged and scored; they train nothing, and A = R - R(greedy)."""
    seen: list = []
    net = policy()
    run = launch(reinforce(prompts=3, group=2) + remax() + spy(seen), Letters(), net, samples=9)
    assert run.ledger.samples == 9
    (_, mini), *rest = seen
    assert not rest and len(mini) <= 6 and mini.counts.all() and mini.trains.all()
    again = policy()
    for b in range(len(mini)):
        prompt = torch.tensor([mini.prompts[b]])
        out = again.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=6, pad_token_id=0
        )
        greedy = again.decode(out[0, prompt.shape[1] :].tolist()).count("a") / 6
        assert float(mini.A[b, 0]) == pytest.approx(float(mini.score[b]) - greedy)


def test_settings_without_effect_are_refused():
    with pytest.raises(Clash, match="epochs"):
        grpo(epochs=2) + remax()

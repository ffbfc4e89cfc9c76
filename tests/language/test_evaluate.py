"""What an evaluation counts."""

import pytest
import torch

from frugal.core.ledger import Spent
from frugal.core.run import Run
from frugal.language.evaluate import Evaluation
from frugal.language.rollout import Sampler
from frugal.language.rows import Ask
from tests.language.tinyrun import Letters, policy


class RightOnA(Letters):
    """Solved where the prompt begins with a, half solved elsewhere."""

    def score(self, problems, completions):
        return [1.0 if p.prompt.startswith("a") else 0.5 for p in problems]


def test_a_wrong_sample_costs_twice_the_limit_whatever_its_length():
    task, net, k = RightOnA(), policy(), 3
    found = Evaluation(task, limit=6, problems=12)(net, Run(8, seed=5), k)
    problems = task.problems("test")
    asks = [Ask(q, net.encode(q.prompt), g, n, greedy=n == 1) for g, q in enumerate(problems) for n in (1, k)]
    length = Sampler(net, task, Spent(), limit=6)(asks, torch.Generator().manual_seed(5)).length.view(12, 1 + k)
    right = torch.tensor([q.prompt.startswith("a") for q in problems])
    charged = torch.where(right[:, None], length[:, 1:], 12).float()
    assert length[right, 1:].unique().numel() > 1 and right.sum() == 2
    assert found["tokens_to_solve"] == pytest.approx(float(charged.mean()))
    assert found["sampled_length"] == pytest.approx(float(length[:, 1:].float().mean()))
    assert found["length"] == pytest.approx(float(length[:, 0].float().mean()))
    assert (found["greedy"], found["sampled"], found["score"]) == pytest.approx((2 / 12, 2 / 12, 7 / 12))

"""PCL: the choice by hand, the value model's gradient written out, and what it comes to choose in the loop."""

import math

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.core.run import Run
from frugal.language.methods.pcl import LiveNearHalf, NearHalf, pcl
from frugal.language.recipes import grpo, sft
from frugal.language.slots import Settings
from frugal.language.tasks.task import Problem
from tests.language.rows import rows
from tests.language.tinyrun import Letters, gradients, launch, policy, spy

POOL = [Problem(a + b) for a in "abcdef" for b in "abcd"]


def begun(k: int = 2, lr: float | None = None, prompts: int = 4) -> LiveNearHalf:
    run = Run(100)
    run.net, run.settings = policy(), Settings(prompts=prompts, lr=1e-2)
    return NearHalf(k, 0.5, lr).begin(run)


def test_the_nearest_to_one_half_by_hand():
    """Pass rates 0, 0.1, 0.4, 0.6, 1: of five candidates two, the ones at distance 0.1."""
    part = NearHalf(4, 0.5, None)
    assert part.nearest(torch.tensor([0.0, 0.1, 0.4, 0.6, 1.0]), 2).tolist() == [2, 3]
    assert part.nearest(torch.tensor([0.0, 0.0, 0.0]), 2).tolist() == [0, 1]
    assert NearHalf(4, 0.9, None).nearest(torch.tensor([0.0, 0.1, 0.4, 0.6, 1.0]), 2).tolist() == [4, 3]


def test_m_prompts_are_left_and_all_others_out():
    part = begun()
    part.value = lambda prompts: torch.tensor([p[0] - 2 for p in prompts]) / 5  # a: 0, b: 0.2, ..., f: 1
    weights = part(POOL)
    chosen = (weights == 0).nonzero()[:, 0].tolist()
    assert len(chosen) == 4 and (weights[weights != 0] == -math.inf).all()
    candidates = torch.randperm(24, generator=part.run.rng("pcl", 0))[:8].tolist()
    away = {i: abs("abcdef".index(POOL[i].prompt[0]) / 5 - 0.5) for i in candidates}
    assert set(chosen) <= set(candidates)
    assert max(away[i] for i in chosen) <= min(away[i] for i in candidates if i not in chosen)


def test_a_value_model_that_knows_nothing_chooses_at_random_and_each_time_anew():
    part = begun()
    first = part(POOL)
    part.run.ledger.samples += 8
    assert not torch.equal(first, part(POOL))
    assert torch.equal(first, begun()(POOL))


def test_one_candidate_a_prompt_is_the_loop_s_own_draw():
    assert begun(k=1)(POOL).tolist() == [0.0] * 24


def seen_rows():
    """Two prompts in three groups: a and a scored 1, 1, 0 and 1; b scored 0, 0. One row is a greedy one, outside."""
    batch = rows([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], [2] * 7, [0, 1, 0, 0, 2, 1, 1])
    counts = torch.tensor([True] * 6 + [False])
    return batch.put(prompts=((2,), (3, 4), (2,), (2,), (2,), (3, 4), (3, 4)), counts=counts)


def test_the_gradient_of_the_value_model():
    """V = 0 at first, so d/d bias of the mean over two prompts of (V - mean r)^2 is -(2 * 3/4 + 2 * 0) / 2."""
    part = begun()
    with gradients() as seen:
        part.learn(seen_rows())
    (step,) = seen
    assert step["value.bias"].tolist() == pytest.approx([-0.75])
    hidden = policy().backbone(input_ids=torch.tensor([[2]])).last_hidden_state[0, -1]
    torch.testing.assert_close(step["value.weight"][0], -0.75 * hidden)


def test_no_gradient_where_the_value_is_right():
    part = begun()
    with gradients() as seen:
        part.learn(seen_rows().put(score=torch.zeros(7)))
    assert not any(g.any() for g in seen[0].values())


def test_it_learns_the_mean_of_each_prompt_and_is_saved_whole():
    part = begun(lr=1e-2)
    before = [p.clone() for p in part.run.net.model.parameters()]
    for _ in range(60):
        part.learn(seen_rows())
    prompts = [(2,), (3, 4)]
    assert part.value(prompts).tolist() == pytest.approx([0.75, 0.0], abs=0.02)
    assert all(torch.equal(a, b) for a, b in zip(before, part.run.net.model.parameters(), strict=True))
    fresh = begun(lr=1e-2)
    fresh.load_state_dict(part.state_dict())
    for live in (part, fresh):
        live.learn(seen_rows())
    assert torch.equal(part.value(prompts), fresh.value(prompts))


def test_a_model_in_half_precision():
    part = begun(lr=1e-2)
    part.run.net.model.to(torch.bfloat16)
    part = LiveNearHalf(part.chosen, part.run)
    for _ in range(60):
        part.learn(seen_rows())
    a, b = part.value([(2,), (3, 4)]).tolist()
    assert a == pytest.approx(0.75, abs=0.1) and b == pytest.approx(0.0, abs=0.1)  # bfloat16 has 8 bits


def test_its_rate_is_eight_times_the_policy_s_unless_given():
    """Adam's first step has the size of the rate; the policy's is 0.01."""
    for lr, size in ((None, 0.08), (1e-3, 1e-3)):
        part = begun(lr=lr)
        part.learn(seen_rows())
        assert float(part.head.bias.detach()) == pytest.approx(size, rel=1e-5)


class Thirds(Letters):
    """Prompts that begin with a or b are always solved, with c or d never, with e or f every other time."""

    def problems(self, split):
        return POOL

    def score(self, problems, completions):
        return [{"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0}.get(p.prompt[0], i % 2) for i, p in enumerate(problems)]


def test_in_the_loop_it_comes_to_choose_what_is_solved_half_of_the_time():
    """A third of the prompts is; plain GRPO draws them as often."""
    seen: list = []
    recipe = grpo(prompts=4, group=4, lr=1e-4) + pcl(k=6, lr=1e-2) + spy(seen)
    run = launch(recipe, Thirds(), policy(), samples=16 * 40)
    late = [p.prompt[0] for _, mini in seen[20:] for p in mini.problems]
    assert sum(letter in "ef" for letter in late) / len(late) > 0.8
    assert run.ledger.samples == 16 * 40
    assert all(math.isfinite(v) for line in run.curve if "patches" in line for v in line["patches"].values())


def test_demonstrations_have_no_score_to_foresee():
    with pytest.raises(Clash, match="group"):
        sft() + pcl()


@pytest.mark.parametrize("options", [{"k": 0}, {"lr": 0.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give k"):
        pcl(**options)

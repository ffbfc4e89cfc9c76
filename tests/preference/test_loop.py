"""The preference loop: what is drawn, asked, charged and learnt from."""

from dataclasses import dataclass, field

import pytest
import torch

import frugal
from frugal.core.errors import RunFailed
from frugal.core.recipe import Patch, patch
from frugal.core.run import Run
from frugal.language.tasks.task import Problem
from frugal.preference import dpo, loop, online_dpo, reward_model
from frugal.preference.pairs import Pairs
from frugal.preference.parts import AllSoFar, InPasses
from frugal.preference.reward import Silent, from_policy
from tests.language.rows import rows
from tests.language.tinyrun import (
    assert_gradient,
    each_by_hand,
    exact,
    gradients,
    policy,
    reference_is,
    weights,
)
from tests.preference.tinyrun import Compared, launch, pairs_of


@dataclass(frozen=True, eq=False)
class Spy:
    """Remembers the pairs of every step; adds nothing to the loss."""

    seen: list = field(default_factory=list)

    def __call__(self, now, mini):
        self.seen.append((now, mini))
        return torch.zeros(len(mini))


def spy(seen):
    return Patch(add={"learn.terms": Spy(seen)}, name="spy", domain="preference")


def losses_by_hand(mini, net, reference, beta):
    """-log sigmoid(beta h) of every pair from plain passes of the whole texts, in float64."""
    now, ref = each_by_hand(net, mini.rows), each_by_hand(exact(reference), mini.rows)
    z = [(a - b.detach()).sum() for a, b in zip(now, ref, strict=True)]
    sign = (2 * mini.y - 1).tolist()
    pairs = zip(mini.a.tolist(), mini.b.tolist(), sign, strict=True)
    return torch.stack([torch.nn.functional.softplus(-beta * s * (z[a] - z[b])) for a, b, s in pairs])


@pytest.mark.parametrize("micro_tokens", [4096, 12])
@pytest.mark.parametrize("base", [dpo, online_dpo])
def test_the_first_step_is_dpos_equation(base, micro_tokens):
    net, reference, seen = policy(), policy(5), []
    model = exact(net)
    with gradients() as grads, reference_is(reference):
        launch(base(beta=0.5, prompts=6, lr=0) + spy(seen), net=net, samples=6, micro_tokens=micro_tokens)
    (_, mini), *_ = seen
    assert len(mini) >= 4 and len(set(mini.rows.length.tolist())) > 1
    assert_gradient(grads[0], losses_by_hand(mini, model, reference, 0.5).mean(), model)


def test_online_labels_are_the_oracles_and_stand_in_the_ledger():
    seen, task = [], Compared()
    run = launch(online_dpo(prompts=6, group=3) + spy(seen), task, samples=30)
    spent = run.ledger
    assert spent.samples == 30 == spent.labels + spent.identical_pairs and spent.completions >= 30
    for _, mini in seen:
        assert len(mini) and torch.equal(mini.rows.group[mini.a], mini.rows.group[mini.b])
        texts = [run.net.decode(t[:n].tolist()) for t, n in zip(mini.rows.tokens, mini.rows.length, strict=True)]
        for a, b, y in zip(mini.a.tolist(), mini.b.tolist(), mini.y.tolist(), strict=True):
            counts = texts[a].count("a"), texts[b].count("a")
            assert texts[a] != texts[b]
            assert y in ((1.0, 0.0) if counts[0] == counts[1] else (float(counts[0] > counts[1]),))


def test_labels_of_the_data_are_charged_and_no_oracle_is_asked():
    class Deaf(Compared):
        def prefer(self, problems, first, second):
            raise AssertionError("asked")

    seen, run = [], Run(12)
    loop.train(dpo(prompts=5) + spy(seen), Deaf(), policy(), run, Silent(6))
    assert (run.ledger.samples, run.ledger.labels, run.ledger.completions) == (12, 12, 0)
    assert [len(mini) for _, mini in seen] == [5, 5, 2]
    assert all((mini.y == 1).all() for _, mini in seen)
    prompts = [p for _, mini in seen for p in mini.rows.take(mini.a).prompts]
    assert sorted(prompts) == sorted(policy().encode_all([p.prompt for p in Deaf().problems("train")]))


@dataclass(frozen=True)
class Longer:
    """A label part that asks nobody: the longer response wins."""

    def __call__(self, rows, ask):
        a = torch.arange(0, len(rows), 2)
        return Pairs(rows, a, a + 1, ask.charge((rows.length[a] > rows.length[a + 1]).float()))


def test_labels_that_a_part_makes_itself_are_samples_and_cost_no_label():
    seen, own = [], Patch(fill={"credit.label": Longer()}, name="longer", domain="preference")
    run = launch(online_dpo(prompts=4) + own + spy(seen), samples=10)
    assert (run.ledger.samples, run.ledger.labels) == (10, 0) and [len(m) for _, m in seen] == [4, 4, 2]


def test_pairs_of_the_data_and_of_the_policy_are_learnt_from_together():
    seen = []
    run = launch(online_dpo(prompts=4, data=True) + spy(seen), samples=16)
    (_, mini), *_ = seen
    own = mini.rows.drawn[mini.a]
    assert 0 < own.sum() <= 4 and (~own).sum() == 4
    assert torch.equal(mini.rows.drawn[mini.a], mini.rows.drawn[mini.b]) and (mini.y[~own] == 1).all()
    assert run.ledger.samples == 16


class Unsure(Compared):
    """Cannot tell where the first response has an even length."""

    def prefer(self, problems, first, second):
        return [None if len(a) % 2 == 0 else 1.0 for a in first]


def test_abstentions_are_charged_counted_and_not_learnt_from():
    seen = []
    run = launch(online_dpo(prompts=6) + spy(seen), Unsure(), samples=24)
    spent = run.ledger
    assert spent.samples == 24 and spent.abstentions > 0 and spent.label_failures == 0
    assert sum(len(mini) for _, mini in seen) == spent.labels - spent.abstentions
    assert all((mini.y == 1).all() for _, mini in seen)


def test_an_oracle_that_never_answers_ends_without_a_step():
    class Mute(Compared):
        def prefer(self, problems, first, second):
            return [None] * len(first)

    net = policy()
    before = weights(net)
    run = launch(online_dpo(prompts=4), Mute(), net, samples=8)
    assert run.ledger.abstentions == run.ledger.labels > 0 and run.ledger.gradient_steps == 0
    assert torch.equal(weights(net), before)


@pytest.mark.parametrize("label, words", [(2.0, "2.0"), (-0.5, "-0.5"), (float("nan"), "nan"), ("left", "'left'")])
def test_labels_outside_the_allowed_set_end_the_run(label, words):
    class Odd(Compared):
        def prefer(self, problems, first, second):
            return [label] * len(first)

    with pytest.raises(RunFailed, match=f"said {words} .* from 0 to 1, or None"):
        launch(online_dpo(prompts=4), Odd())


def test_an_oracle_that_raises_or_miscounts_ends_the_run_in_words():
    class Broken(Compared):
        def prefer(self, problems, first, second):
            return 1 / 0

    class Short(Compared):
        def prefer(self, problems, first, second):
            return []

    with pytest.raises(RunFailed, match="oracle of compared raised ZeroDivisionError"):
        launch(online_dpo(prompts=4), Broken())
    with pytest.raises(RunFailed, match="gave 0 labels for"):
        launch(online_dpo(prompts=4), Short())


def test_equal_responses_are_not_asked_about_and_come_to_an_end():
    """At a temperature near 0 the policy always says the same."""
    run = launch(online_dpo(prompts=4, temperature=1e-4), samples=8)
    assert run.ledger.identical_pairs == run.ledger.samples == 8 and run.ledger.labels == 0


def test_a_label_is_drawn_of_what_the_oracle_says():
    """An oracle that says 0.8: about four fifths of 400 labels are won by the first."""

    class Mostly(Compared):
        def prefer(self, problems, first, second):
            return [0.8] * len(first)

    seen = []
    launch(online_dpo(prompts=12, group=4, lr=0) + spy(seen), Mostly(), samples=400)
    y = torch.cat([mini.y for _, mini in seen])
    assert set(y.tolist()) == {0.0, 1.0} and 0.74 < float(y.mean()) < 0.86


def test_minibatches_keep_groups_whole_and_see_every_pair_once_a_pass():
    seen = []
    launch(online_dpo(prompts=6, group=3, minibatches=3, epochs=2) + spy(seen), samples=18)
    assert len(seen) == 6
    for steps in (seen[:3], seen[3:]):
        groups = [set(mini.group.tolist()) for _, mini in steps]
        assert not groups[0] & groups[1] and not groups[1] & groups[2]
    assert sum(len(m) for _, m in seen[:3]) == sum(len(m) for _, m in seen[3:])


def test_an_infinite_loss_makes_no_step():
    @dataclass(frozen=True)
    class Infinite:
        def __call__(self, now, mini):
            return torch.full((len(mini),), float("inf"))

    net = policy()
    before = weights(net)
    with pytest.raises(RunFailed, match=r"learn\.loss was NaN or infinite for 3 rounds"):
        patch = Patch(add={"learn.terms": Infinite()}, name="infinite", domain="preference")
        launch(dpo(prompts=2) + patch, net=net, samples=8)
    assert torch.equal(weights(net), before)


def test_a_reward_model_learns_from_the_loop_and_leaves_the_policy_alone():
    net = policy()
    before = weights(net)
    reward = from_policy(net)
    run = launch(reward_model(prompts=4, lr=3e-3), net=reward, samples=80)
    (first, *_, last) = [line["accuracy"] for line in run.curve if line["kind"] == "evaluation"]
    assert first == 0.5 and last == 1.0  # its head begins at 0; more a's are better
    assert torch.equal(weights(net), before)


# -- the record -----------------------------------------------------------------------------------------------


def test_taking_pairs_keeps_the_rows_that_are_in_them():
    batch = rows([0.0] * 5, [1, 2, 3, 4, 5], groups=[0, 0, 0, 1, 1])
    pairs = pairs_of(batch, [0, 1, 3], [2, 2, 4], [1.0, 0.0, 1.0])
    taken = pairs.take(torch.tensor([False, True, True]))
    assert taken.rows.length.tolist() == [2, 3, 4, 5]
    assert (taken.a.tolist(), taken.b.tolist(), taken.y.tolist()) == ([0, 2], [1, 3], [0.0, 1.0])
    assert taken.chosen.tolist() == [1, 2] and taken.rejected.tolist() == [0, 3]
    assert taken.group.tolist() == [0, 1]


def test_adding_pairs_keeps_their_groups_apart():
    batch = rows([0.0] * 2, [1, 2])
    both = pairs_of(batch, [0], [1], [1.0]) + pairs_of(batch, [1], [0], [0.0])
    assert isinstance(both, Pairs) and len(both) == 2
    assert both.rows.length.tolist() == [1, 2, 1, 2] and both.group.tolist() == [0, 1]
    assert (both.a.tolist(), both.b.tolist()) == ([0, 3], [1, 2])


def test_passes_show_every_problem_before_any_again():
    passing, rng = InPasses().begin(None), torch.Generator().manual_seed(0)
    pool = [Problem(str(i)) for i in range(7)]
    drawn = [p.prompt for _ in range(7) for p in passing(pool, 3, rng)]
    for i in range(0, 21, 7):
        assert sorted(drawn[i : i + 7]) == [p.prompt for p in pool]
    assert drawn[:7] != drawn[7:14]


# -- resume ---------------------------------------------------------------------------------------------------


@patch
def remembering():
    return Patch(fill={"update.memory": AllSoFar()}, domain="preference")


def test_a_memory_of_all_pairs_is_learnt_from_in_every_round():
    seen = []
    launch(dpo(prompts=4) + remembering() + spy(seen), samples=12)
    assert [len(mini) for _, mini in seen] == [4, 8, 12]
    assert len(set(seen[-1][1].group.tolist())) == 12


@pytest.mark.parametrize(
    "recipe",
    [
        "online-dpo(prompts=4, lr=1e-3)",
        f"online-dpo(prompts=4, lr=1e-3)+{__file__}:remembering",
        "dpo(prompts=4, lr=1e-3)",
    ],
)
def test_a_run_that_is_cut_off_resumes_to_the_same_bits(recipe, tmp_path):
    from tests.language.test_pitfalls_resume import Killed, checkpoints_every_other_round, killing, left_behind

    options = {"samples": 24, "seed": 3, "evaluations": 2, "eval_problems": 4, "threads": 1}
    with checkpoints_every_other_round():
        frugal.run(recipe, "pairs", out=tmp_path / "whole", **options)
        with pytest.raises(Killed):
            frugal.run(recipe, "pairs", out=tmp_path / "cut", reporter=killing(5), **options)
        frugal.resume(tmp_path / "cut")
    assert left_behind(tmp_path / "cut") == left_behind(tmp_path / "whole")

"""Parts at work: joined where there are many, noted where they act, saved and loaded even inside wrappers."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from frugal.core.live import Joined, Live
from frugal.core.run import Run

from .toy import FILLED, base, patch


@dataclass(frozen=True)
class Gives:
    """A part that answers with what it was made with."""

    answer: Any

    def __call__(self, *inputs):
        return torch.tensor(self.answer) if isinstance(self.answer, tuple) else self.answer


@dataclass(frozen=True)
class Counting:
    """A part that remembers how many rounds it has seen."""

    inner: Any = None

    def begin(self, run):
        return LiveCounting(self, run)


class LiveCounting:
    def __init__(self, chosen, run):
        self.inner, self.rounds, self.tensor = chosen.inner, 0, torch.zeros(2)

    def __call__(self, x):
        return (self.inner(x) if self.inner else x) + self.rounds

    def learn(self, batch):
        self.rounds += batch
        self.tensor += batch

    def state_dict(self):
        return {"rounds": self.rounds, "tensor": self.tensor}

    def load_state_dict(self, state):
        assert state.keys() == {"rounds", "tensor"}
        self.rounds, self.tensor = state["rounds"], state["tensor"].clone()


@dataclass(frozen=True)
class Doubling:
    """A wrapper without memory."""

    inner: Any = None

    def __call__(self, x):
        return 2 * self.inner(x)


def rows(use):
    return SimpleNamespace(use=torch.tensor(use))


def live(*patches, **fields):
    return Live(sum(patches, base(**fields)), Run(10))


# -- joins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place, answers, joined",
    [
        ("credit.rewards", [(1.0, 2.0), (10.0, 20.0)], [11.0, 22.0]),
        ("update.weights", [(2.0, 3.0), (5.0, 0.0)], [10.0, 0.0]),
        ("start.keep", [(True, True, False), (True, False, False)], [True, False, False]),
    ],
)
def test_many_owners_are_joined(place, answers, joined):
    p = live(*(patch(name, add={place: Gives(answer)}) for name, answer in zip("ab", answers, strict=True)))
    assert getattr(p, place.split(".")[1])(None).tolist() == joined


def test_a_union_gives_all_answers_in_the_order_of_the_owners():
    p = live(patch("b", add={"update.extra": Gives("from b")}), patch("a", add={"update.extra": Gives("from a")}))
    assert p.extra(None) == ["from a", "from b"]


def test_an_empty_place_gives_the_identity():
    p = live()
    A, use = torch.tensor([0.1, -0.0, 3.0]), torch.tensor([True, False, True])
    assert torch.equal(A + p.rewards(None), A) and torch.equal(A * p.weights(None), A)
    assert torch.equal(use & p.keep(None), use)
    assert p.extra(None) == []
    assert not p.rewards and not p.keep and not p.extra


def test_a_place_with_owners_is_true():
    assert live(patch("a", add={"start.keep": Gives(True)})).keep


def test_a_one_is_called_by_the_last_word_of_its_place():
    assert live(fill={**FILLED, "credit.advantage": Gives(5)}).advantage(None) == 5
    with pytest.raises(AttributeError, match="no part 'surrogate'"):
        live().surrogate(None)


# -- notes ----------------------------------------------------------------------------------------------------


def test_notes_are_means_over_what_is_used():
    p = live(patch("a", add={"update.weights": Gives((1.0, 2.0, float("nan")))}))
    p.weights(None, rows([True, True, False]))  # (1 + 2) / 2, the masked NaN apart
    p.weights(None, rows([True, False, False]))  # with 1: (1 + 2 + 1) / 3
    assert p.report() == {"update.weights.a": pytest.approx(4 / 3)}
    assert p.report() == {}  # since the last report


def test_the_note_of_a_gate_is_the_share_that_it_keeps():
    p = live(patch("a", add={"start.keep": Gives((True, True, True, False))}))
    p.keep(None)
    assert p.report() == {"start.keep.a": 0.75}


def test_each_owner_is_noted_by_itself_before_the_join():
    p = live(patch("a", add={"credit.rewards": Gives(1.0)}), patch("b", add={"credit.rewards": Gives((2.0, 4.0))}))
    p.rewards(None)
    assert p.report() == {"credit.rewards.a": 1.0, "credit.rewards.b": 3.0}


def test_an_answer_of_another_shape_is_noted_whole():
    p = live(patch("a", add={"start.keep": Gives((True, False))}))
    p.keep(None, rows([True, False, False]))
    assert p.report() == {"start.keep.a": 0.5}


def test_the_note_of_how_episodes_begin_counts_those_that_begin_otherwise():
    p = live(patch("a", add={"update.extra": Gives({"task": [[0.5], None, [0.1]], "limit": [1, 1, 1]})}))
    p.extra(None)
    assert p.report() == {"update.extra.a": 2.0}


def test_nothing_used_is_nothing_noted():
    p = live(patch("a", add={"update.weights": Gives((1.0, 2.0))}))
    p.weights(None, rows([False, False]))
    assert p.report() == {}


def test_the_note_of_a_pair_is_its_first():
    noted = []
    Joined("union", {"x": Gives("y")}, lambda *what: noted.append(what))(1)
    Joined("union", {"x": lambda _: (1.0, 2.0)}, lambda *what: noted.append(what))(1)
    assert noted == [("x", "y", None), ("x", 1.0, None)]


def test_the_note_of_a_union_is_the_number_of_rows_added():
    p = live(patch("a", add={"update.extra": Gives([7, 8])}), patch("b", add={"update.extra": Gives(None)}))
    p.extra(None), p.extra(None)
    assert p.report() == {"update.extra.a": 2.0, "update.extra.b": 0.0}


def test_the_note_of_log_weights_leaves_out_what_is_never_drawn():
    p = live(patch("a", add={"update.weights": Gives((float("-inf"), 1.0, 2.0))}))
    p.weights(None)
    assert p.report() == {"update.weights.a": 1.5}


def test_a_part_reports_numbers_of_its_own_even_inside_a_wrapper():
    reporting = SimpleNamespace(report=lambda: {"share": 0.5})
    p = live(fill={**FILLED, "credit.advantage": Doubling(inner=reporting)})
    assert p.report() == {"credit.advantage.inner.share": 0.5}


# -- memory ---------------------------------------------------------------------------------------------------

STATEFUL = [
    pytest.param({"fill": {"credit.advantage": Counting()}}, 1 + 3, id="a part"),
    pytest.param(
        {"fill": {"credit.advantage": Counting()}, "wrap": {"credit.advantage": Doubling()}},
        2 * (1 + 3),
        id="a part in a wrapper without memory",
    ),
    pytest.param(
        {"fill": {"credit.advantage": Counting()}, "wrap": {"credit.advantage": Counting()}},
        1 + 3 + 3,
        id="a part in a wrapper with a memory of its own",
    ),
    pytest.param(
        {"fill": {"credit.advantage": Gives(1)}, "wrap": {"credit.advantage": Counting()}},
        1 + 3,
        id="a wrapper with memory around a part without",
    ),
]


@pytest.mark.parametrize("change, answer", STATEFUL)
def test_what_parts_learn_is_saved_and_loaded(change, answer):
    p, fresh = live(patch("a", **change)), live(patch("a", **change))
    p.learn(1), p.learn(2)
    assert p.advantage(1) == answer
    assert fresh.advantage(1) != answer
    fresh.load_state_dict(p.state_dict())
    assert fresh.advantage(1) == answer
    assert fresh.state_dict().keys() == p.state_dict().keys() != set()


def test_owners_of_one_place_keep_their_memories_apart():
    patches = [
        patch("a", add={"credit.rewards": Counting()}),
        patch("/home/my.file/b.py:f", add={"credit.rewards": Counting()}),
    ]
    p, fresh = live(*patches), live(*patches)
    p.learn(1)
    p.parts["credit.rewards.a"].rounds = 7
    fresh.load_state_dict(p.state_dict())
    assert {path: part.rounds for path, part in fresh.parts.items() if path.startswith("credit.rewards")} == {
        "credit.rewards.a": 7,
        "credit.rewards./home/my.file/b.py:f": 1,
    }


def test_a_recipe_can_be_at_work_twice_and_does_not_change():
    recipe = base() + patch("a", fill={"credit.advantage": Counting()})
    one, other = Live(recipe, Run(10)), Live(recipe, Run(10))
    one.learn(1)
    assert (one.advantage(0), other.advantage(0)) == (1, 0)
    assert recipe.parts["credit.advantage"] == Counting()

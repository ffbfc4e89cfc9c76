"""The replay buffer against a plain list of everything that was seen."""

import pytest
import torch

from frugal import maths
from frugal.control.env import Step, environments
from frugal.control.parts import Prioritised
from frugal.control.replay import Replay
from frugal.core.errors import BadTask
from frugal.core.run import Run
from tests.control.tinyenv import Counter, Pictures, act
from tests.control.tinyrun import launch


def filled(capacity, steps, rings=1, make=lambda: Counter(length=5), **more):
    """A buffer, and the steps that went into it."""
    env, store, seen = environments(make, rings, 0, **more), Replay(capacity, rings), []
    env.begin(torch.arange(rings))
    for _ in range(steps):
        step = env.step(act(env))
        store.add(step)
        seen.append(step)
        if step.ended.any():
            env.begin(step.ended.nonzero()[:, 0])
    return store, seen


@pytest.mark.parametrize("steps", (3, 7, 8, 9, 23))
@pytest.mark.parametrize("rings", (1, 3))
def test_pitfall_5_the_newest_transitions_are_there_and_no_others(steps, rings):
    store, seen = filled(8 * rings, steps, rings)
    rows = store.uniform(4000, torch.Generator().manual_seed(0))
    batch = store.window(rows, 1)
    found = {(ring, *map(float, pair)) for ring, pair in zip((rows % rings).tolist(), batch.state, strict=True)}
    wanted = {(ring, *map(float, step.obs[ring])) for step in seen[-8:] for ring in range(rings)}
    assert found == wanted and len(store) == min(steps, 8) * rings
    assert torch.equal(batch.next[:, 0, 1], batch.state[:, 1] + 1), "the successor at a cut is the true one"
    assert torch.equal(batch.cut[:, 0], batch.next[:, 0, 1] == 5)


def test_uniform_draws_each_row_as_often():
    store, _ = filled(10, 17)
    counts = store.uniform(20_000, torch.Generator().manual_seed(0)).bincount(minlength=10)
    assert len(counts) == 10 and ((counts - 2000).abs() < 5 * 2000**0.5).all()


@pytest.mark.parametrize("n", (2, 3, 7))
@pytest.mark.parametrize("steps", (6, 13, 30))
@pytest.mark.parametrize("rings", (1, 2))
def test_pitfall_4_n_step_windows_stop_at_ends_and_at_the_newest_row(n, steps, rings):
    store, seen = filled(12 * rings, steps, rings)
    kept = seen[-12:]
    batch = store.window(torch.arange(store.used), n)
    for b, row in enumerate(range(store.used)):
        ring, k = row % rings, 0
        start = next(i for i, step in enumerate(kept) if torch.equal(step.obs[ring], batch.state[b]))
        while k < n and start + k < len(kept):  # by the list of everything that was seen
            step = kept[start + k]
            assert torch.equal(batch.next[b, k], step.next[ring]) and bool(batch.valid[b, k])
            k += 1
            if step.ended[ring]:
                break
        assert int(batch.valid[b].sum()) == k and not batch.valid[b, k:].any()
        assert torch.equal(batch.last(batch.next)[b], kept[start + k - 1].next[ring])
    R, discount = maths.n_step(batch.reward, batch.valid, 0.5)
    k = batch.valid.sum(1).double()
    torch.testing.assert_close(R.double(), 2 - 2 * 0.5**k), torch.testing.assert_close(discount.double(), 0.5**k)


def test_pitfall_4_termination_within_a_window_is_its_last_step():
    store, _ = filled(12, 12, make=lambda: Counter(length=4, terminates=True))
    batch = store.window(torch.arange(12), 3)
    assert batch.last(batch.term).tolist() == [False, True, True, True] * 3


def test_rows_that_did_not_happen_are_not_kept():
    store, seen = Replay(12, 2), filled(12, 3, 2)[1]
    for i, step in enumerate(seen):
        step.valid = torch.tensor([True, i != 1])
        store.add(step)
    assert store.size.tolist() == [3, 2] and len(store) == 5
    rows = store.uniform(500, torch.Generator().manual_seed(0))
    assert set(rows.tolist()) == {0, 1, 2, 3, 4}


def test_pitfall_13_pictures_stay_uint8_and_are_kept_once_each():
    store, seen = filled(6, 9, make=Pictures)
    assert {name: (x.dtype, len(x)) for name, x in store.pictures.items()} == {
        "obs": (torch.uint8, 6),
        "next": (torch.uint8, 6),
    }
    batch = store.window(torch.arange(6), 2)
    assert batch.obs.dtype == torch.uint8 and batch.obs.shape == (6, 2, 16, 16, 3)
    assert set(batch.state[:, 0, 0, 0].tolist()) == {int(step.obs[0, 0, 0, 0]) for step in seen[-6:]}


def test_a_buffer_beyond_the_memory_is_refused_and_one_beyond_the_budget_is_not_allocated(tmp_path):
    recipe, many = "dqn(warmup=4, batch=4, capacity=1000000000)", 1_000_000_000
    with pytest.raises(BadTask, match=r"1000000000 transitions takes 1536 GB.*smaller capacity"):
        launch(recipe, lambda: Pictures(), samples=many, out=tmp_path / "run")
    run = launch(recipe, lambda: Pictures(), samples=20, out=tmp_path / "run")
    assert run.ledger.samples == 20, "the folder is free, and 20 transitions fit"


def test_columns_travel_with_their_rows():
    store, _ = filled(8, 11, columns=("twice",))
    batch = store.window(torch.arange(8), 1)
    assert torch.equal(batch.columns["twice"][:, 0, 0], 2 * batch.next[:, 0, 1])


@pytest.mark.parametrize("steps", (5, 11))
@pytest.mark.parametrize("make", (Counter, Pictures))
def test_a_buffer_comes_back_as_it_was(steps, make):
    store, _ = filled(8, steps, make=make)
    other = Replay(8, 1)
    other.load_state_dict({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in store.state_dict().items()})
    assert len(other) == len(store) and torch.equal(other.head, store.head)
    one, two = (s.window(torch.arange(store.used), 2) for s in (store, other))
    for name in ("obs", "next", "act", "reward", "term", "cut", "valid"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    Replay(8, 1).load_state_dict(Replay(8, 1).state_dict())  # an empty one


class TestPriorities:
    def live(self, **fields):
        return Prioritised(**fields).begin(Run(100))

    def test_pitfall_16_by_hand(self):
        store, _ = filled(4, 4)
        draw = self.live(alpha=1.0, beta=0.5, eps=0.0)
        draw.store = store
        draw.seen(torch.arange(4), torch.tensor([1.0, 2.0, 3.0, 2.0]))
        rows, weight = draw(store, 80_000, torch.Generator().manual_seed(0))
        share = rows.bincount(minlength=4) / len(rows)
        torch.testing.assert_close(share, torch.tensor([1 / 8, 1 / 4, 3 / 8, 1 / 4]), atol=0.01, rtol=0)
        # (M P)^-beta over the largest of the batch: P = 1/8 has the largest
        by_row = {row: w for row, w in zip(rows.tolist(), weight.tolist(), strict=True)}
        assert [by_row[row] for row in range(4)] == pytest.approx([1, 0.5**0.5, (1 / 3) ** 0.5, 0.5**0.5])

    def test_pitfall_16_what_is_overwritten_loses_its_priority(self):
        store, seen = filled(4, 4)
        draw = self.live(alpha=1.0, eps=0.0)
        draw.store = store
        draw.seen(torch.arange(4), torch.tensor([7.0, 0.0, 0.0, 0.0]))
        store.add(seen[0])
        assert store.priority.tolist() == [7, 0, 0, 0], "row 0 is new and has the largest so far"
        draw.seen(torch.tensor([0]), torch.tensor([0.5]))
        store.add(seen[1])
        assert store.priority.tolist() == [0.5, 7, 0, 0]

    def test_pitfall_16_with_n_steps_the_rows_are_those_of_the_first_step(self):
        store, _ = filled(10, 10)
        draw = self.live(alpha=1.0, eps=0.0)
        draw.store = store
        draw.seen(torch.arange(10), torch.tensor([0.0] * 3 + [1.0] + [0.0] * 6))
        rows, _ = draw(store, 50, torch.Generator().manual_seed(0))
        assert set(rows.tolist()) == {3} and store.window(rows, 3).rows is rows

    def test_rows_that_are_not_filled_are_never_drawn(self):
        store, _ = filled(100, 3)
        rows, _ = self.live()(store, 1000, torch.Generator().manual_seed(0))
        assert set(rows.tolist()) == {0, 1, 2}


def test_a_step_with_one_environment_is_one_row():
    x = torch.zeros(1, 2)
    yes, no = torch.ones(1).bool(), torch.zeros(1).bool()
    store = Replay(2, 1)
    store.add(Step(x, torch.ones(1, 1), torch.tensor([3.0]), x + 1, yes, no, yes))
    batch = store.window(torch.tensor([0]), 1)
    assert batch.reward.tolist() == [[3.0]] and batch.term.tolist() == [[True]] and batch.action.tolist() == [[1.0]]

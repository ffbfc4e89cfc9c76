"""Sampling that stops when enough groups have ended and goes on another time, against sampling to the end."""

import pytest
import torch

from frugal.core.ledger import Spent
from frugal.language.rollout import Sampler
from frugal.language.rows import Ask, rows_of_state
from tests.language.test_parallel import together
from tests.language.tinyrun import Letters, by_hand, exact, policy

LIMIT = 12


def sampler(net=None, **options) -> Sampler:
    return Sampler(net or policy(), Letters(), Spent(), limit=LIMIT, **options)


def asks(net, groups: int = 5, n: int = 3) -> list[Ask]:
    return [Ask(q, net.encode(q.prompt), g, n) for g, q in enumerate(Letters().problems("train")[:groups])]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_stops_at_the_step_at_which_enough_groups_have_ended():
    """Each row is that of the same random numbers to the end, cut at that step."""
    net = policy()
    whole = sampler(net)(asks(net), seeded())
    ends = whole.length.view(5, 3).max(1).values.sort().values  # of the groups
    assert len(ends.unique()) >= 3
    for enough in range(1, 6):
        part, stop = sampler(net), int(ends[enough - 1])
        rows = part.go_on(None, asks(net), seeded(), enough)
        assert torch.equal(rows.length, whole.length.clamp(max=stop)) and part.spent.steps == stop
        assert part.spent.tokens == int(rows.length.sum()) and part.spent.samples == 0
        assert torch.equal(rows.done, whole.done & (whole.length <= stop))
        assert torch.equal(rows.tokens, whole.tokens[:, :stop]) or stop == LIMIT
        assert torch.equal(rows.old, whole.old[:, : rows.old.shape[1]] * rows.own)


def test_groups_that_have_ended_before_count_and_cost_nothing():
    net = policy()
    rows = sampler(net).go_on(None, asks(net), seeded(), enough=2)
    part = sampler(net)
    again = part.go_on(rows, [], seeded(1), enough=2)
    assert part.spent.steps == part.spent.tokens == 0 and torch.equal(again.tokens, rows.tokens)


def test_what_goes_on_keeps_what_it_has_to_the_bit_and_never_passes_the_limit():
    net, later = policy(), policy(seed=9)
    part = sampler(net, columns={"second": lambda logits, token, hidden: logits[:, :2]})
    before = part.go_on(None, asks(net, 3), seeded(), enough=1)
    part.net = later
    new = asks(net, 5)[3:]
    after = part.go_on(before, new, seeded(1))
    n, width = len(before), before.tokens.shape[1]
    going = ~part.ended(before)
    assert going.any() and not going.all() and part.ended(after).all() and len(after) == n + 6
    for name in ("tokens", "old", "behaviour", "own"):
        kept = getattr(after, name)[:n, :width]
        assert torch.equal(torch.where(before.own, kept, 0), torch.where(before.own, getattr(before, name), 0))
    column, first = after.columns["old.second"], before.columns["old.second"]
    assert torch.equal(column[:n, :width][before.own], first[before.own])
    assert (after.length <= LIMIT).all() and torch.equal(after.own.sum(1), after.length)
    assert torch.equal(after.length[:n] > before.length, going)
    assert part.spent.tokens == int(after.length.sum())
    models = exact(net), exact(later)
    for b in range(len(after)):
        length = int(after.length[b])
        cut = int(before.length[b]) if b < n else 0
        logp = [by_hand(model, after.prompts[b], after.tokens[b, :length].tolist()).detach() for model in models]
        wanted = torch.cat([logp[0][:cut], logp[1][cut:]])
        torch.testing.assert_close(after.old[b, :length].double(), wanted, rtol=0, atol=1e-5)


def test_a_response_that_goes_on_is_as_hot_as_its_own_position_says():
    net = policy()
    part = sampler(net, temperature=lambda logits, t: 1.0 + t)
    rows = part.go_on(part.go_on(None, asks(net, 3), seeded(), 1), asks(net)[3:], seeded(1))
    model = exact(net)
    for b, length in enumerate(rows.length.tolist()):
        ids = torch.tensor([[*rows.prompts[b], *rows.tokens[b, :length].tolist()]])
        logits = model(ids).logits[0, len(rows.prompts[b]) - 1 : -1] / (1.0 + torch.arange(length))[:, None]
        wanted = logits.log_softmax(-1).gather(1, rows.tokens[b, :length, None])[:, 0].detach()
        torch.testing.assert_close(rows.behaviour[b, :length].double(), wanted, rtol=0, atol=1e-5)


def test_rows_come_back_from_a_state_that_json_and_safetensors_hold():
    net, pool = policy(), Letters().problems("train")
    part = sampler(net, columns={"first": lambda logits, token, hidden: logits[:, 0]})
    rows = part.go_on(None, asks(net), seeded(), enough=2).put(score=torch.arange(15.0))
    state = rows.as_state(pool)
    back = rows_of_state(state, pool)
    assert state["problems"] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert len({value.data_ptr() for value in tensors}) == len(tensors), "safetensors refuses what shares memory"
    for name, value in vars(rows).items():
        same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        if name != "columns":
            assert same(value, getattr(back, name)), name
    assert torch.equal(back.columns["old.first"], rows.columns["old.first"]) and back.columns.keys() == {"old.first"}


def in_two_goes(folder, groups, n):
    from frugal.core import parallel

    net = policy()
    part = sampler(net)
    first = part.go_on(None, asks(net, groups, n), seeded(), enough=2)
    second = part.go_on(first, [], seeded(1))
    result = [(x.tokens, x.length, x.done) for x in (first, second)], part.spent
    torch.save(result, folder / f"{parallel.rank}.pt")


@pytest.mark.parametrize("groups, n, processes", [(5, 3, 2), (2, 1, 3)])
def test_several_processes_stop_where_one_does(tmp_path, groups, n, processes):
    in_two_goes(tmp_path, groups, n)
    wanted, spent = torch.load(tmp_path / "0.pt", weights_only=False)
    together(in_two_goes, tmp_path, groups, n, processes=processes)
    for rank in range(processes):
        got, theirs = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert theirs == spent
        for a, b in zip(got, wanted, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

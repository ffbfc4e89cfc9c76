"""APRIL: which groups leave, what their ratios begin from, and that nothing is lost on the way."""

import copy

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.core.run import Run
from frugal.language.methods.april import Carried, april
from frugal.language.recipes import dapo, grpo, rloo, sft
from frugal.language.rollout import Sampler
from frugal.language.rows import Ask
from frugal.language.slots import Settings
from tests.language.test_pitfalls_resume import Killed, checkpoints_every_other_round, killing, left_behind
from tests.language.tinyrun import (
    Constant,
    Dialogue,
    Letters,
    assert_gradient,
    by_hand,
    exact,
    gradients,
    launch,
    policy,
    saved,
    spy,
)

N, G = 3, 2  # groups of a round, responses of a group


class Rounds:
    """A queue in rounds of `N` prompts, as the loop calls it."""

    def __init__(self, oversample: int, samples: int = 1000):
        self.run = Run(samples)
        self.run.settings, self.net = Settings(prompts=N, group=G), policy()
        self.sampler = Sampler(self.net, Letters(), self.run.ledger, limit=6)
        self.queue = Carried(oversample).begin(self.run)

    def __call__(self, wanted: int = N, attempt: int = 0):
        problems = Letters().problems("train")[:wanted]
        asks = [Ask(q, self.net.encode(q.prompt), g, G) for g, q in enumerate(problems)]
        return self.queue(asks, self.sampler, self.run.rng("collect", attempt))

    def groups(self) -> list[int]:
        return [] if self.queue.rows is None else self.queue.rows.group.unique().tolist()


def test_a_round_begins_when_there_are_oversample_times_as_many_groups_as_it_takes():
    rounds = Rounds(oversample=3)
    assert rounds(attempt=0) is None and rounds(attempt=1) is None and rounds.run.ledger.steps == 0
    assert rounds.run.ledger.samples == 2 * N * G, "charged when they are asked for"
    assert len(rounds(attempt=2)) == N * G and len(rounds.groups()) == 2 * N
    rounds.run.clock += 1
    assert len(rounds()) == N * G and len(rounds.groups()) == 2 * N, "from now on as many come as leave"


def test_nothing_is_lost_doubled_or_cut_and_the_oldest_that_have_ended_leave():
    rounds, left, tokens = Rounds(oversample=2), [], 0
    rounds()
    for _ in range(12):
        rows = rounds(attempt=1)
        gone = rows.group.unique().tolist()
        assert rounds.sampler.ended(rows).all() and rows.group.tolist() == [g for g in gone for _ in range(G)]
        still = rounds.queue.rows
        ended = [g for g in rounds.groups() if rounds.sampler.ended(still)[still.group == g].all()]
        assert len(gone) == N and all(g > max(gone) for g in ended), "one that has ended stays only behind older ones"
        left, tokens = left + gone, tokens + int(rows.length.sum())
        rounds.run.clock += 1
    assert sorted(left + rounds.groups()) == list(range(rounds.queue.groups)) == list(range(13 * N))
    assert left != sorted(left), "some were overtaken"
    assert rounds.run.ledger.samples == 13 * N * G
    assert rounds.run.ledger.tokens == tokens + int(rounds.queue.rows.length.sum())


def test_a_round_takes_as_many_steps_as_the_last_of_the_groups_that_it_needs():
    rounds, plain = Rounds(oversample=2), Rounds(oversample=1)
    rounds(), plain.queue.asks.extend(rounds.queue.asks)
    rows, steps = rounds(attempt=1), rounds.run.ledger.steps
    whole = plain.sampler.go_on(None, [*rounds_asks(rounds)], rounds.run.rng("collect", 1))
    ends = whole.length.view(2 * N, G).max(1).values
    assert steps == ends.sort().values[N - 1] < ends.max()
    assert set(rows.group.tolist()) <= set((ends <= steps).nonzero()[:, 0].tolist())


def rounds_asks(rounds):
    problems = Letters().problems("train")[:N]
    return [Ask(q, rounds.net.encode(q.prompt), g + N * k, G) for k in range(2) for g, q in enumerate(problems)]


def test_only_what_earlier_rounds_sampled_is_stale():
    rounds = Rounds(oversample=2)
    rounds()
    assert not rounds(attempt=1).stale.any()
    before = rounds.queue.rows
    assert not rounds(wanted=1, attempt=2).stale.any(), "the weights are the same within a round"
    before = rounds.queue.rows
    rounds.run.clock += 1
    rows = rounds()
    for b, g in enumerate(rows.group.tolist()):
        old = before.length[before.group == g]
        had = int(old[b % G]) if len(old) else 0
        assert rows.stale[b].tolist() == [t < had for t in range(rows.tokens.shape[1])]
    assert rows.stale.any() and not rows.stale[rows.own].all()


def test_the_last_samples_of_a_budget_are_trained_and_not_waited_for():
    rounds = Rounds(oversample=2, samples=N * G)
    assert len(rounds()) == N * G and rounds.run.left() == 0
    assert launch(grpo(prompts=2, group=2) + april(), samples=4).ledger.gradient_steps == 1


def test_the_ratio_of_a_token_begins_from_the_weights_that_sampled_it():
    """A stored log-probability is, by a plain forward pass, that of the present model, or of an earlier one where the
    token is stale; along a response the models only get younger. The gradient is that of PPO's clipped ratio to it."""
    net, seen, models = policy(), [], []
    recipe = grpo(prompts=N, group=4, lr=0.03, mean="token") + april() + spy(seen)

    class Watched(Letters):
        def score(self, problems, completions):
            models.append(exact(net))  # once for each round's rows, after sampling and before the step
            return super().score(problems, completions)

    with gradients() as grads:
        run = launch(recipe, Watched(), net, samples=4 * N * 5)
    models = models[1:-1]  # without those of evaluation
    assert len(models) == len(seen) == len(grads) == 4
    stale = 0
    for k, ((_, mini), grad) in enumerate(zip(seen, grads, strict=True)):
        terms = []
        for b, n in enumerate(mini.length.tolist()):
            each = [by_hand(model, mini.prompts[b], mini.tokens[b, :n].tolist()) for model in models[: k + 1]]
            said = (torch.stack(each).detach() - mini.old[b, :n].double()).abs() < 1e-5  # [k + 1, n]
            by = 0
            for t, is_stale in enumerate(mini.stale[b, :n].tolist()):
                by = next(i for i in range(by if is_stale else k, k if is_stale else k + 1) if said[i, t])
            old = torch.where(mini.stale[b, :n], mini.old[b, :n].double(), each[k].detach())
            ratio, A = (each[k] - old).exp(), mini.A[b, :n].double()
            terms.append(-torch.minimum(ratio * A, ratio.clamp(0.8, 1.2) * A).sum())
        assert_gradient(grad, sum(terms) / mini.use.sum(), models[k])
        stale += int(mini.stale.sum())
        if mini.stale.any():
            far = (said_now(models[k], mini) - mini.old)[mini.stale].abs().max()
            assert far > 0.05, "the weights have moved"
    assert stale > 0
    line = [line for line in run.curve if line["kind"] == "train"][-1]
    assert line["stale"] == pytest.approx(float(mini.stale[mini.use].float().mean()))


def said_now(model, mini):
    out = torch.zeros_like(mini.old)
    for b, n in enumerate(mini.length.tolist()):
        out[b, :n] = by_hand(model, mini.prompts[b], mini.tokens[b, :n].tolist()).detach().float()
    return out


def test_dynamic_sampling_asks_again_for_what_it_rejects():
    run = launch(dapo(prompts=2, group=2) + april(), samples=60)
    assert run.ledger.rejected_groups > 0 and run.ledger.samples == 60
    assert all(line["groups"] == 2 for line in run.curve[:-2] if line["kind"] == "train")
    nobody = launch(dapo(prompts=2, group=2) + april(), Constant(), samples=60)
    assert nobody.ledger.gradient_steps == 0 and nobody.ledger.samples == 60


def test_a_response_that_is_longer_than_a_new_limit_has_ended():
    rounds = Rounds(oversample=2)
    rounds()
    rounds(attempt=1)
    going = ~rounds.sampler.ended(rounds.queue.rows)
    longest = int(rounds.queue.rows.length[going].max())
    before = copy.copy(rounds.queue.rows)
    rounds.sampler.limit, rounds.run.clock = longest, 1
    rows = rounds()
    for b in (going & (before.length == longest)).nonzero()[:, 0].tolist():
        same = [r for r in (rows, rounds.queue.rows) if int(before.group[b]) in r.group.tolist()]
        assert all(int(r.length[r.group == before.group[b]].max()) == longest for r in same)


RECIPE = "grpo(prompts=2, group=3, lr=1e-2)+april+hapo"


def begin(model, out, reporter=None):
    options = {"samples": 60, "seed": 3, "evaluations": 2, "eval_problems": 2, "eval_k": 1, "threads": 1}
    return frugal.run(RECIPE, Letters(), model=model, dtype="float32", out=out, reporter=reporter, **options)


@pytest.mark.parametrize("at", [3, 4, 6, 9])
def test_a_killed_run_resumes_with_what_was_unfinished(tmp_path, at):
    model = saved(tmp_path / "start")
    with checkpoints_every_other_round():
        begin(model, tmp_path / "whole")
        with pytest.raises(Killed):
            begin(model, tmp_path / "out", killing(at))
        frugal.resume(tmp_path / "out", task=Letters())
    whole, resumed = left_behind(tmp_path / "whole"), left_behind(tmp_path / "out")
    assert any(line.get("stale") for line in whole[0]) and whole == resumed


def test_a_checkpoint_that_is_saved_again_before_a_round_keeps_its_rows():
    rounds = Rounds(oversample=2)
    rounds()
    rounds(attempt=1)
    state = rounds.queue.state_dict()
    other = Rounds(oversample=2)
    other.queue.load_state_dict(state)
    again = other.queue.state_dict()
    assert again.keys() == state.keys() and torch.equal(again["tokens"], state["tokens"]) and again["groups"] == 2 * N


def test_what_it_cannot_do_is_refused():
    with pytest.raises(BadTask, match="one turn"):
        launch(grpo(prompts=2, group=2) + april(), Dialogue(), samples=8)
    for base in (rloo(), sft()):
        with pytest.raises(Clash, match=r"makes learn\.clip dead"):
            base + april()
    for wrong in (0, 1.5):
        with pytest.raises(BadRecipe, match="whole number"):
            april(oversample=wrong)

"""DR-PO: where responses begin, what of them is trained, who sees all of them, and what it is charged."""

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch
from frugal.core.run import Run
from frugal.language.parts import Verified
from frugal.language.rollout import Sampler, completions
from frugal.language.rows import Ask
from frugal.preference import rlhf
from frugal.preference.methods.dr_po import FromPrefixes, WholeResponse, dr_po
from tests.language.tinyrun import Dialogue, assert_gradient, by_hand, exact, gradients, launch, policy, spy
from tests.preference.tinyrun import PAIRS, Compared

CHOSEN = [chosen for chosen, _ in PAIRS]  # of the first four problems


def asks(net, n=1, copies=1):
    problems = Compared().problems("train")[:4] * copies
    return [Ask(q, net.encode(q.prompt), g, n) for g, q in enumerate(problems)]


def collected(share=1.0, n=1, copies=1, limit=6):
    net, run = policy(), Run(10_000)
    sampler = Sampler(net, Compared(), run.ledger, limit=limit)
    rows = FromPrefixes(share).begin(run)(asks(net, n, copies), sampler, run.rng("collect"))
    return rows, net, run


def begun(rows):
    """How many tokens each row was given."""
    return (rows.valid & ~rows.own).sum(1)


def test_cuts_are_uniform_from_one_token_to_all_but_the_end():
    """Lengths of 3, 1, 4 and 4 letters, 500 prompts each: a cut of k has 1 / letters of them, within five sigma."""
    rows, _, _ = collected(copies=500)
    cuts = begun(rows).view(500, 4)
    for i, text in enumerate(CHOSEN):
        counts = cuts[:, i].bincount(minlength=len(text) + 1)
        p = 1 / len(text)
        assert counts[0] == 0 and len(counts) == len(text) + 1
        assert all(abs(n / 500 - p) <= 5 * (p * (1 - p) / 500) ** 0.5 for n in counts[1:].tolist())


def test_a_response_goes_on_where_the_preferred_one_was_cut():
    rows, net, run = collected(n=3)
    texts = completions(net, rows.put(own=rows.valid))
    for b, cut in enumerate(begun(rows).tolist()):
        chosen = CHOSEN[b // 3]
        assert texts[b].startswith(chosen[:cut]) and cut == begun(rows)[b // 3 * 3], "a group begins alike"
        assert rows.own[b, cut : rows.length[b]].all() and not rows.own[b, :cut].any() and rows.length[b] > cut
    assert (rows.length <= 6).all() and rows.drawn.all() and rows.score.isnan().all()
    assert (run.ledger.samples, run.ledger.tokens) == (12, int(rows.own.sum()))


def test_old_is_the_policys_after_what_was_given():
    rows, net, _ = collected(n=2)
    for b in range(len(rows)):
        n, own = int(rows.length[b]), rows.own[b]
        wanted = by_hand(net.model, rows.prompts[b], rows.tokens[b, :n].tolist())
        torch.testing.assert_close(rows.old[b][own], wanted[own[:n]], rtol=1e-4, atol=1e-5)


def test_the_share_of_prompts_that_begin_so():
    rows, _, _ = collected(share=0.25, copies=400)
    assert 0.21 < float((begun(rows) > 0).float().mean()) < 0.29
    assert not begun(collected(share=0.0)[0]).any()


def test_a_score_sees_what_was_given_too():
    rows, net, run = collected()
    sampler = Sampler(net, Compared(), run.ledger, limit=6)
    score = WholeResponse(Verified())(rows, sampler).score
    assert score.tolist() == pytest.approx(Compared().score([], completions(net, rows.put(own=rows.valid))))
    assert (score > Verified()(rows, sampler).score).any(), "each chosen response begins with what is wanted"


def test_the_gradient_in_the_loop_is_that_of_own_tokens_given_the_prefix():
    """REINFORCE by a group of two, so that the advantage is the difference of the whole responses' scores."""
    net, seen, task = policy(), [], Compared()
    model = exact(net)
    verified = Patch(fill={"credit.score": Verified()}, name="verified", domain="preference")
    recipe = rlhf(baseline="group", beta=0.0, prompts=4, group=2, mean="token", lr=0) + dr_po() + verified
    with gradients() as grads:
        launch(recipe + spy(seen), task, net, samples=8)
    ((_, mini),) = seen
    loss = 0
    for b in range(len(mini)):
        n, own = int(mini.length[b]), mini.own[b]
        logp = by_hand(model, mini.prompts[b], mini.tokens[b, :n].tolist())[own[:n]]
        loss = loss - float(mini.A[b][own][0]) * (logp - logp.detach()).exp().sum()
    assert (~mini.own & mini.valid).any() and mini.A.abs().max() > 0.1
    assert_gradient(grads[0], loss / int(mini.own.sum()), model)


def test_evaluation_begins_at_the_prompt_and_the_reward_model_reads_all():
    options = {"samples": 32, "evaluations": 1, "eval_problems": 4, "threads": 1}
    run = frugal.run("rlhf(labels=32, prompts=16)+dr-po", "rm-lab", **options)
    lines = [line for line in run.curve if line["kind"] == "evaluation"]
    assert lines[0]["win"] == 0.5 and run.ledger.labels == 32
    assert run.ledger.demonstrations == run.ledger.samples == 32, "every response begins within one"


def test_what_it_refuses():
    class Talking(Compared):
        reply = Dialogue.reply

    with pytest.raises(BadTask, match="responses of one turn"):
        FromPrefixes(1.0).check(Talking(), policy(), 12)
    with pytest.raises(BadTask, match="without a pair"):
        FromPrefixes(1.0).check(Dialogue(), policy(), 12)
    with pytest.raises(BadRecipe, match="from 0 to 1"):
        dr_po(share=1.5)

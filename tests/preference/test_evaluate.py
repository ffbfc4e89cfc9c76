"""What is measured: at the start by definition, later against plain passes and counts."""

import pytest
import torch

import frugal
from frugal.core.run import Run
from frugal.language.policy import Policy
from frugal.preference.evaluate import Evaluation
from tests.language.tinyrun import by_hand, exact, policy, sampled
from tests.preference.tinyrun import Compared


def measured(net, task=None, problems=12, k=1):
    start = Policy(policy().model, policy().tokenizer)
    start.freeze_reference()
    run = Run(8)
    return Evaluation(task or Compared(), 6, problems=problems, k=k, start=start)(net, run, 0), run.ledger.evaluation


def test_the_start_wins_half_and_has_not_moved():
    found, spent = measured(policy())
    assert found["win"] == 0.5 and found["kl"] == 0.0 and found["accuracy"] == 0.5
    assert spent.samples == 24 and spent.labels <= 12 and spent.verifier_calls == 12


def test_more_responses_to_each_problem():
    found, spent = measured(policy(5), k=4)
    assert spent.samples == 2 * 4 * 12 and found["win"] * 96 == pytest.approx(round(found["win"] * 96))
    assert found["accuracy"] == measured(policy(5))[0]["accuracy"] and found["kl"] != measured(policy(5))[0]["kl"]


def test_accuracy_is_the_share_of_pairs_that_the_log_ratio_ranks_right():
    net, task = policy(5), Compared()
    found, _ = measured(net, task)
    now, start = exact(net), exact(policy())

    def z(problem, side):
        prompt = net.encode(problem.prompt)
        response = [*net.tokenizer(problem.columns[side])["input_ids"], net.end]
        return float((by_hand(now, prompt, response) - by_hand(start, prompt, response)).detach().sum())

    right = [z(p, "chosen") > z(p, "rejected") for p in task.problems("test")]
    assert found["accuracy"] == pytest.approx(sum(right) / len(right)) and 0 < sum(right) < len(right)


def test_wins_and_rewards_are_the_oracles():
    class Sure(Compared):
        def prefer(self, problems, first, second):
            return [0.9] * len(first)

    found, _ = measured(policy(5), Sure())
    assert 0.5 < found["win"] <= 0.9 and found["win_data"] == pytest.approx(0.9)
    assert 0 <= found["reward"] <= 1 and found["kl"] > 0 and found["length"] > 1


def test_the_divergence_of_pairs_is_what_the_samples_say():
    """The exact figures of the bandit against those from many samples of the same policies; one token, one KL."""
    options = {"samples": 512, "evaluations": 1, "threads": 1}
    run = frugal.run("dpo(prompts=64, lr=1e-3)", "pairs", **options)
    found = [line for line in run.curve if line["kind"] == "evaluation"][-1]
    assert found["kl"] > 0.02 and found["win"] > 0.5
    from frugal.preference.tasks.pairs import ResponsePairs
    from frugal.preference.tasks.tiny import load_tiny

    class Drawn(ResponsePairs):
        exact = None

        def problems(self, split):
            return list(super().problems(split)) * 16

    start = Policy(*load_tiny("tiny-pairs"))
    start.freeze_reference()
    drawn = Evaluation(Drawn(), 1, problems=2048, k=1, start=start)(run.net, Run(8), 0)
    assert drawn["kl"] == pytest.approx(found["kl"], rel=1e-4)
    assert drawn["reward"] == pytest.approx(found["reward"], abs=0.1)
    assert drawn["win"] == pytest.approx(found["win"], abs=0.03)


def test_the_divergence_is_summed_over_the_tokens_of_a_sample():
    """By plain passes over each whole text, in float64."""
    net, start = policy(5), policy()
    rows = sampled(net)
    evaluation = Evaluation(Compared(), 6, start=Policy(start.model, start.tokenizer), micro_tokens=20)
    evaluation.start.freeze_reference()
    with torch.no_grad():
        found, wanted = evaluation._divergence(net, rows), 0.0
        for b, prompt in enumerate(rows.prompts):
            ids = torch.tensor([[*prompt, *rows.tokens[b, : rows.length[b]].tolist()]])
            now, before = (exact(p)(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for p in (net, start))
            wanted += float((now.exp() * (now - before)).sum()) / len(rows)
    assert found == pytest.approx(wanted, rel=1e-4) and wanted > 1


def test_evaluation_leaves_training_bit_identical():
    found = []
    for evaluations, problems in ((1, 2), (8, 6)):
        options = {"samples": 24, "evaluations": evaluations, "eval_problems": problems, "threads": 1}
        run = frugal.run("online-dpo(prompts=4, lr=1e-3)", "rm-lab", **options)
        lines = [line for line in run.curve if line["kind"] == "train"]
        found.append((torch.cat([p.detach().flatten() for p in run.net.model.parameters()]), lines))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


def test_a_comparison_draws_reward_against_divergence(tmp_path):
    arms = ["online-dpo(prompts=8, lr=1e-3)", "rlhf(labels=16, prompts=8)", "grpo(prompts=2, group=4)"]
    options = {"samples": 16, "seeds": 1, "processes": 1, "evaluations": 2, "eval_problems": 4}
    summary = frugal.compare("rm-lab", arms, out=tmp_path, **options)
    assert summary["metric"] == "held-out win rate against the start"
    assert [len(way) for arm in summary["arms"] for way in arm["frontier"]] == [3, 3, 3]
    assert all(arm["frontier"][0][0][0] == 0.0 for arm in summary["arms"])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2 and "KL to the start" in page

"""SIRI: the waves of the limit by hand, what the loop makes of them, and what a cut response is worth."""

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.core.schedule import linear, wave
from frugal.language.loop import settled
from frugal.language.methods.siri import siri
from frugal.language.recipes import grpo
from frugal.language.tasks import built_in
from tests.language.tinyrun import launch, policy, spy


def limits(options, task_limit, points):
    settings = settled((grpo() + siri(**options)).settings, task_limit, policy())
    return [settings.at(progress).max_tokens for progress in points]


def test_the_schedule_by_hand():
    """Two cycles of half a run each, between 64 and 16: largest at 0, 1/2 and 1, smallest at 1/4, the middle at 1/8."""
    points = [0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1]
    assert limits({"low": 0.25, "cycles": 2.0}, 64, points) == [64, 40, 16, 40, 64, 16, 64]
    # the paper's own numbers: (16384 + 8192) / 2 + (16384 - 8192) / 2 cos(2 pi 160 / 640) in step 160 of 1920
    assert limits({}, 16384, [0, 160 / 1920, 320 / 1920, 640 / 1920]) == [16384, 12288, 8192, 16384]


def test_the_limit_is_a_share_of_the_task_and_a_number_of_tokens_stays_one():
    for given, wanted in ((None, 30), (1.0, 30), (0.5, 15), (1, 1), (7, 7), (0.001, 1)):
        assert settled(grpo(max_tokens=given).settings, 30, policy()).max_tokens == wanted
    falling = settled(grpo(max_tokens=linear(30, 10)).settings, 64, policy())
    assert [falling.at(p).max_tokens for p in (0, 0.5, 1)] == [30, 20, 10]


def test_responses_are_cut_at_the_present_limit_and_evaluation_is_not():
    """Rounds of 8 samples of 32: one cycle makes the limits 6, 3.75, 1.5 and 3.75."""
    seen: list = []
    run = launch(grpo(prompts=2, group=4) + siri(low=0.25, cycles=1.0) + spy(seen), samples=32, evaluations=4)
    assert [mini.limit for _, mini in seen] == [6, 4, 2, 4]
    assert all(int(mini.length.max()) == mini.limit for _, mini in seen), "the example cuts nothing"
    evaluated = [line["length"] for line in run.curve if line["kind"] == "evaluation"]
    assert len(evaluated) == 5 and min(evaluated) > 4


def test_an_answer_beyond_the_limit_is_worth_nothing():
    task, response = built_in("overthink"), "?7+0...=7..!7"
    problem = next(p for p in task.problems("train") if p.reference == "7")
    assert task.score([problem] * 2, [response, response[:12]]) == [1.0, 0.0]


def test_two_limits_clash():
    with pytest.raises(Clash, match="max_tokens"):
        grpo(max_tokens=16) + siri()
    assert str((grpo() + siri()).settings.max_tokens) == "wave(1.0, 0.5, 3.0)"
    assert (grpo(lr=wave(1e-4, 1e-5, 2)) + siri()).settings.at(0.25).lr == pytest.approx(1e-5)


@pytest.mark.parametrize("options", [{"low": 0.0}, {"low": 1.5}, {"cycles": 0.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give 0 < low <= 1"):
        siri(**options)


def test_a_whole_limit_is_no_change():
    assert torch.equal(
        *(after(recipe) for recipe in (grpo(prompts=2, group=4), grpo(prompts=2, group=4) + siri(low=1)))
    )


def after(recipe):
    return torch.cat([p.detach().flatten() for p in launch(recipe, samples=16).net.model.parameters()])

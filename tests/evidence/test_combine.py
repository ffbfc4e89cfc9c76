"""Savings multiply, or they do not: the arithmetic by hand, and a matrix from runs of seconds."""

import json
import math

import numpy as np
import pytest

from frugal.core.errors import BadRun
from frugal.evidence.combine import _interaction, _together, combine, draw, matrix, sentences

GRID = list(range(0, 4001, 2))
ALONE = {"a": "base+a", "b": "base+b"}


def curves(took, arm):
    """One curve a seed: 0, and 1 from 8 samples before `took` on, since a mean of five has to reach the target."""
    jitter = [0.96, 0.98, 1.02, 1.04]  # in another order with each arm, so that pairs of seeds differ
    return [[float(x >= took * jitter[(arm + seed) % 4] - 8) for x in GRID] for seed in range(4)]


def summary(both, base=2000, a=1000, b=500):
    arms = {"base": base, "base+a": a, "base+b": b} | ({"base+a+b": both} if both else {})
    race = {"fraction": 0.95, "target": 0.95}
    rows = [
        {"recipe": arm, "curves": curves(took, i), "statistics": race} for i, (arm, took) in enumerate(arms.items())
    ]
    fixed = {"task": "t", "samples": 4000, "seeds": 4, "metric": "m", "larger_is_better": True}
    return fixed | {"grid": GRID, "arms": rows}


@pytest.mark.parametrize(
    ("both", "word"),
    [(250, "no interaction shown"), (100, "compound"), (400, "overlap"), (800, "cancel")],
)
def test_two_and_four_times_fewer_make_eight_if_they_add_up(both, word):
    """Alone 2x and 4x, all arms with the same four jitters and rounded to the grid."""
    found = matrix(summary(both), ALONE, {("a", "b"): ("base+a+b", "")})
    [pair] = found["pairs"]
    times = {arm: np.mean(np.log(taken)) for arm, taken in found["times"].items()}
    assert found["times"]["base"] == [1920, 1960, 2040, 2080]
    assert found["alone"]["a"]["ratio"] == pytest.approx(2, rel=0.01)
    assert pair["expected"] == pytest.approx(8, rel=0.01)
    assert found["alone"]["a"]["ratio"] == pytest.approx(math.exp(times["base"] - times["base+a"]))
    assert pair["ratio"] == pytest.approx(math.exp(times["base"] - times["base+a+b"]))
    assert pair["expected"] == pytest.approx(found["alone"]["a"]["ratio"] * found["alone"]["b"]["ratio"])
    assert pair["interaction"] == pytest.approx(pair["ratio"] / pair["expected"])
    assert pair["word"] == word


@pytest.mark.parametrize(
    ("took", "word"),
    [
        ({"both": 9000, "a": 9000, "b": 9000}, "no interaction shown"),  # 2 by the budget that all three are charged
        ({"both": 1000, "base": 9000, "a": 3800, "b": 3800}, "no interaction shown"),  # 3.6, and less in truth
        ({"both": 1000, "a": 9000, "b": 200}, "no interaction shown"),  # 0.4, and more in truth
        ({"both": 3000, "a": 9000, "b": 3000}, "compound"),  # 2, and more in truth
        ({"both": 9000, "base": 9000}, "cancel"),  # 0.03, and less in truth
    ],
)
def test_what_the_budget_alone_could_make_is_no_interaction(took, word):
    """A seed that takes 9000 is charged 4000."""
    [pair] = matrix(summary(**took), ALONE, {("a", "b"): ("base+a+b", "")})["pairs"]
    assert pair["restricted"] and pair["word"] == word


def test_an_interval_allows_for_the_number_of_pairs():
    """Noise of a standard deviation of one tenth on four seeds: t(3) at 1 - 0.05/2 and at 1 - 0.05/6, by a table."""
    noise = 0.1 * np.array([1, -1, 1, -1]) * math.sqrt(3 / 4)
    one = _interaction(noise, 0 * noise, 0 * noise, 1 - 0.05)
    three = _interaction(noise, 0 * noise, 0 * noise, 1 - 0.05 / 3)
    assert np.log(one["interaction_interval"]) == pytest.approx([-0.15912, 0.15912], abs=1e-4)
    assert np.log(three["interaction_interval"]) == pytest.approx([-0.24287, 0.24287], abs=1e-4)


def test_a_clash_and_a_base_that_does_not_rise_are_told(tmp_path):
    found = matrix(summary(0), ALONE, {("a", "b"): ("", "both want it")})
    assert found["pairs"] == [{"patches": ["a", "b"], "clash": "both want it"}]
    assert sentences(found) == ["a and b clash: both want it"]
    draw(found, tmp_path / "matrix.png")
    flat = summary(0)
    flat["arms"][1]["statistics"]["target"] = None
    assert "does not rise on t" in sentences(matrix(flat, ALONE, {}))[0]
    with pytest.raises(BadRun, match="takes two or more"):
        combine("grpo", ["ead"], ["modchain"], out=tmp_path)


def test_a_matrix_from_runs(tmp_path):
    options = {"samples": 16, "seeds": 2, "processes": 2, "evaluations": 2, "eval_problems": 4}
    [found] = combine("grpo(prompts=2, group=4)", ["ead", "capo"], ["modchain"], out=tmp_path, **options)
    assert json.loads((tmp_path / "combinations.json").read_text()) == [found]
    told = "frugal combine 'grpo(prompts=2, group=4)' ead capo --on modchain --samples 16 --seeds 2"
    assert found["command"] == told
    runs = {path.parent.parent.name for path in tmp_path.rglob("curve.jsonl")}
    assert len(runs) == 4 and any("+capo+ead" in name or "+ead+capo" in name for name in runs)


def test_two_that_want_the_same_place_are_told():
    arm, clash = _together("grpo", "rec", "pacs", "modchain")
    assert not arm and "rec" in clash and "pacs" in clash

"""Curves become points, ticks and words; all by hand."""

import pytest

from frugal.atlas.plot import plot, ticks
from frugal.atlas.words import interval, number, prose, slug

RESULT = {
    "grid": [0, 50, 100],
    "metric": "accuracy",
    "arms": [{"recipe": "grpo", "curves": [[0.0, 0.5, 1.0], [0.0, 0.0, 0.5]]}],
    "statistics": {"target": 0.75},
}


def test_points_in_thousandths_from_the_top_left():
    picture = plot(RESULT)
    line = picture.lines[0]
    assert line.seeds == ["0,1000 500,500 1000,0", "0,1000 500,1000 1000,500"]
    assert line.mean == "0,1000 500,750 1000,250"
    assert picture.target == 25.0
    assert picture.x[0] == (0.0, "0") and picture.x[-1] == (100.0, "100")
    assert picture.y[0] == (100.0, "0") and picture.y[-1] == (0.0, "1")


def test_words_say_where_each_mean_begins_and_ends():
    words = "Learning curves, accuracy over 100 samples: grpo goes from 0 to 0.75 (mean of 2 seeds)."
    assert plot(RESULT).words == words


def test_a_missing_value_breaks_the_mean_and_not_the_seed():
    arm = {"recipe": "grpo", "curves": [[0.0, None, 1.0], [0.0, 0.0, 0.5]]}
    line = plot({**RESULT, "arms": [arm]}).lines[0]
    assert line.seeds == ["0,1000 1000,0", "0,1000 500,1000 1000,500"]
    assert line.mean == "0,1000 1000,250"


@pytest.mark.parametrize("change", [{"grid": []}, {"arms": []}, {"arms": [{"recipe": "grpo"}]}])
def test_without_curves_there_is_no_plot(change):
    assert plot({**RESULT, **change}) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.5, 0.79, [0.5, 0.6, 0.7, 0.8]),
        (0, 4096, [0, 1000, 2000, 3000, 4000, 5000]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (0.7, 0.7, [0.6, 0.8]),
        (0, 0, [0, 0.2]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    assert ticks(low, high) == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.71349, "0.713"), (61.24, "61.2"), (4096, "4,096"), (12800.4, "12,800"), (1.0, "1"), (None, "–"), ("x", "x")],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_intervals_and_what_is_none():
    assert interval([0.61, 0.74]) == "[0.61, 0.74]"
    assert interval([None, None]) == interval(None) == interval(0.5) == ""


def test_prose_escapes_and_links():
    assert prose("a < b,\n `grpo`: arXiv 2510.05251") == (
        'a &lt; b, <code>grpo</code>: <a href="https://arxiv.org/abs/2510.05251">arXiv&nbsp;2510.05251</a>'
    )
    assert slug("not shown") == "not-shown" and slug("vision_language") == "vision_language"

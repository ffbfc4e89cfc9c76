"""`frugal prove`: from a declaration to a result, on a scale of seconds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from frugal.core.errors import BadRun, UnknownName
from frugal.core.stages import as_stages
from frugal.evidence import experiment
from frugal.evidence.experiment import VERDICTS, Experiment, allowed, experiments, load, prove, told, word
from frugal.registry import methods, recipe, recipe_or_stages

SMALL = """
from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Is it so?",
    arms=("grpo(prompts=2, group=4)", "grpo(prompts=2, group=4)+ead"),
    task="modchain",
    samples=24,
    expected="more",
    search={"lr": (1e-4, 1e-2)},
    seeds=range(1, 4),
    options={"evaluations": 2, "eval_problems": 4},
)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "experiments" / "language"
    folder.mkdir(parents=True)
    (folder / "ead.py").write_text(SMALL)
    (folder / "empty.py").write_text("")
    return tmp_path


def test_every_built_method_of_this_checkout_has_an_experiment_of_its_own():
    assert {"ead", "capo", "remax", "ngrpo", "lp-reg", "online-difficulty"} <= set(experiments())
    for slug in experiments():
        asked = load(slug)
        judged = {p.name for s in as_stages(recipe_or_stages(asked.arms[1])).stages for p in s.recipe.patches}
        judged.add(asked.arms[1].partition("(")[0])
        assert slug in judged if slug in methods() else any(slug.startswith(f"{name}-") for name in judged), slug
        assert len(asked.seeds) >= 5
        assert all(asked.task and recipe_or_stages(arm) for arm in asked.arms)


def test_unknown_and_empty_experiments(root):
    with pytest.raises(UnknownName, match="unknown experiment 'eda'; did you mean 'ead'"):
        load("eda", root)
    with pytest.raises(BadRun, match="holds no experiment"):
        load("empty", root)


def test_a_result_holds_all_that_made_it(root):
    result = prove("ead", processes=2, root=root)
    path = root / "results" / "language" / "ead.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(result)) and path.with_suffix(".png").exists()
    assert result["verdict"] in ("holds", "not shown", "opposite")
    assert result["scale"] == "0.3M, modchain, 24 samples" and result["command"] == "frugal prove ead"
    assert len(result["grid"]) == 3 and [len(arm["curves"]) for arm in result["arms"]] == [3, 3]
    assert all(set(arm["last"]) == {"greedy", "length", "sampled", "sampled_length"} for arm in result["arms"])
    assert all(f"grpo(prompts=2, group=4, lr={lr})" in result["tuning"] for lr in (0.0001, 0.01))
    assert "16 runs" in result["tuning"]
    runs, seeds = stamps(root), (1, 2, 3, 100, 101, 102, 103)
    assert len(runs) == 2 * (2 * 4 + 3) and {p.parent.name for p in runs} == {f"seed-{s}" for s in seeds}

    (root / "experiments/language/capo.py").write_text(SMALL.replace("ead", "capo"))
    prove("capo", processes=2, root=root)
    assert runs.items() <= stamps(root).items(), "a run is made again"
    assert len(stamps(root)) == len(runs) + 2 * 4 + 3, "the baseline is run for each"


def stamps(root):
    """{curve: when it was written last} of all runs."""
    return {p: p.stat().st_mtime_ns for p in root.rglob("curve.jsonl")}


def test_smoke_commits_nothing(root):
    prove("ead", scale="smoke", processes=2, root=root)
    assert not (root / "results").exists()


def test_sizes_of_models_and_of_controllers():
    assert [experiment.size(n) for n in (660_000, 135_000_000, 4_610)] == ["0.7M", "135.0M", "4.6k"]


def test_stages_are_tuned_in_every_stage():
    asked = "sft(prompts=8):0.5 then grpo+ead(hot=1.3)"
    assert experiment._with(asked, {"lr": 1e-3}) == "sft(prompts=8, lr=0.001):0.5 then grpo(lr=0.001)+ead(hot=1.3)"
    assert experiment._with("tulu3(prompts=8)", {"lr": 1e-3}).count("lr=0.001") == 3


def test_an_arm_with_other_settings():
    assert experiment._with("grpo(epochs=2)+ead(hot=1.3)+capo", {"lr": 1e-3}) == str(
        recipe("grpo(epochs=2, lr=1e-3)+ead(hot=1.3)+capo")
    )


def test_a_setting_that_a_patch_owns_is_not_searched_for_it():
    asked = {"lr": 1e-3, "epochs": 5, "gamma": 0.9}
    assert experiment._with("a2c+stream-x", asked) == "a2c(gamma=0.9)+stream-x", "it sets epochs and has no lr"
    assert experiment._with("a2c(steps=1)", asked) == "a2c(steps=1, lr=0.001, epochs=5, gamma=0.9)"
    assert experiment._with("grpo+bapo", {"clip": 0.3, "lr": 1e-3}) == "grpo(lr=0.001)+bapo", "it fills learn.clip"


@pytest.mark.parametrize("tuned_by, chosen", [("", 1e-2), ("sampled", 1e-4)])
def test_arms_can_be_tuned_by_another_metric_than_the_verdicts(tuned_by, chosen, tmp_path):
    """Short answers at one rate, right ones at the other; the verdict wants short ones."""
    asked = Experiment("?", ("grpo",), "modchain", 10, "", {"lr": (1e-4, 1e-2)}, tuned_by=tuned_by)
    asked = replace(asked, metric="length", larger_is_better=False, options={"evaluations": 1})

    def run(jobs):
        for job in jobs:
            job.out.mkdir(parents=True, exist_ok=True)
            end = (1.0, 9.0) if "lr=0.0001" in job.recipe else (0.0, 2.0)
            values = [(0, 0.5, 9.0), (10, *end)]
            lines = [{"kind": "evaluation", "samples": n, "sampled": s, "length": l} for n, s, l in values]
            (job.out / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    arms, words = experiment.tune(asked, 10, tmp_path, run)
    assert arms == [str(recipe(f"grpo(lr={chosen})"))] and f"curve of held-out {tuned_by or 'length'} over" in words


def test_the_best_two_values_are_tried_with_two_more_seeds(tmp_path):
    """One rate is lucky with two seeds and unlucky with the others; the worst is not asked again."""
    ends = {"1e-05": [0.1] * 4, "0.0001": [0.8, 0.8, 0.8, 0.8], "0.001": [0.9, 0.9, 0.1, 0.1]}
    ran = []

    def run(jobs):
        for job in jobs:
            if job.out.exists():
                continue
            ran.append(job.seed)
            job.out.mkdir(parents=True, exist_ok=True)
            (end,) = (y[job.seed - 100] for lr, y in ends.items() if f"lr={lr})" in job.recipe)
            lines = [{"kind": "evaluation", "samples": n, "greedy": y} for n, y in ((0, 0.0), (10, end))]
            (job.out / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    asked = Experiment("?", ("grpo",), "modchain", 10, "", {"lr": (1e-5, 1e-4, 1e-3)}, options={"evaluations": 1})
    arms, words = experiment.tune(asked, 10, tmp_path, run)
    assert arms == ["grpo(lr=0.0001)"] and sorted(ran) == [100] * 3 + [101] * 3 + [102] * 2 + [103] * 2
    assert "10 runs: grpo(lr=1e-05): 0.050; grpo(lr=0.0001): 0.400; grpo(lr=0.001): 0.250" in words


def test_arms_are_tuned_by_the_metric_that_the_task_can_measure(tmp_path):
    """dpo on pairs that nobody else compares has no win rate, only an accuracy."""

    def run(jobs):
        for job in jobs:
            job.out.mkdir(parents=True, exist_ok=True)
            end = 0.9 if "lr=0.0001" in job.recipe else 0.6
            lines = [{"kind": "evaluation", "samples": n, "accuracy": y} for n, y in ((0, 0.5), (10, end))]
            (job.out / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    asked = Experiment("?", ("dpo",), "rm-lab", 10, "", {"lr": (1e-4, 1e-2)}, options={"evaluations": 1})
    arms, words = experiment.tune(asked, 10, tmp_path, run)
    assert arms == [str(recipe("dpo(lr=1e-4)"))] and "curve of held-out accuracy over" in words
    assert "at an end of the search" not in words, "of two values each is one"
    _, words = experiment.tune(replace(asked, search={"lr": (1e-4, 1e-3, 1e-2)}), 10, tmp_path / "three", run)
    assert words.endswith("dpo(lr=0.0001) has lr at an end of the search")
    _, words = experiment.tune(replace(asked, search={"lr": (1e-5, 1e-4, 1e-2)}), 10, tmp_path / "inside", run)
    assert "at an end of the search" not in words


def test_the_verdict_rests_on_what_was_named():
    figures = {"word": "not shown", "final_p": 0.01, "final_difference_interval": [0.1, 0.2]}
    assert word(figures, "samples") == "not shown" and word(figures, "final") == "better"
    assert word(figures | {"final_p": 0.2}, "final") == "not shown"
    assert word(figures | {"final_difference_interval": [-0.1, 0.2]}, "final") == "not shown"
    assert word(figures | {"final_difference_interval": [-0.3, -0.2]}, "final") == "worse"
    assert word(figures | {"final_difference_interval": [None, None]}, "final") == "not shown"


def test_what_is_asked_to_be_as_good_may_lose_a_share_of_the_baselines_gain():
    asked = Experiment("?", ("sac", "sac+heron"), "HalfCheetah-v5", 10, "", {}, rests_on="area", margin=0.1)
    loss = allowed({"area_mean": 500.0, "curves": [[-110.0, 900.0], [-90.0, 900.0]]}, asked)
    assert loss == pytest.approx(60.0), "a tenth of the way from -100 to 500"
    assert allowed({"area_mean": 500.0, "curves": [[-110.0]]}, replace(asked, margin=0.0)) == 0.0
    assert allowed({"area_mean": -500.0, "curves": [[-100.0]]}, asked) == 0.0, "a baseline that gains nothing"
    smaller = replace(asked, larger_is_better=False)
    assert allowed({"area_mean": 40.0, "curves": [[100.0]]}, smaller) == pytest.approx(6.0)

    def said(low, high, p, loss):
        return word({"area_difference_interval": [low, high], "area_p": p}, "area", loss)

    assert said(-50.0, 80.0, 0.6, loss) == "as good" and said(-50.0, 80.0, 0.6, 0.0) == "not shown"
    assert said(-70.0, 80.0, 0.6, loss) == "not shown", "too wide to tell"
    assert said(10.0, 80.0, 0.01, loss) == "better"
    assert said(-50.0, -10.0, 0.01, loss) == "as good", "behind, and by less than may be lost"
    assert said(-90.0, -10.0, 0.01, loss) == "worse"
    assert VERDICTS["as good"] == "holds"


def test_a_margin_of_samples_is_refused(tmp_path):
    (tmp_path / "experiments" / "language").mkdir(parents=True)
    made = "from frugal.evidence.experiment import Experiment\nEXPERIMENT = "
    asked = "Experiment('?', ('grpo', 'grpo+ead'), 'modchain', 10, '', {}, margin=0.1)"
    (tmp_path / "experiments" / "language" / "ead.py").write_text(made + asked)
    with pytest.raises(BadRun, match="rest on final or area"):
        load("ead", tmp_path)


def test_the_sentence_tells_the_figure_on_which_the_verdict_rests():
    """Tokens, of which fewer are better: 12 after 20 is ahead by 8."""
    arms = [
        {"recipe": "grpo", "final_mean": 20.0, "last": {"greedy": 0.9, "length": 18.0}},
        {"recipe": "grpo+siri", "final_mean": 12.0, "last": {"greedy": 0.95, "length": 9.54}},
    ]
    arms[1]["statistics"] = {"final_difference": 8.0, "final_difference_interval": [7.0, 9.0], "final_p": 0.01}
    summary = {"arms": arms, "metric": "held-out tokens_to_solve", "seeds": 8}
    assert told(summary, arms[1], "final") == (
        "grpo+siri ended at 12 held-out tokens_to_solve, grpo 20 (ahead by 8, 95% 7 to 9, 8 seeds; at last greedy 0.95 "
        "and 0.9, length 9.54 and 18): better."
    )
    arms[1]["statistics"]["final_difference_interval"] = [None, None]
    unsure = told(summary, arms[1], "final")
    assert "no interval" in unsure and unsure.endswith("not shown.")


def test_an_experiment_is_data():
    asked = Experiment("?", ("grpo", "grpo+ead"), "modchain", 10, "", {"lr": (1e-4,)})
    assert (asked.seeds, asked.rests_on, asked.larger_is_better, asked.cost) == (range(8), "samples", True, "samples")

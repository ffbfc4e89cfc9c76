"""Several domains behind one set of commands: who is meant, whose options they are, and whose words."""

import json
import sys

import gymnasium
import pytest

import frugal
from frugal.cli import main
from frugal.control import ppo as control_ppo
from frugal.core.errors import BadRecipe, BadRun
from frugal.core.stages import task_name
from frugal.language import ppo as language_ppo
from frugal.registry import DOMAINS, bases, check_options, domain_of, recipe, recipe_or_stages
from tests.control.tinyrun import small


def test_bases_of_one_name_are_told_apart():
    assert DOMAINS == ("language", "control", "preference")
    assert {"ppo", "control.ppo", "reinforce", "control.reinforce", "sac", "grpo"} <= set(bases())
    assert language_ppo().domain.name == "language" and control_ppo().domain.name == "control"
    assert str(control_ppo(lam=0.9)) == "control.ppo(lam=0.9)" and str(language_ppo()) == "ppo"


@pytest.mark.parametrize(
    "text,task,wanted",
    [
        ("ppo", None, "ppo"),
        ("ppo", "modchain", "ppo"),
        ("ppo", "problems.jsonl", "ppo"),
        ("ppo(lam=0.9)", "CartPole-v1", "control.ppo(lam=0.9)"),
        ("ppo", "ALE/Pong-v5(frameskip=4)", "control.ppo"),
        ("ppo", lambda: gymnasium.make("CartPole-v1"), "control.ppo"),
        ("control.ppo", None, "control.ppo"),
        ("control.ppo", "my_env.py:make", "control.ppo"),
        ("sac", "my_env.py:make", "sac"),
        ("ppo+capo", "CartPole-v1", "ppo+capo"),  # a language method, refused later for its task
    ],
)
def test_the_method_or_else_the_task_decides_which_one_is_meant(text, task, wanted):
    made = recipe(text, task)
    assert str(made) == wanted and recipe(wanted) == made, "the recipe's own text needs no task"


def test_stages_take_each_the_base_of_their_task():
    assert str(recipe_or_stages("ppo:100 then ppo", "modchain")) == "ppo:100 then ppo"
    with pytest.raises(BadRecipe, match="one kind of policy"):
        recipe_or_stages("ppo:100@CartPole-v1 then ppo", "modchain")
    with pytest.raises(BadRecipe, match="one stage"):
        frugal.run("sac:100 then sac", "Pendulum-v1", samples=300)
    assert domain_of("grpo+ead") == "language" and domain_of("sac") == ""


@pytest.mark.parametrize(
    "recipe_,task,options,words",
    [
        ("sac", "Pendulum-v1", {"lora": 8}, "control domain have no option 'lora'"),
        ("sac", "Pendulum-v1", {"reward": "a.py:b"}, "'reward'"),
        ("sac", "Pendulum-v1", {"model": "smollm2"}, "'model'"),
        ("sac", "Pendulum-v1", {"dtype": "bfloat16"}, "'dtype'"),
        ("sac", "Pendulum-v1", {"max_tokens": 3}, "'max_tokens'"),
        ("ppo", "CartPole-v1", {"trust_remote_code": True}, "'trust_remote_code'"),
        ("grpo", "modchain", {"step_seconds": 3.0}, "language domain have no option 'step_seconds'"),
        ("grpo", "modchain", {"eval_episodes": 3}, "'eval_episodes'"),
        ("grpo", "modchain", {"nonsense": 3}, "'nonsense'"),
    ],
)
def test_an_option_of_another_domain_is_refused(recipe_, task, options, words):
    with pytest.raises(BadRun, match=words):
        frugal.run(recipe_, task, samples=10, **options)
    with pytest.raises(BadRun, match=words):
        frugal.compare(task, [recipe_], samples=10, out="nowhere", **options)


def test_what_an_option_says_anyway_is_no_mistake():
    assert check_options("control", {"lora": 0, "model": None, "threads": 2}) == {"threads": 2}
    assert check_options("language", {"lora": 8, "step_seconds": 60.0}) == {"lora": 8}


def test_arms_of_two_domains_are_refused():
    with pytest.raises(BadRun, match="one domain"):
        frugal.compare("CartPole-v1", ["sac", "grpo"], out="nowhere")


def test_names_of_tasks():
    class Mine(gymnasium.Env):
        pass

    def make():
        return Mine()

    assert [task_name(x) for x in ("a", gymnasium.make("CartPole-v1"), make, Mine())] == [
        "a",
        "CartPole-v1",
        "make",
        "Mine",
    ]


class TestCommands:
    @pytest.fixture
    def command(self, monkeypatch, capsys, tmp_path):
        def run(*arguments):
            monkeypatch.chdir(tmp_path)
            monkeypatch.setattr(sys, "argv", ["frugal", *arguments])
            code = 0
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            return code, *capsys.readouterr()

        return run

    def test_run_resume_play_compare(self, command, tmp_path):
        options = ["--samples", "300", "--evaluations", "2", "--threads", "1"]
        code, out, err = command("run", small("dqn"), "CartPole-v1", *options, "--out", "a")
        assert code == 0, err
        assert "300 samples" in out and "gradient steps" in out and "episodes" in out and "tokens" not in out
        assert command("resume", "a")[0] == 0
        code, out, err = command("play", "a", "--episodes", "3")
        assert code == 0 and "over 3 episodes" in out and len(out.splitlines()[0].split()) == 3
        arms = [small("dqn"), small("dqn", double=False)]
        few = ["--samples", "200", "--seeds", "2", "--evaluations", "2", "--out", "c"]
        code, out, err = command("compare", "CartPole-v1", *arms, *few)
        assert code == 0, err
        summary = json.loads((tmp_path / "c" / "summary.json").read_text())
        assert summary["unit"] == "environment steps" and summary["metric"] == "return in evaluation"
        assert {arm["ledger"]["samples"] for arm in summary["arms"]} == {200}
        page = (tmp_path / "c" / "report.html").read_text()
        assert "Completions" not in page and "environment steps" in page

    @pytest.mark.parametrize(
        "arguments,words",
        [
            (["run", "sac", "Pendulum-v1", "--lora", "4"], "no option 'lora'"),
            (["run", "grpo", "modchain", "--step-seconds", "4"], "no option 'step_seconds'"),
            (["run", "sac", "Pendulun-v1"], "did you mean 'Pendulum-v1'"),
            (["run", "sac", "CartPole-v1"], "sac takes continuous actions"),
            (["run", "sac", "nothing.py:make"], "nothing.py"),
            (["play", "none"], "holds no run"),
            (["compare", "CartPole-v1", "dqn", "grpo"], "one domain"),
        ],
    )
    def test_bad_input_is_one_message(self, command, arguments, words):
        code, _, err = command(*arguments)
        assert code == 2 and words in err and "Traceback" not in err and err.count("error:") == 1

    def test_a_language_recipe_does_not_run_on_an_environment(self, command):
        code, _, err = command("run", "grpo", "CartPole-v1")
        assert code == 2 and "Traceback" not in err and "CartPole-v1" in err

    def test_list_and_show(self, command):
        assert "control.ppo" in command("list", "--built")[1]
        shown = command("show", "sac", "--flat")[1]
        assert "learn.actor" in shown and "batch=256" in shown
        assert "control.ppo" in command("show", "control.ppo")[1]

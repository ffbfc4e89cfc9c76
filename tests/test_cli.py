"""The command line as a user meets it: what works prints, what is wrong gets one message and the right exit code."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from frugal.cli import main

SMALL = "grpo(prompts=2, group=4)"


@dataclass
class Shown:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def frugal(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder."""

    def run(*arguments: str) -> Shown:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["frugal", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Shown(code, *capsys.readouterr())

    return run


def jsonl(folder: Path, *lines: str) -> Path:
    path = folder / "problems.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def reward(folder: Path, body: str) -> str:
    (folder / "reward.py").write_text(f"def score(prompts, completions, **fields):\n    {body}\n")
    return f"{folder / 'reward.py'}:score"


GOOD = [json.dumps({"prompt": f"1+{i}=", "answer": str(1 + i)}) for i in range(9)]
TINY = ["--model", "tiny-modchain", "--samples", "16", "--evaluations", "1", "--threads", "1"]


def test_run_resume_and_compare(frugal, tmp_path):
    run = frugal("run", f"{SMALL}+ead", "modchain", "--samples", "16", "--evaluations", "1", "--out", "a")
    assert run.returncode == 0, run.stderr
    assert "held-out" in run.stdout and "act.temperature.ead" in run.stdout
    assert {p.name for p in (tmp_path / "a").iterdir()} >= {
        "run.json",
        "curve.jsonl",
        "ledger.json",
        "model",
        "completions",
    }
    again = frugal("resume", "a")
    assert again.returncode == 0 and "16 samples" in again.stdout
    arms = [SMALL, f"{SMALL}+ead"]
    table = frugal(
        "compare",
        "modchain",
        *arms,
        "--samples",
        "16",
        "--seeds",
        "2",
        "--evaluations",
        "1",
        "--out",
        "c",
    )
    assert table.returncode == 0, table.stderr
    summary = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert [len(arm["final"]) for arm in summary["arms"]] == [2, 2] and (
        tmp_path / "c" / "curves.png"
    ).stat().st_size > 5000
    assert {arm["ledger"]["samples"] for arm in summary["arms"]} == {16}
    assert "2 seeds" in table.stdout and f"{SMALL}+ead" in (tmp_path / "c" / "report.html").read_text()


def test_jsonl_with_a_reward(frugal, tmp_path):
    problems = jsonl(tmp_path, *GOOD)
    good = reward(tmp_path, "return [float(c.endswith(a)) for c, a in zip(completions, fields['answer'])]")
    run = frugal("run", SMALL, str(problems), "--reward", good, *TINY, "--max-tokens", "4", "--out", "r")
    assert run.returncode == 0, run.stderr


def test_episodes_of_an_evaluation(frugal, tmp_path):
    small = ["dqn(hidden=(8,), warmup=20, batch=8)", "dqn(hidden=(8,), warmup=20, batch=8, double=False)"]
    given = ["--samples", "40", "--evaluations", "1", "--eval-episodes", "3"]
    run = frugal("run", small[0], "CartPole-v1", *given, "--out", "a")
    assert run.returncode == 0, run.stderr
    table = frugal("compare", "CartPole-v1", *small, *given, "--seeds", "1", "--out", "c")
    assert table.returncode == 0, table.stderr
    ledgers = [tmp_path / "a" / "ledger.json", *(tmp_path / "c").glob("*/*/ledger.json")]
    assert [json.loads(path.read_text())["evaluation"]["episodes"] for path in ledgers] == [2 * 3] * 3


def test_list_and_show(frugal):
    rows = json.loads(frugal("list", "--json").stdout)
    assert len(rows) == 248
    assert set(rows[0]) == {"slug", "title", "year", "arxiv", "family", "kind", "changes", "status", "verdict"}
    built = json.loads(frugal("list", "--built", "--family", "language", "--json").stdout)
    assert {"ead", "capo"} <= {row["slug"] for row in built} and all(row["status"] == "built" for row in built)
    assert all("credit" in row["changes"] for row in json.loads(frugal("list", "--changes", "credit", "--json").stdout))
    assert "2510.00819" in frugal("show", "capo").stdout
    flat = frugal("show", "grpo+ead+capo", "--flat").stdout
    assert "act.temperature.ead" in flat and "start.pick" in flat and "[b,T]" in flat
    assert "act.answers" in (stages := frugal("show", "tulu3", "--flat").stdout) and "ppo(beta=0.005" in stages


def bad_cases(tmp_path: Path) -> dict[str, tuple[list[str], int, str]]:
    """{name: (arguments, exit code, words of the message)}"""
    good = reward(tmp_path, "return [0.0] * len(completions)")
    problems = str(jsonl(tmp_path, *GOOD))
    broken, empty = tmp_path / "broken.jsonl", tmp_path / "empty.jsonl"
    broken.write_text(GOOD[0] + "\n{'prompt': 1}\n")
    empty.write_text(GOOD[0] + '\n{"prompt": ""}\n')
    long = tmp_path / "long.jsonl"
    long.write_text("\n".join(json.dumps({"prompt": "1+" * 200 + str(i)}) for i in range(9)))
    files = {name: tmp_path / f"{name}.py" for name in ("raises", "nan", "short")}
    for name, body in (
        ("raises", "return 1 / 0"),
        ("nan", "return [float('nan')] * len(completions)"),
        ("short", "return []"),
    ):
        files[name].write_text(f"def score(prompts, completions, **fields):\n    {body}\n")
    own = [problems, *TINY, "--max-tokens", "4", "--out", str(tmp_path / "x"), "--reward"]
    return {
        "unknown recipe": (["run", "grpoo", "modchain"], 2, "did you mean 'grpo'"),
        "unknown option": (["run", "grpo+ead(hto=1)", "modchain"], 2, "did you mean 'hot'"),
        "planned method": (["run", "grpo+rmt", "modchain"], 2, "frugal new rmt"),
        "clash": (["run", "grpo+remax+ngrpo", "modchain"], 2, "clash"),
        "unknown task": (["run", "grpo", "modchan"], 2, "did you mean 'modchain'"),
        "unknown model": (["run", "grpo", "modchain", "--model", "no/such/model"], 2, "cannot load the model"),
        "no file": (["run", "grpo", "none.jsonl", "--reward", good, *TINY], 2, "none.jsonl"),
        "no reward": (["run", "grpo", problems, *TINY], 2, "--reward"),
        "no reward file": (["run", "grpo", problems, "--reward", "none.py:score", *TINY], 2, "none.py"),
        "no reward function": (
            ["run", "grpo", problems, "--reward", good.replace(":score", ":scores"), *TINY],
            2,
            "'score'",
        ),
        "malformed line": (["run", "grpo", str(broken), "--reward", good, *TINY], 2, "line 2"),
        "empty prompt": (["run", "grpo", str(empty), "--reward", good, *TINY], 2, "line 2"),
        "long prompt": (["run", SMALL, str(long), "--reward", good, *TINY], 2, "context"),
        "reward raises": (["run", SMALL, *own, f"{files['raises']}:score"], 1, "ZeroDivisionError"),
        "reward is nan": (["run", SMALL, *own, f"{files['nan']}:score"], 1, "nan"),
        "reward is short": (["run", SMALL, *own, f"{files['short']}:score"], 1, "returned 0 scores for"),
        "no run": (["resume", str(tmp_path / "nothing")], 2, "holds no run"),
        "no budget": (["run", "grpo", "modchain", "--samples", "0"], 2, "at least 1"),
        "unknown family": (["list", "--family", "langage"], 2, "did you mean 'language'"),
        "unknown fetch": (["fetch", "smolm2"], 2, "did you mean 'smollm2'"),
        "missing argument": (["run", "grpo"], 2, "task"),
        "episodes of a language": (["run", "grpo", "modchain", "--eval-episodes", "3"], 2, "no option 'eval_episodes'"),
        "episodes of a comparison": (["compare", "modchain", "grpo", "--eval-episodes", "3"], 2, "'eval_episodes'"),
        "no episodes": (["run", "sac", "Pendulum-v1", "--eval-episodes", "0"], 2, "'--eval-episodes': 0 is not"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "unknown recipe",
        "unknown option",
        "planned method",
        "clash",
        "unknown task",
        "unknown model",
        "no file",
        "no reward",
        "no reward file",
        "no reward function",
        "malformed line",
        "empty prompt",
        "long prompt",
        "reward raises",
        "reward is nan",
        "reward is short",
        "no run",
        "no budget",
        "unknown family",
        "unknown fetch",
        "missing argument",
        "episodes of a language",
        "episodes of a comparison",
        "no episodes",
    ],
)
def test_bad_input_is_one_message(frugal, name, tmp_path):
    cases = bad_cases(tmp_path)
    assert len(cases) == 24
    arguments, code, words = cases[name]
    shown = frugal(*arguments)
    assert shown.returncode == code, shown.stderr
    assert words.lower() in shown.stderr.lower()
    assert "Traceback" not in shown.stderr and shown.stderr.count("error:") == 1

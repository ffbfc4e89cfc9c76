"""Several processes make the run that one makes: samples, gradients, ledger, directory, errors."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import accelerate
import pytest
import torch
from torch.multiprocessing import start_processes

import frugal
from frugal import cli
from frugal.core import parallel
from frugal.core.errors import BadRun, RunFailed
from frugal.core.ledger import Spent
from frugal.core.run import Stopped
from frugal.evidence.runs import run_all
from frugal.language.critic import LiveCritic
from frugal.language.gradient import accumulate, look_again
from frugal.language.parts import Critic
from frugal.language.rollout import Sampler, judge
from frugal.language.rows import Ask
from tests.language.test_pitfalls_resume import RECIPES, SAMPLES, checkpoints_every_other_round, left_behind
from tests.language.tinyrun import Dialogue, Letters, policy, saved, weights

ROOT = Path(__file__).parents[2]


def begun(function, *arguments):
    torch.set_num_threads(1)
    parallel.begin()
    function(*arguments)


def together(function, *arguments, processes=2):
    """Call the function in processes that Accelerate forks from this one and joins by gloo."""
    accelerate.debug_launcher(begun, (function, *arguments), processes)


# -- shares ---------------------------------------------------------------------------------------------------


def test_one_process_shares_with_nobody():
    x = torch.rand(3, 2)
    assert parallel.share(3) == slice(0, 3) and parallel.whole(x, 3) is x and parallel.summed(x) is x
    assert parallel.largest(3, -3) == [3, -3] and parallel.first_to_end()
    parallel.agree(3, "this")


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7])
def test_shares_are_even_blocks_that_cover_all_rows_once(n, monkeypatch):
    monkeypatch.setattr(parallel, "size", 3)
    rows = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "rank", rank)
        mine = range(n)[parallel.share(n)]
        assert len(mine) in (n // 3, math.ceil(n / 3))
        assert n == 0 or len(range(n)[parallel.share(n, least=1)]) == max(len(mine), 1)
        rows += mine
    assert rows == list(range(n))


def put_together():
    rank = parallel.rank
    for n in (0, 1, 2, 5):  # fewer than the three processes, and no multiple of them
        wanted = torch.arange(n * 4.0).view(n, 4)
        wanted[:, 2] = -math.inf
        mine = wanted[parallel.share(n, least=min(n, 1))][:, : 4 - (rank == 1)]  # of different widths
        got = parallel.whole(mine, n)
        here = range(n)[slice(n // 3, 2 * n // 3)]  # what the narrow one had
        assert torch.equal(got[:, :3], wanted[:, :3])
        assert all((got[b, 3] == 0) == (b in here) for b in range(n))
        assert torch.equal(parallel.whole(torch.arange(n)[parallel.share(n)] % 2 == 0, n), torch.arange(n) % 2 == 0)
    a, b, nobody = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.full((2,), 1.0 + rank), None if rank else torch.ones(2)
    parallel.sum_gradients([a, b, nobody])
    assert a.grad.tolist() == [6, 6] and b.grad.tolist() == [1, 1] and nobody.grad is None
    parallel.agree(7, "seven")
    with pytest.raises(RunFailed, match=r"no longer agree on the prompts"):
        parallel.agree(rank // 2, "the prompts")


def test_what_processes_have_is_put_together():
    together(put_together, processes=3)


# -- one round ------------------------------------------------------------------------------------------------


@dataclass
class Counting(Letters):
    """Letters that count how often they are asked for a score."""

    asked: int = 0

    def score(self, problems, completions):
        assert completions, "no verifier is called with nothing"
        self.asked += len(completions)
        return super().score(problems, completions)


def one_round(folder, each, micro_tokens):
    """Rows, what the reference says of them, loss and gradients, of the policy and of a critic."""
    net, task, spent = policy(), Counting(), Spent()
    net.reference = policy(seed=9)
    problems = task.problems("train")
    asks = [Ask(problems[g], net.encode(problems[g].prompt), g, n) for g, n in enumerate(each)]
    rows = Sampler(net, task, spent, limit=task.max_tokens)(asks, torch.Generator().manual_seed(0))
    rows = look_again(judge(task, net, rows, spent), net, "ref", {}, micro_tokens)
    rows = rows.put(A=(rows.score - 0.3)[:, None].expand_as(rows.old))

    def objective(now):
        return -((now.logp - rows.columns["ref.logp"]).exp() * rows.A)[rows.own].mean() + now.logp.square().mean()

    loss = accumulate(net, rows, {}, objective, micro_tokens)
    critic = LiveCritic(Critic(epochs=3, lr=1e-2), policy(seed=5))
    credit = [critic(rows.at_end(rows.score), rows)]
    critic.learn(rows)
    credit.append(critic(rows.at_end(rows.score), rows))
    result = {
        "sampled": (rows.tokens, rows.length, rows.done, rows.score, rows.own),
        "said": (rows.old, rows.columns["ref.logp"], *credit, torch.tensor(loss)),
        "gradient": tuple(p.grad for p in net.model.parameters()),
        "counts": (spent.samples, spent.tokens, spent.verifier_calls),
        "asked": task.asked,
    }
    torch.save(result, folder / f"{parallel.rank}.pt")


@pytest.mark.parametrize("micro_tokens", [4096, 12], ids=["whole", "pieces"])
@pytest.mark.parametrize("each, processes", [((4, 3), 2), ((1,), 2), ((2, 3, 2), 3)], ids=str)
def test_a_round_of_several_processes_is_that_of_one(tmp_path, each, processes, micro_tokens):
    one_round(tmp_path, each, micro_tokens)
    one = torch.load(tmp_path / "0.pt")
    together(one_round, tmp_path, each, micro_tokens, processes=processes)
    several = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    largest = max(float(g.abs().max()) for g in one["gradient"])
    assert largest > 1e-2
    for got in several:
        assert all(torch.equal(a, b) for a, b in zip(got["sampled"], one["sampled"], strict=True))
        assert got["counts"] == one["counts"]
        for a, b in zip(got["said"], one["said"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        for a, b in zip(got["gradient"], one["gradient"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * largest)
        for name in ("said", "gradient"):  # and bit for bit among themselves
            assert all(torch.equal(a, b) for a, b in zip(got[name], several[0][name], strict=True))
    assert sum(got["asked"] for got in several) == one["asked"] == sum(each), "every completion is verified once"
    assert len({got["asked"] for got in several}) == 1 or sum(each) % processes


# -- whole runs -----------------------------------------------------------------------------------------------


@dataclass
class Interrupted(Dialogue):
    """A dialogue in which the process `rank` gets Ctrl-C after it has verified `after` completions."""

    rank: int = 0
    after: int = 10**9
    asked: list = field(default_factory=list)

    def score(self, problems, completions):
        self.asked += completions
        if parallel.rank == self.rank and len(self.asked) >= self.after:
            self.after = 10**9
            os.kill(os.getpid(), signal.SIGINT)
        return super().score(problems, completions)


def whole_run(name, model, out, task=None, again=False):
    """A run, or what is left of it, to its end or its interruption; every process leaves its weights beside it."""
    options = {"evaluations": 3, "eval_problems": 3, "eval_k": 2, "threads": 1, "dtype": "float32", "model": model}
    task = task or Dialogue()
    with checkpoints_every_other_round():
        try:
            if again:
                run = frugal.resume(out, task=task)
            else:
                run = frugal.run(RECIPES[name], task, samples=SAMPLES, seed=3, out=out, **options)
        except Stopped:
            return
    torch.save((weights(run.net), run.curve), f"{out}-{parallel.rank}.pt")


def close(a, b):
    """The same words, counts and truths, and numbers to float32 rounding after a dozen steps."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(close, a, b))
    return math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) if isinstance(a, float) else a == b


def without_temperatures(curve):
    """A process reports the mean temperature of its own rows."""
    for line in curve:
        line.get("patches", {}).pop("act.temperature.ead", None)
    return curve


def assert_same_run(out, wanted):
    curve, _, rows, ledger, _ = left_behind(out)
    assert ledger == wanted[3]
    assert [row["completion"] for row in rows] == [row["completion"] for row in wanted[2]]
    assert close(rows, wanted[2]) and close(without_temperatures(curve), without_temperatures(wanted[0]))


@pytest.fixture(scope="module", params=RECIPES)
def alone(request, tmp_path_factory):
    """What one process leaves behind: (recipe, model, folder, what is in it)."""
    folder = tmp_path_factory.mktemp(request.param)
    model = saved(folder / "start")
    whole_run(request.param, model, folder / "out")
    return request.param, model, folder / "out", left_behind(folder / "out")


def files(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


def test_two_processes_leave_behind_what_one_does(alone, tmp_path):
    name, model, folder, wanted = alone
    out = tmp_path / "out"
    together(whole_run, name, model, out)
    assert_same_run(out, wanted)
    assert files(out) == files(folder)
    (first, curve), (second, other) = (torch.load(f"{out}-{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second), "the processes have the same weights bit for bit"
    assert len(curve) == len(other) == len(wanted[0])
    before, after = (json.loads((where / "run.json").read_text()) for where in (folder, out))
    assert before.pop("sha256") != after.pop("sha256")
    assert (before.pop("processes"), after.pop("processes")) == (1, 2) and before == after


@pytest.mark.parametrize("alone", ["ppo"], indirect=True)
def test_ctrl_c_in_one_of_two_processes_stops_both_in_the_same_round_and_one_goes_on(alone, tmp_path):
    name, model, _, wanted = alone
    out = tmp_path / "out"
    together(whole_run, name, model, out, Interrupted(rank=1, after=16))
    assert 2 < lines(out) < len(wanted[0]) and not (out / "model").exists()
    whole_run(name, model, out, again=True)
    assert_same_run(out, wanted)


@pytest.mark.parametrize("alone", ["dapo"], indirect=True)
def test_two_processes_go_on_where_one_stopped(alone, tmp_path):
    name, model, _, wanted = alone
    out = tmp_path / "out"
    whole_run(name, model, out, Interrupted(after=30))
    assert 2 < lines(out) < len(wanted[0]) and not (out / "model").exists()
    together(whole_run, name, model, out, None, True)
    assert_same_run(out, wanted)


def lines(out):
    return (out / "curve.jsonl").read_text().count("\n")


# -- what goes wrong ------------------------------------------------------------------------------------------

REWARD = """
import os

def bad(completions):
    if os.environ["RANK"] == "1":
        raise ValueError("boom")
    return [0.0] * len(completions)
"""

TORCH, MPI = list(zip(parallel.RANKS, parallel.SIZES, strict=True))[:2]
SHUFFLED = """
import random
from tests.language.tinyrun import Letters

class Shuffled(Letters):
    def problems(self, split):
        return random.SystemRandom().sample(super().problems(split) * 2, 24)
"""


def command(rank, folder, port, names, arguments):
    """`frugal ARGUMENTS` as one of two processes; `names` are those by which the launcher tells rank and size."""
    os.chdir(folder)
    os.environ |= {names[0]: str(rank), names[1]: "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.argv = ["frugal", *arguments]
    with open(f"{rank}.err", "w") as sys.stderr:
        try:
            cli.main()
        except SystemExit as stop:
            (folder / f"{rank}.code").write_text(str(stop.code))


@pytest.mark.parametrize(
    "names, arguments, code, message",
    [
        (TORCH, "run gpro modchain", "2", "error: unknown recipe or method 'gpro'; did you mean 'grpo'?"),
        (TORCH, "run grpo p.jsonl --reward r.py:bad", "1", "error: the reward of p raised ValueError: boom"),
        (MPI, "run grpo t.py:Shuffled", "1", "error: the processes of this run no longer agree on the prompts"),
    ],
)
def test_what_goes_wrong_in_one_process_ends_both_with_one_message(tmp_path, names, arguments, code, message):
    (tmp_path / "r.py").write_text(REWARD)
    (tmp_path / "t.py").write_text(SHUFFLED)
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in ["a", "b", "c"] * 9))
    options = f"--model {saved(tmp_path / 'm')} --samples 16 --max-tokens 8 --evaluations 1 --threads 1 --out o"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start_processes(command, (tmp_path, port, names, f"{arguments} {options}".split()), nprocs=2, start_method="fork")
    said = "".join((tmp_path / f"{rank}.err").read_text() for rank in (0, 1))
    assert message in said and said.count("error:") == 1 and "Traceback" not in said, said
    codes = {(tmp_path / f"{rank}.code").read_text() for rank in (0, 1)}
    assert code in codes and codes <= {code, "1"}  # the other one may only have noticed that its peer is gone


def test_many_runs_start_their_own_processes(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for name in parallel.SIZES:
        monkeypatch.setenv(name, "2")
        with pytest.raises(BadRun, match="without a launcher, with --processes N"):
            run_all([])
        monkeypatch.delenv(name)


@pytest.mark.parametrize("plugin", ["FSDP", "DEEPSPEED"])
def test_what_accelerate_would_do_in_vain_is_refused(monkeypatch, plugin):
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", f"ACCELERATE_USE_{plugin}": "true"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadRun, match=f"holds the whole model, so {plugin} would change nothing"):
        parallel.begin()


# -- as a user does it ----------------------------------------------------------------------------------------


def test_accelerate_launches_it(tmp_path):
    """The command of docs/tutorials/own_model.md, with a smaller budget."""
    launch = "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    run = "-m frugal run grpo(prompts=3,group=3) modchain --samples 18 --evaluations 1 --threads 1 --out out"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*launch.split(), "--main_process_port", "0", *run.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held-out") == done.stdout.count("written to out") == 1
    alone = frugal.run(
        "grpo(prompts=3,group=3)", "modchain", samples=18, evaluations=1, threads=1, out=tmp_path / "one"
    )
    assert json.loads((tmp_path / "out" / "run.json").read_text())["processes"] == 2
    assert files(tmp_path / "out") == files(tmp_path / "one")
    together, *_ = left_behind(tmp_path / "out")
    assert [line["samples"] for line in together] == [line["samples"] for line in alone.curve]
    assert [line.get("score") for line in together] == [line.get("score") for line in alone.curve]


def test_accelerate_that_started_one_process_of_several_is_told(monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setattr(sys, "argv", ["frugal", "show", "grpo"])
    cli.main()
    assert "one process" not in capsys.readouterr().err
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # only where several were asked for
    cli.main()
    assert "note: this is one process" in capsys.readouterr().err

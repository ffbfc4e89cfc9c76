"""The command line: the same names as Python. A user's mistake is one message, never a traceback of ours."""

from __future__ import annotations

import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .core.errors import BadRun, FrugalError


class Scale(StrEnum):
    """How much of an experiment is run."""

    smoke = "smoke"
    full = "full"


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Reinforcement learning that spends the fewest samples.",
)

RecipeText = Annotated[str, typer.Argument(help="such as grpo, sac or 'grpo+ead(hot=1.3)+capo' (quote parentheses)")]
TaskName = Annotated[
    str, typer.Argument(help="modchain, problems.jsonl, my_task.py:MyTask; CartPole-v1, my_env.py:make; ...")
]
Model = Annotated[str | None, typer.Option(help="folder, hub name or fetched name; default: the task's tiny model")]
Reward = Annotated[str | None, typer.Option(help="file.py:function or code, for JSONL files and data sets")]
Label = Annotated[
    str | None, typer.Option(help="who compares responses: my_labels.py:prefer, command:..., model:folder; or the task")
]
Samples = Annotated[int, typer.Option(help="budget in completions, labels or environment steps")]
Lora = Annotated[int, typer.Option(help="rank of low-rank adapters; 0 trains all weights")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16")]
MaxTokens = Annotated[int, typer.Option(help="longest response; 0: what the task asks for")]
StepSeconds = Annotated[float, typer.Option(help="an environment that takes longer for one step hangs")]
Evaluations = Annotated[int, typer.Option(help="held-out evaluations on an even grid")]
EvalEpisodes = Annotated[int, typer.Option(min=1, help="episodes of an environment in each evaluation")]
Processes = Annotated[int, typer.Option(help="runs at a time; 0: one a core")]
Ray = Annotated[str | None, typer.Option(help="address of a Ray cluster, or local; all nodes must see --out")]
Threads = Annotated[int, typer.Option(help="processor threads; 0 leaves it to torch")]


@app.command()
def run(
    recipe: RecipeText,
    task: TaskName,
    samples: Samples = 4000,
    seed: int = 0,
    out: Path | None = None,
    model: Model = None,
    reward: Reward = None,
    label: Label = None,
    lora: Lora = 0,
    dtype: Dtype = "auto",
    max_tokens: MaxTokens = 0,
    evaluations: Evaluations = 10,
    eval_episodes: EvalEpisodes = 10,
    threads: Threads = 0,
    trust_remote_code: bool = False,
    step_seconds: StepSeconds = 60.0,
) -> None:
    """Train with one recipe on one task."""
    from . import api
    from .show import Progress, outcome

    chosen = api.parse(recipe, task)
    out = out or Path("runs") / f"{task.replace('/', '_').replace(':', '-')}-{_short(recipe)}-{seed}"
    with Progress(samples, str(chosen)) as bar:
        done = api.run(
            chosen,
            task,
            samples=samples,
            seed=seed,
            out=out,
            reporter=bar,
            model=model,
            reward=reward,
            label=label,
            lora=lora,
            dtype=dtype,
            max_tokens=max_tokens,
            evaluations=evaluations,
            eval_episodes=eval_episodes,
            threads=threads,
            trust_remote_code=trust_remote_code,
            step_seconds=step_seconds,
        )
    outcome(done)


@app.command()
def resume(out: Path) -> None:
    """Go on with an interrupted run, to the very result it would have had."""
    from . import api
    from .show import Progress, outcome

    with Progress(None, str(out)) as bar:
        done = api.resume(out, reporter=bar)
    outcome(done)


@app.command()
def compare(
    task: TaskName,
    arms: Annotated[list[str], typer.Argument(help="recipes; the first is the baseline")],
    samples: Samples = 4000,
    seeds: int = 3,
    out: Path = Path("runs/cmp"),
    model: Model = None,
    reward: Reward = None,
    label: Label = None,
    lora: Lora = 0,
    dtype: Dtype = "auto",
    max_tokens: MaxTokens = 0,
    evaluations: Annotated[int, typer.Option(help="held-out evaluations on an even grid")] = 40,
    eval_episodes: EvalEpisodes = 10,
    step_seconds: StepSeconds = 60.0,
    processes: Processes = 0,
    ray: Ray = None,
) -> None:
    """Train several recipes over paired seeds; prints how many samples each saves, writes report.html."""
    from .evidence.compare import compare as run_all
    from .show import Watch, comparison

    with Watch() as bars:
        summary = run_all(
            task,
            arms,
            samples=samples,
            seeds=seeds,
            out=out,
            processes=processes,
            ray=ray,
            watch=bars,
            model=model,
            reward=reward,
            label=label,
            lora=lora,
            dtype=dtype,
            max_tokens=max_tokens,
            evaluations=evaluations,
            eval_episodes=eval_episodes,
            step_seconds=step_seconds,
        )
    comparison(summary, f"report: {out / 'report.html'}   all figures: {out / 'summary.json'}")


@app.command()
def combine(
    base: RecipeText,
    patches: Annotated[list[str], typer.Argument(help="two or more, each tried alone and with each other")],
    on: Annotated[list[str], typer.Option(help="a task; repeat the option for more")],
    samples: Samples = 4000,
    seeds: int = 3,
    out: Path = Path("runs/combine"),
    model: Model = None,
    max_tokens: MaxTokens = 0,
    processes: Processes = 0,
    ray: Ray = None,
) -> None:
    """Which patches add to one another: what each saves alone, and each pair of them together."""
    from .evidence.combine import combine as run_all
    from .evidence.combine import sentences
    from .show import Watch

    with Watch() as bars:
        found = run_all(
            base,
            patches,
            on,
            samples=samples,
            seeds=seeds,
            out=out,
            processes=processes,
            ray=ray,
            watch=bars,
            model=model,
            max_tokens=max_tokens,
        )
    for one in found:
        print(f"{one['task']}, {one['samples']} samples, {one['seeds']} seeds", *sentences(one), sep="\n")
    print(f"all figures: {out / 'combinations.json'}   reports and pictures: {out}/*/")


@app.command()
def prove(
    slugs: Annotated[
        list[str] | None, typer.Argument(help="methods; their experiments are experiments/*/SLUG.py")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="every experiment of the checkout")] = False,
    seeds: Annotated[int, typer.Option(help="0: as many as the experiment says")] = 0,
    scale: Annotated[Scale, typer.Option(help="smoke only tries whether it runs, and commits nothing")] = Scale.full,
    processes: Processes = 0,
    ray: Ray = None,
) -> None:
    """Run a method's experiment, judge it, and write results/<domain>/SLUG.json."""
    from .evidence.experiment import experiments, load
    from .evidence.experiment import prove as prove_one
    from .show import Watch, verdict

    chosen = list(experiments()) if every else slugs or []
    if not chosen:
        raise BadRun(f"name a method, or --all; there are experiments for {', '.join(experiments())}")
    for slug in chosen:
        load(slug)  # a mistake shows before hours of runs
    for slug in chosen:
        with Watch() as bars:
            result = prove_one(slug, seeds, scale.value, processes, ray, bars)
        verdict(result)


@app.command(name="list")
def list_(
    family: str | None = None,
    changes: str | None = None,
    built: Annotated[bool, typer.Option("--built", help="only what can be run")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """The catalogue: every system, built or planned."""
    from .catalogue.index import as_row, select

    cards = select(family=family, changes=changes, built=True if built else None)
    if as_json:
        print(json.dumps([as_row(card) for card in cards], indent=1))
        return
    from .registry import bases

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for card in cards:  # a rich table of all of them would take a second
        print(f"{card.slug:<26} {card.family:<15} {' '.join(card.changes):<31} {card.status:<8} {card.title}"[:width])
    print(f"{len(cards)} systems; bases: {', '.join(bases())}")


@app.command()
def show(name: str, flat: Annotated[bool, typer.Option("--flat", help="every part of the recipe")] = False) -> None:
    """One system, one base, or a whole recipe."""
    from .show import describe

    describe(name, flat)


@app.command()
def new(
    method: Annotated[str, typer.Argument(help="slug of a card, or a name of your own")],
    base: Annotated[str, typer.Option(help="what it is compared with; its domain's usual one if left out")] = "",
    root: Annotated[Path, typer.Option(help="checkout to write into")] = Path(),
) -> None:
    """Lay out the files of a new method: head, equation test, experiment."""
    from .new import lay_out

    for path in lay_out(method, base, root):
        print(path)


@app.command()
def atlas(out: Annotated[Path, typer.Option(help="folder to write the site into")] = Path("site")) -> None:
    """A site over the catalogue and its results, with the documentation; opens without server and network."""
    from .atlas.build import build

    print("\n".join(build(out)))


@app.command()
def play(
    run: Path,
    episodes: int = 5,
    seed: int = 0,
    gif: Annotated[Path | None, typer.Option(help="file for the first episode, as a picture that moves")] = None,
) -> None:
    """Let the policy of a finished run act; prints the return of every episode."""
    from .control.play import play as returns_of

    returns = returns_of(run, episodes, seed, gif)
    print(" ".join(f"{x:.1f}" for x in returns))
    print(f"mean return {sum(returns) / len(returns):.1f} over {episodes} episodes" + (f"; wrote {gif}" if gif else ""))


@app.command()
def fetch(name: str, force: bool = False) -> None:
    """Put a real model into the cache, once."""
    from .language.fetch import fetch as get

    print(f"{name} is ready: {get(name, force)}\nuse it with: --model {name}")


def main() -> None:
    """Entry point: errors of the user's are one message and exit code 2, a failed run exits with 1."""
    from .core import parallel
    from .core.run import Stopped

    try:
        if parallel.missing():
            print(
                "note: this is one process; accelerate launch starts several with --multi_gpu, not --cpu, GPUs or not",
                file=sys.stderr,
            )
        parallel.begin()
        app(standalone_mode=False)
    except FrugalError as error:
        _end(f"error: {error}", error.exit_code)
    except (Stopped, KeyboardInterrupt, typer.Abort) as stop:
        saved = f"; go on with: frugal resume {stop.args[0]}" if isinstance(stop, Stopped) and stop.args else ""
        _end(f"stopped{saved}", 130)
    except Exception as error:
        if hasattr(error, "format_message"):  # what typer found wrong with the command line
            _end(f"error: {error.format_message()}", 2)
        if not parallel.first_to_end():
            sys.exit(1)
        raise


def _end(words: str, code: int) -> NoReturn:
    """Say why and exit; of several processes the first one to end says it."""
    from .core import parallel

    if parallel.first_to_end():
        print(words, file=sys.stderr)
    sys.exit(code)


def _short(text: Any) -> str:
    return "".join(c if c.isalnum() or c in "+-.=" else "_" for c in str(text))


if __name__ == "__main__":
    main()

"""One GRPO step in Frugal and in TRL, side by side: seconds, peak memory, and what this processor could do at best.

    python benchmarks/language_vs_trl.py                                   # all rows; 90 minutes on two idle cores
    python benchmarks/language_vs_trl.py --only tiny --repeats 5
    python benchmarks/language_vs_trl.py --out results/benchmarks/language_vs_trl.json

Both sides train the same weights on the same prompts (digits, so that every one has the same number of tokens) with
the same reward, sample responses of one fixed length (Frugal without end tokens, TRL with `min_new_tokens`), and take
one step of fused AdamW a round, with the same threads. A measurement is a process of its own, so that the peak of its
resident memory belongs to one library; it warms up for one step and times the next ones from end to end. Measurements
alternate between the two; figures are medians over all timed steps.

TRL is given what its guides on speed and memory offer a processor: PyTorch's fused attention, the whole batch at once
without gradient checkpointing where that fits (2.4 MB a token: not in the long row, where it would be 90 GB), with
it, and micro-batches. Each configuration of a row is measured in the first repeat, the fastest goes on. vLLM,
flash attention and Liger kernels, which the guides recommend first, need a GPU; continuous batching, which runs on a
processor, is far slower there and ignores `min_new_tokens`.

The floor of a step is the sum over its phases of whichever takes longer, its arithmetic at the rate of a large matrix
product or its memory traffic at that of a large copy. A prompt is encoded once a group, in sampling and again in
training, the head is read only where a response token is predicted, and nothing else is computed twice. (Training
could even keep what sampling computed; that would take a third from its part.)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

LR = 1e-6  # of no consequence here, but the same for both
GB = 1e9
WARM_UP = 1  # steps

FRUGAL, TRL = "frugal", "trl"
WHOLE, CHECKPOINTED = "whole batch", "whole batch, checkpointing"  # configurations of TRL


def micro(rows: int) -> str:
    return f"micro-batches of {rows}"


@dataclass(frozen=True)
class Row:
    """The work of one step, and what the comparison should show."""

    model: str
    prompts: int  # G
    group: int  # responses a prompt
    tokens: int  # T, of a response
    prompt: int  # P, tokens of a prompt
    steps: int  # timed, a measurement
    faster: tuple[float, ...]  # times: at least, aim
    memory: float  # at most this share of TRL's
    trl: tuple[str, ...]  # configurations of TRL to choose from
    dtype: str | None = None  # None: as asked

    @property
    def rows(self) -> int:
        return self.prompts * self.group


ROWS = {
    "short": Row("smollm2", 8, 8, 24, 58, 2, (4, 6), 1 / 3, (WHOLE, CHECKPOINTED, micro(8), micro(4))),
    "long": Row("smollm2", 8, 16, 32, 256, 1, (6,), 1 / 5, (micro(8), micro(4))),
    "tiny": Row("tiny", 16, 8, 32, 24, 20, (2, 3), 1.0, (WHOLE, micro(32)), "float32"),
}


# -- what both sides are given --------------------------------------------------------------------------------------


@contextmanager
def folder_of(row: Row) -> Iterator[str]:
    """The folder of the row's model: SmolLM2 as fetched, or a Llama of 0.66M random weights."""
    from frugal.language.fetch import resolve

    if row.model != "tiny":
        yield resolve(row.model)
        return
    import torch
    from transformers import LlamaForCausalLM

    from frugal.language.tiny import character_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        LlamaForCausalLM(config_of(row)).save_pretrained(folder)
        character_tokenizer("".join(map(chr, range(33, 111)))).save_pretrained(folder)
        yield folder


def config_of(row: Row) -> Any:
    from transformers import AutoConfig, LlamaConfig

    from frugal.language.fetch import resolve

    if row.model != "tiny":
        return AutoConfig.from_pretrained(resolve(row.model))
    return LlamaConfig(
        vocab_size=80,  # <pad>, <eos> and 78 characters
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.1,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )


def prompts(row: Row, tokenizer: Any, n: int) -> list[str]:
    """n texts of digits; each digit is a token, and with the chat template each prompt has P of them."""
    ids = ""
    if tokenizer.chat_template:
        empty = [{"role": "user", "content": ""}]
        ids = tokenizer.apply_chat_template(empty, add_generation_prompt=True, return_dict=False)
    return ["".join(Random(i).choices("0123456789", k=row.prompt - len(ids))) for i in range(n)]


def reward(text: str) -> float:
    """A number in [0, 1) that only looks random."""
    return crc32(text.encode()) / 2**32


# -- one measurement ------------------------------------------------------------------------------------------------


@dataclass
class Meter:
    """Two clocks at the end of each step, and the resident memory once the weights are loaded."""

    stamps: list[tuple[float, float]] = field(default_factory=list)
    loaded: int = 0

    def step(self) -> None:
        self.stamps.append((time.perf_counter(), time.process_time()))

    def load(self) -> None:
        import psutil

        self.loaded = self.loaded or psutil.Process().memory_info().rss

    def read(self) -> dict[str, Any]:
        import resource

        import torch

        unit = 1 if sys.platform == "darwin" else 1024
        wall, processor = (
            [b - a for a, b in pairwise(clock[WARM_UP - 1 :])] for clock in zip(*self.stamps, strict=True)
        )
        return {
            "seconds": wall,
            "processor seconds": processor,  # of all threads; well below threads x seconds if others used the cores
            "loaded": self.loaded,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            "threads": torch.get_num_threads(),
        }


def frugal_steps(row: Row, folder: str, dtype: str, threads: int, meter: Meter) -> None:
    """`frugal.run` as anybody would call it, with a policy that knows no end token."""
    import torch
    from transformers import AutoTokenizer

    import frugal
    from frugal.core.recipe import Patch
    from frugal.language import grpo
    from frugal.language.policy import Policy
    from frugal.language.tasks.task import Problem

    steps = WARM_UP + row.steps
    problems = [Problem(t) for t in prompts(row, AutoTokenizer.from_pretrained(folder), row.prompts * steps)]

    @dataclass(frozen=True)
    class Endless:
        def __call__(self, model: Any, tokenizer: Any) -> Policy:
            meter.load()
            net = Policy(model, tokenizer)
            net.ends = torch.tensor([-1])
            if {len(net.encode(p.prompt)) for p in problems} != {row.prompt}:
                raise ValueError(f"a prompt has not {row.prompt} tokens")
            return net

    class Digits:
        name, max_tokens = "digits", row.tokens

        def problems(self, split: str) -> Sequence[Problem]:
            return problems

        def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
            return [reward(text) for text in completions]

    def stamp(run: Any, line: Mapping[str, Any]) -> None:
        if line["kind"] == "train":
            meter.step()

    run = frugal.run(
        grpo(prompts=row.prompts, group=row.group, lr=LR) + Patch(fill={"learn.policy": Endless()}, name="endless"),
        Digits(),
        samples=row.rows * steps,
        reporter=stamp,
        model=folder,
        dtype=dtype,
        threads=threads,
        evaluations=1,  # one before the first step, which is not timed, one after the last; of one problem
        eval_problems=1,
        eval_k=0,
    )
    if (run.ledger.tokens, run.ledger.gradient_steps) != (steps * row.rows * row.tokens, steps):
        raise ValueError(f"{run.ledger} is not the work of {steps} steps of {row}")


def trl_steps(row: Row, folder: str, dtype: str, threads: int, meter: Meter, configuration: str) -> None:
    """`GRPOTrainer` on the same; `configuration` says how it fits its batch into memory."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(threads)
    steps = WARM_UP + row.steps
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    meter.load()
    texts = prompts(row, tokenizer, row.prompts * steps)
    chat = [[{"role": "user", "content": text}] for text in texts] if tokenizer.chat_template else texts
    batch = int(configuration.rpartition(" ")[2]) if configuration.startswith("micro") else row.rows

    def score(completions: Sequence[Any], **fields: Any) -> list[float]:
        return [reward(c if isinstance(c, str) else c[0]["content"]) for c in completions]

    class Stamp(TrainerCallback):
        def on_step_end(self, *args: Any, **fields: Any) -> None:
            meter.step()

    with tempfile.TemporaryDirectory() as out:
        options = GRPOConfig(
            output_dir=out,
            max_steps=steps,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=row.rows // batch,  # one generation and one optimiser step a step
            num_generations=row.group,
            max_completion_length=row.tokens,
            generation_kwargs={"min_new_tokens": row.tokens},
            gradient_checkpointing=configuration == CHECKPOINTED,
            bf16=dtype == "bfloat16",
            loss_type="grpo",
            learning_rate=LR,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            use_cpu=True,
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        data = Dataset.from_dict({"prompt": chat})
        trainer = GRPOTrainer(model, score, options, data, processing_class=tokenizer, callbacks=[Stamp()])
        trainer.train()
    if trainer.state.num_input_tokens_seen != steps * row.rows * (row.prompt + row.tokens):
        raise ValueError(f"{trainer.state.num_input_tokens_seen} tokens are not those of {steps} steps of {row}")


def measure(name: str, arm: str, dtype: str, threads: int) -> dict[str, Any]:
    """What this very process takes for one warm-up step and the timed ones."""
    row, meter = ROWS[name], Meter()
    limit_memory()
    with folder_of(row) as folder:
        if arm == FRUGAL:
            frugal_steps(row, folder, dtype, threads, meter)
        else:
            trl_steps(row, folder, dtype, threads, meter, arm)
    return meter.read()


def limit_memory() -> None:
    """Let a configuration that needs more memory than there is fail with a message, and alone."""
    if sys.platform == "linux":
        import resource

        import psutil

        resource.setrlimit(resource.RLIMIT_DATA, (psutil.virtual_memory().available,) * 2)


# -- the floor ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Numbers of weights of a Llama, in matrices that every token is multiplied with."""

    layers: int
    body: int  # all layers
    head: int
    attention: int  # width of the queries
    cache: int  # numbers that one position leaves in the cache, all layers
    trained: int  # embeddings and norms included

    @classmethod
    def of(cls, config: Any) -> Sizes:
        D, layers, V = config.hidden_size, config.num_hidden_layers, config.vocab_size
        Q, K = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        body = layers * (2 * D * Q + 2 * D * K + 3 * D * config.intermediate_size)
        embeddings = V * D * (1 if config.tie_word_embeddings else 2)
        return cls(layers, body, V * D, Q, layers * 2 * K, body + embeddings + (2 * layers + 1) * D)

    def forward(self, positions: Iterable[int]) -> int:
        """Operations of the layers for one token at each of `positions`, counted from 1: it attends to as many."""
        return sum(2 * self.body + 4 * self.layers * self.attention * context for context in positions)


@dataclass(frozen=True)
class Phase:
    """Operations and bytes."""

    operations: float
    bytes: float

    def seconds(self, operations: float, bytes: float) -> float:
        """At least, given how many of each a second allows."""
        return max(self.operations / operations, self.bytes / bytes)


def phases(row: Row, s: Sizes, width: int) -> dict[str, Phase]:
    """The least that a step of this row needs, with weights of `width` bytes; the last token is not read again."""
    G, B, T = row.prompts, row.rows, row.tokens
    prompt, response = range(1, row.prompt + 1), range(row.prompt + 1, row.prompt + T)
    body, head = G * s.forward(prompt) + B * s.forward(response), 2 * B * T * s.head
    cached = sum(G * row.prompt + B * (context - row.prompt) for context in response)  # a group shares its prompt's
    weights = width * (s.body + s.head)
    return {
        "encode": Phase(G * s.forward(prompt), weights),
        "decode": Phase(B * s.forward(response) + head, T * weights + width * s.cache * cached),
        "train": Phase(3 * (body + head), 3 * weights),  # forward once, backward twice
        "update": Phase(0, 4 * 8 * s.trained),  # clip: read g; AdamW: read w, g, m, v, write w, m, v; in float32
    }


def trl_operations(row: Row, s: Sizes, configuration: str) -> float:
    """Of a step of TRL: a prompt encoded for every response, the head at every position, its logits made twice."""
    B, P, T = row.rows, row.prompt, row.tokens
    sampling = B * s.forward(range(1, P + T)) + 2 * B * T * s.head
    forwards = 4 if configuration == CHECKPOINTED else 3
    return sampling + forwards * B * s.forward(range(1, P + T + 1)) + 4 * 2 * B * (P + T - 1) * s.head


def machine(dtype: str, threads: int) -> dict[str, Any]:
    """What a large matrix product and a large copy reach here, and the counts of each row."""
    import torch

    from frugal.language import grpo
    from frugal.language.models import _dtype
    from frugal.registry import code

    torch.set_num_threads(threads)

    def rate(amount: float, act: Callable[[], Any], times: int = 8) -> float:
        def once() -> float:
            began = time.perf_counter()
            act()
            return time.perf_counter() - began

        return amount / min(once() for _ in range(times))

    def product(kind: torch.dtype, n: int, times: int = 8) -> float:
        a, b = torch.randn(n, n).to(kind), torch.randn(n, n).to(kind)
        return rate(2 * n**3, lambda: a @ b, times)

    chosen = _dtype(dtype)
    trial = {kind: product(kind, 512, 3) for kind in (torch.float32, torch.bfloat16)}
    hopeless = trial[chosen] < trial[torch.float32] / 2
    source = torch.ones(2**28, dtype=torch.uint8)
    target = torch.empty_like(source)
    rates = {
        "operations": product(torch.float32 if hopeless else chosen, 4096),
        "bytes": rate(2 * len(source), lambda: target.copy_(source)),
    }
    rows = {}
    for name, row in ROWS.items():
        sizes = Sizes.of(config_of(row))
        counted = phases(row, sizes, 4 if row.dtype == "float32" else chosen.itemsize)
        rows[name] = {
            "parameters": sizes.trained,
            "phases": {k: asdict(p) | {"seconds": p.seconds(**rates)} for k, p in counted.items()},
            "floor": sum(p.seconds(**rates) for p in counted.values()),
            "operations": sum(p.operations for p in counted.values()),
            "trl operations": {c: trl_operations(row, sizes, c) for c in row.trl},
        }
    return {
        "dtype": str(chosen).removeprefix("torch."),
        "hopeless": hopeless,
        "bfloat16": trial[torch.bfloat16] / trial[torch.float32],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "rates": rates,
        "rows": rows,
        "code": code(grpo()),
    }


# -- the comparison -------------------------------------------------------------------------------------------------

Measurements = list[dict[str, Any]]


def alone(**work: Any) -> dict[str, Any]:
    """What a fresh process says of `work`; {"failed": why} if it did not get to the end."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(work["threads"]),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "0",
    }
    command = [sys.executable, __file__, "--work", json.dumps(work)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"failed": (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, libraries: Sequence[str], repeats: int, dtype: str, threads: int) -> dict[str, Measurements]:
    """{"frugal", or a configuration of TRL: measurements}, taken in turns."""
    row = ROWS[name]
    found: dict[str, Measurements] = {}
    for repeat in range(repeats):
        arms = [FRUGAL] if FRUGAL in libraries else []
        if TRL in libraries:
            arms += [fastest(found)] if repeat else row.trl
        for arm in arms:
            got = alone(name=name, arm=arm, dtype=row.dtype or dtype, threads=threads)
            if "failed" in got and (arm == FRUGAL or repeat):
                raise SystemExit(f"{name}, {arm}: {got['failed']}")
            found.setdefault(arm, []).append(got)
            print(f"{name}, {repeat + 1} of {repeats} {line(arm, [got])}", flush=True)
    return found


def fastest(found: Mapping[str, Measurements]) -> str:
    """Of TRL's configurations, among those that got to the end."""
    times = {arm: middle(got, "seconds") for arm, got in found.items() if arm != FRUGAL and "failed" not in got[0]}
    if not times:
        raise SystemExit("no configuration of TRL got to the end")
    return min(times, key=times.__getitem__)


def middle(measurements: Measurements, what: str) -> float:
    """The median over the measurements, and over the timed steps of each."""
    return statistics.median(
        value for m in measurements for value in (m[what] if isinstance(m[what], list) else [m[what]])
    )


def line(arm: str, got: Measurements) -> str:
    """One arm's figures."""
    start = f"  {'Frugal' if arm == FRUGAL else 'TRL, ' + arm:32}"
    if "failed" in got[0]:
        return start + got[0]["failed"]
    steps, used = ([x for m in got for x in m[clock]] for clock in ("seconds", "processor seconds"))
    return (
        f"{start} {statistics.median(steps):8.3f} s ({min(steps):.3f} to {max(steps):.3f}, {len(steps)} steps, "
        f"{sum(used) / sum(steps):.2f} cores)   peak {middle(got, 'peak') / GB:5.2f} GB, "
        f"{middle(got, 'loaded') / GB:.2f} GB with the weights loaded"
    )


def report(name: str, found: Mapping[str, Measurements], here: Mapping[str, Any]) -> str:
    """The lines of one row."""
    row, counts = ROWS[name], here["rows"][name]
    lines = [
        f"{name}: {row.model} ({counts['parameters'] / 1e6:.2f}M, {row.dtype or here['dtype']}), "
        f"{row.prompts} prompts of {row.prompt} tokens x {row.group} responses of {row.tokens}",
        *(line(arm, got) for arm, got in found.items()),
    ]
    if FRUGAL in found and len(found) > 1:
        theirs = fastest(found)
        ours, rival = found[FRUGAL], found[theirs]
        times, work = (middle(rival, clock) / middle(ours, clock) for clock in ("seconds", "processor seconds"))
        share = middle(ours, "peak") / middle(rival, "peak")
        leanest = min(middle(got, "peak") for arm, got in found.items() if arm != FRUGAL and "peak" in got[0])
        operations = counts["trl operations"][theirs] / counts["operations"]
        goal = ", aim ".join(f"{x:g}" for x in row.faster)
        reached, smaller = (
            "reached" if yes else "not reached" for yes in (times >= row.faster[0], share <= row.memory)
        )
        lines += [
            f"  TRL's time over Frugal's {times:.2f} (at least {goal}: {reached}), "
            f"in processor seconds {work:.2f}; TRL's operations over the floor's {operations:.2f}",
            f"  Frugal's peak over TRL's {share:.2f} (at most {row.memory:.2f}: {smaller}), "
            f"over that of TRL's leanest configuration {middle(ours, 'peak') / leanest:.2f}",
        ]
    parts = " + ".join(f"{phase} {p['seconds']:.3g}" for phase, p in counts["phases"].items())
    lines.append(f"  floor {counts['floor']:.3g} s = {parts}; {counts['operations'] / 1e12:.3g} T operations")
    if FRUGAL in found:
        lines[-1] += f"; Frugal takes {middle(found[FRUGAL], 'seconds') / counts['floor']:.2f} times that"
    return "\n".join(lines)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description="One GRPO step in Frugal and in TRL.")
    parser.add_argument(
        "--only", nargs="+", choices=[*ROWS, FRUGAL, TRL], default=[], help="rows and libraries to measure"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work is not None:
        print(json.dumps(measure(**asked.work) if "arm" in asked.work else machine(**asked.work)))
        return
    libraries = [library for library in (FRUGAL, TRL) if library in asked.only] or [FRUGAL, TRL]
    load = [os.getloadavg()[0]]
    here = alone(dtype=asked.dtype, threads=asked.threads)
    if "failed" in here:
        raise SystemExit(here["failed"])
    print(
        f"{processor()}, {here['capability']}, {asked.threads} threads, load {load[0]:.1f}: {here['dtype']} at "
        f"{here['rates']['operations'] / 1e9:.0f} GFLOP/s, copies at {here['rates']['bytes'] / GB:.1f} GB/s; "
        f"a bfloat16 product takes {1 / here['bfloat16']:.3g} times as long as a float32 one"
    )
    found = {}
    for name in [name for name in ROWS if name in asked.only] or list(ROWS):
        if here["hopeless"] and ROWS[name].dtype is None:
            print(f"{name}: not run, {here['dtype']} is hopeless on this processor; take --dtype float32")
        else:
            found[name] = compare(name, libraries, asked.repeats, here["dtype"], asked.threads)
    load.append(os.getloadavg()[0])
    reports = {name: report(name, got, here) for name, got in found.items()}
    print(*(f"\n{text}" for text in reports.values()), sep="\n")
    if asked.out:
        packages = ("frugal-rl", "trl", "torch", "transformers", "accelerate")
        result = {
            "command": " ".join(["python benchmarks/language_vs_trl.py", *sys.argv[1:]]),
            "processor": processor(),
            "system": platform.platform(),
            "threads": asked.threads,
            "load": load,  # average of the minute before the first measurement, and of the last
            "date": time.strftime("%Y-%m-%d"),
            "versions": {p: version(p) for p in packages}
            | {"python": platform.python_version(), "code": here.pop("code")},
            "rows": {
                name: {"report": reports[name].splitlines(), "measurements": got, "work": asdict(ROWS[name])}
                | here["rows"][name]
                for name, got in found.items()
            },
            "machine": {key: value for key, value in here.items() if key != "rows"},
        }
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

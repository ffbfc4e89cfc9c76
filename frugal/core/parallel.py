"""Several processes that make one run together; each function is the identity where there is only one.

Every process runs the same program with the same seed and holds the same weights, bit for bit. The rows of a round are
shared out in blocks; what each process finds out about its own is put together, and so are the gradients. Only tensors
of numbers travel. `accelerate launch`, torchrun or MPI starts the processes and tells them in the environment who they
are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from frugal.lazy import torch

from .errors import BadRun, RunFailed

if TYPE_CHECKING:
    from torch import Tensor

rank, size = 0, 1  # this process's number and how many there are, once it has begun
_store: Any = None  # what the processes know of one another beside tensors

RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")  # torchrun's, then those of MPI
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
PATIENCE = timedelta(days=1)  # one process may verify for hours; one that died is noticed at once


def launched() -> int:
    """How many processes a launcher has started for one run, this one included."""
    return _environment(SIZES, 1) if "MASTER_ADDR" in os.environ else 1


def missing() -> bool:
    """Whether Accelerate was asked for several processes and started one, as it does with --cpu."""
    return launched() == 1 and "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU") == "True"


def begin() -> None:
    """Join the other processes, if a launcher has started any; a second call does nothing."""
    global rank, size, _store
    if size > 1 or launched() == 1:
        return
    for plugin in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{plugin}") == "true":
            raise BadRun(f"every process holds the whole model, so {plugin} would change nothing; launch without it")
    group = torch.distributed
    if not group.is_initialized():
        try:
            there = group.rendezvous("env://", _environment(RANKS, 0), launched(), timeout=PATIENCE)
            _store, here, n = next(there)
            group.init_process_group(store=group.PrefixStore("run", _store), rank=here, world_size=n, timeout=PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise BadRun(f"the {launched()} processes of this run cannot meet: {error}") from None
    rank, size = group.get_rank(), group.get_world_size()


def first_to_end() -> bool:
    """Whether no other process has called this before: it says why the run ends, the others are silent."""
    if _store is None:
        return True
    try:
        return bool(_store.compare_set("ended", "", str(rank)) == str(rank).encode())
    except RuntimeError:  # the process that kept the store has ended
        return False


def share(n: int, least: int = 0) -> slice:
    """This process's block of n rows; with least=1 it is the first row where there is none, to see shapes by."""
    first, last = n * rank // size, n * (rank + 1) // size
    return slice(first, last) if last - first >= least else slice(0, least)


def whole(mine: Tensor, n: int) -> Tensor:
    """What every process has of its share of n rows, together. [share,t,...] -> [n,T,...], T the longest t."""
    if size == 1:
        return mine
    here = share(n)
    width = largest(mine.shape[1]) if mine.ndim > 1 else []
    out = mine.new_zeros(n, *width, *mine.shape[2:])
    block = out[here] if not width else out[here, : mine.shape[1]]
    block.copy_(mine[: here.stop - here.start])
    return summed(out)


def summed(x: Tensor) -> Tensor:
    """The sum over all processes, in place; of flags, whether any is set."""
    if size == 1:
        return x
    if x.dtype == torch.bool:
        return summed(x.int()).bool()
    return _reduce(x, torch.distributed.ReduceOp.SUM)


def largest(*n: int) -> list[int]:
    """The largest of each number in all processes."""
    return (
        list(n) if size == 1 else _reduce(torch.tensor(n, dtype=torch.int64), torch.distributed.ReduceOp.MAX).tolist()
    )


def agree(found: int, what: str) -> None:
    """Raise `RunFailed` unless every process has found the same."""
    most, least = largest(found, -found)
    if most != -least:
        raise RunFailed(
            f"the processes of this run no longer agree on {what}: something in the task or in a part is random "
            "beyond what it is given to be random with, or differs between machines"
        )


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes; one that no process has stays away."""
    if size == 1:
        return
    each = list(parameters)
    there = summed(torch.tensor([p.grad is not None for p in each]))
    for p in (p for p, wanted in zip(each, there.tolist(), strict=True) if wanted):
        p.grad = summed(torch.zeros_like(p) if p.grad is None else p.grad)


def _reduce(x: Tensor, operation: Any) -> Tensor:
    try:
        torch.distributed.all_reduce(x, operation)
    except RuntimeError as error:
        raise RunFailed(
            "another process of this run has ended (killed, or out of memory, unless it says why); "
            "earlier checkpoints are intact"
        ) from error
    return x


def _environment(names: Iterable[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), default)

"""Sampling responses: prompts encoded once, finished rows leave the batch, one uniform number a token.

A token is the inverse of the cumulative distribution at u[row, t]: a row's randomness does not depend on which other
rows are still alive, so two arms with one seed share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .policy import Column, Policy

BLOCK = 256  # tokens of the vocabulary that are summed before one of them is chosen
Temperature = Callable[[Tensor, int], Tensor | float]  # (logits[B,V], t) -> factor on the temperature


@dataclass
class Sampled:
    """B responses. [B,T] unless said otherwise; 0 beyond a response's end."""

    tokens: Tensor  # int64
    length: Tensor  # [B]
    done: Tensor  # [B] bool: ended by an end-of-sequence token
    old: Tensor
    behaviour: Tensor
    columns: dict[str, Tensor]


@torch.no_grad()
def sample(
    net: Policy,
    contexts: Sequence[tuple[int, ...]],
    index: Tensor,
    limit: Tensor,
    u: Tensor,
    greedy: Tensor,
    temperature: Temperature | None = None,
    columns: Mapping[str, Column] | None = None,
) -> Sampled:
    """Continue contexts[index[b]] by at most limit[b] tokens, with u [B,T] uniform in [0, 1); greedy [B] bool."""
    columns = columns or {}
    rows, width = len(index), u.shape[1]
    tokens = torch.zeros(rows, width, dtype=torch.int64)
    out = {name: torch.zeros(rows, width) for name in ("old", "behaviour")}
    done, length = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.int64)
    alive = torch.arange(rows)  # rows still in the batch
    hidden, decoding = net.body.decode(contexts, index, width)
    for t in range(width):
        logits = net.logits(hidden)
        factor = temperature(logits, t) if temperature else 1.0
        plain = isinstance(factor, float) and factor == 1.0
        warm = (logits if plain else logits / torch.as_tensor(factor).view(-1, 1)).softmax(1)
        token = _inverse_cdf(warm, u[alive, t])
        if greedy.any():
            token = torch.where(greedy[alive], logits.argmax(1), token)
        drawn = warm.gather(1, token[:, None])[:, 0].log()
        read = net.read_logits(logits, token, hidden, columns) if columns or not plain else {"logp": drawn}
        out["old"][alive, t], out["behaviour"][alive, t] = read.pop("logp"), drawn
        for name, value in read.items():
            out.setdefault(name, value.new_zeros(rows, width, *value.shape[1:]))[alive, t] = value
        tokens[alive, t] = token
        length[alive] = t + 1
        done[alive] = torch.isin(token, net.ends)
        going = (~done[alive] & (t + 1 < limit[alive])).nonzero()[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(alive):
            alive, token = alive[going], token[going]
            decoding.keep(going)
        hidden = decoding.step(token)
    longest = int(length.max())
    cut = {name: value[:, :longest] for name, value in out.items()}
    return Sampled(tokens[:, :longest], length, done, cut.pop("old"), cut.pop("behaviour"), cut)


def _inverse_cdf(p: Tensor, u: Tensor) -> Tensor:
    """The token at which the cumulative distribution passes u: its block of the vocabulary, then its place there.

    p [B,V] probabilities, u [B] -> [B]
    """
    if p.shape[1] <= BLOCK:
        return _pass(p, u.double())[0]
    blocks = F.pad(p, (0, -p.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    block, rest = _pass(blocks.sum(2), u.double())
    inside, _ = _pass(blocks[torch.arange(len(p)), block], rest)
    return (block * BLOCK + inside).clamp(max=p.shape[1] - 1)


def _pass(p: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The place where the cumulated shares p [B,n] pass u [B], and how far into it u lies, again in [0, 1)."""
    steps = p.double().cumsum(1)
    u = u * steps[:, -1]
    place = torch.searchsorted(steps, u[:, None], right=True).clamp(max=p.shape[1] - 1)
    share = p.gather(1, place).double()
    return place[:, 0], ((u[:, None] - steps.gather(1, place) + share) / share)[:, 0].clamp(0, 1 - 2**-53)

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
Stop = Callable[[Tensor], bool]  # (rows that are still sampled) -> whether to leave them unfinished


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
    begun: Tensor | None = None,
    stop: Stop | None = None,
) -> Sampled:
    """Continue contexts[index[b]] by at most limit[b] tokens, with u [B,T] uniform in [0, 1); greedy [B] bool.

    `begun` [B] are tokens of the response that its context holds already. `stop` is asked after every step, by all
    processes as often as by the one with the longest response.
    """
    columns = columns or {}
    rows, width = len(index), u.shape[1]
    begun = torch.zeros(rows, dtype=torch.int64) if begun is None else begun
    tokens = torch.zeros(rows, width, dtype=torch.int64)
    out = {name: torch.zeros(rows, width) for name in ("old", "behaviour")}
    done, length = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.int64)
    alive = torch.arange(rows)  # rows still in the batch
    hidden, decoding = net.body.decode(contexts, index, width)
    over = False
    for t in range(width):
        logits = net.logits(hidden)
        factor = _at(temperature, logits, begun[alive] + t) if temperature else 1.0
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
        over = stop(alive[going]) if stop else False
        if over or len(going) == 0:
            break
        if len(going) < len(alive):
            alive, token = alive[going], token[going]
            decoding.keep(going)
        hidden = decoding.step(token)
    while stop and not over:  # others have rows left
        over = stop(alive[:0])
    longest = int(length.max())
    cut = {name: value[:, :longest] for name, value in out.items()}
    return Sampled(tokens[:, :longest], length, done, cut.pop("old"), cut.pop("behaviour"), cut)


def _at(temperature: Temperature, logits: Tensor, position: Tensor) -> Tensor | float:
    """The factor of each row at its own position [B] of the response."""
    places = position.unique().tolist()
    if len(places) == 1:
        return temperature(logits, places[0])
    factor = torch.ones(len(logits))
    for place in places:
        here = position == place
        factor[here] = torch.as_tensor(temperature(logits[here], place), dtype=factor.dtype)
    return factor


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

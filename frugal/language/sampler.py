"""Sampling responses: prompts encoded once, finished rows leave the batch, one uniform number a token.

A token is the inverse of the cumulative distribution at u[row, t]: a row's randomness does not depend on which other
rows are still alive, so two arms with one seed share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .policy import Column, Policy

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
    hidden, cache, mask = net.prefill(contexts)
    hidden, mask = hidden[index], mask[index]
    cache.batch_select_indices(index)
    for t in range(width):
        logits = net.logits(hidden)
        factor = temperature(logits, t) if temperature else 1.0
        warm = logits if isinstance(factor, float) and factor == 1.0 else logits / torch.as_tensor(factor).view(-1, 1)
        token = torch.where(greedy[alive], logits.argmax(1), _inverse_cdf(warm, u[alive, t]))
        read = net.read_logits(logits, token, hidden, columns)
        out["old"][alive, t] = read.pop("logp")
        out["behaviour"][alive, t] = out["old"][alive, t] if warm is logits else _logp(warm, token)
        for name, value in read.items():
            out.setdefault(name, value.new_zeros(rows, width, *value.shape[1:]))[alive, t] = value
        tokens[alive, t] = token
        length[alive] = t + 1
        done[alive] = torch.isin(token, net.ends)
        going = (~done[alive] & (t + 1 < limit[alive])).nonzero()[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(alive):
            alive, token, mask = alive[going], token[going], mask[going]
            cache.batch_select_indices(going)
        hidden, mask = net.extend(token[:, None], cache, mask)
        hidden = hidden[:, 0]
    longest = int(length.max())
    cut = {name: value[:, :longest] for name, value in out.items()}
    return Sampled(tokens[:, :longest], length, done, cut.pop("old"), cut.pop("behaviour"), cut)


def _inverse_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """The token at which the cumulative distribution passes u. logits [B,V], u [B] -> [B]"""
    total = logits.double().softmax(1).cumsum(1)
    return torch.searchsorted(total, (u.double() * total[:, -1])[:, None], right=True)[:, 0].clamp(
        max=logits.shape[1] - 1
    )


def _logp(logits: Tensor, token: Tensor) -> Tensor:
    return logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(1)

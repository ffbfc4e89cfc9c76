"""Gradients in micro-batches that are exactly those of one batch, and second looks by other weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .policy import Column, Now, Policy
from .rows import Rows


def accumulate(
    net: Policy, mini: Rows, columns: Mapping[str, Column], objective: Callable[[Now], Tensor], micro_tokens: int
) -> float:
    """Add d objective / d weights to the gradients; returns the objective.

    The objective sees the whole minibatch at once, so no statistic or denominator depends on how it is split: what
    the model says is computed piece by piece without gradient, the objective is differentiated with respect to it,
    and that derivative is passed through the model piece by piece (Gao et al. 2021, arXiv 2101.06983, section 3).
    """
    pieces = split(mini, micro_tokens)
    if len(pieces) == 1:
        loss = objective(net.columns(mini, columns))
        loss.backward()
        return float(loss.detach())
    said = _together(mini, pieces, [_as_dict(_look(net, mini, rows, columns)) for rows in pieces])
    for value in said.values():
        value.requires_grad_(value.is_floating_point())
    loss = objective(Now(said["logp"], said))
    loss.backward()
    for rows in pieces:
        again = _as_dict(net.columns(mini.take(rows), columns))
        pairs = [(value, said[name].grad) for name, value in again.items() if value.requires_grad]
        pairs = [(value, grad[rows, : value.shape[1]]) for value, grad in pairs if grad is not None]
        torch.autograd.backward([value for value, _ in pairs], [grad for _, grad in pairs])
    return float(loss.detach())


def look_again(rows: Rows, net: Policy, view: str, columns: Mapping[str, Column], micro_tokens: int) -> Rows:
    """The rows with ``view.logp`` and the columns of `view`, as the model behind it sees them: ref, teacher."""
    pieces = split(rows, micro_tokens)
    with net.seen_by(view) as other:
        seen = [_as_dict(_look(other, rows, piece, columns)) for piece in pieces]
    said = _together(rows, pieces, seen)
    return rows.with_columns(**{f"{view}.{name}": value for name, value in said.items()})


def split(rows: Rows, micro_tokens: int) -> list[Tensor]:
    """Row indices of micro-batches: at most `micro_tokens` padded tokens each (but at least one row)."""
    order = sorted(range(len(rows)), key=lambda b: (rows.prompts[b], int(rows.length[b])))
    pieces: list[list[int]] = [[]]
    for b in order:
        trial = [*pieces[-1], b]
        prompts = {rows.prompts[i] for i in trial}
        tokens = len(trial) * int(rows.length[trial].max()) + len(prompts) * max(map(len, prompts))
        if tokens > micro_tokens and pieces[-1]:
            pieces.append([b])
        else:
            pieces[-1] = trial
    return [torch.tensor(piece) for piece in pieces]


@torch.no_grad()
def _look(net: Policy, rows: Rows, piece: Tensor, columns: Mapping[str, Column]) -> Now:
    return net.columns(rows.take(piece), columns)


def _as_dict(now: Now) -> dict[str, Tensor]:
    return {"logp": now.logp, **now.columns}


def _together(rows: Rows, pieces: list[Tensor], seen: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What was said of each piece, at its place in the whole. {name: [b,T,...]}"""
    whole = {}
    for name, like in seen[0].items():
        whole[name] = like.new_zeros(len(rows), rows.tokens.shape[1], *like.shape[2:])
        for piece, said in zip(pieces, seen, strict=True):
            whole[name][piece, : said[name].shape[1]] = said[name]
    return whole

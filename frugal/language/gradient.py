"""Gradients in micro-batches that are exactly those of one batch, and second looks by other weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from frugal.core import parallel

from .policy import Column, Now, Policy
from .rows import Rows


class Network(Protocol):
    """What says something of rows, and is trained: the policy, or a critic."""

    def columns(self, rows: Rows, wanted: Mapping[str, Column]) -> Now: ...

    def trainable(self) -> dict[str, torch.nn.Parameter]: ...


def accumulate(
    net: Network,
    mini: Rows,
    columns: Mapping[str, Column],
    objective: Callable[[Now], Tensor],
    micro_tokens: int,
    known: bool = False,
) -> float:
    """Put d objective / d weights into the gradients, which are empty before; returns the objective.

    The objective sees the whole minibatch at once, so no statistic or denominator depends on how it is split: what
    the model says is computed piece by piece without gradient, the objective is differentiated with respect to it,
    and that derivative is passed through the model piece by piece (Gao et al. 2021, arXiv 2101.06983, section 3).
    What the model says is `known`, as `mini.old`, as long as it has the weights that sampled; and tokens after which
    the derivative is 0 everywhere, as in a group without spread, do not pass through the model at all.
    Of several processes each does so with its own pieces, and all have the whole gradient in the end.
    """
    known = known and not columns
    pieces = split(mini, micro_tokens // 8 if known else micro_tokens)  # each passes once if known: small ones are free
    if len(pieces) == parallel.size == 1 and not known:
        loss = objective(net.columns(mini, columns))
        loss.backward()
        return float(loss.detach())
    alone = len(pieces) == 1 and not known  # a process's only piece keeps its graph
    seen = [] if known else _see(net, mini, pieces, columns, with_graph=alone)
    said = {"logp": mini.old.clone()} if known else _together(mini, pieces, seen)
    for value in said.values():
        value.requires_grad_(value.is_floating_point())
    loss = objective(Now(said["logp"], said))
    loss.backward()
    slopes = {name: value.grad for name, value in said.items() if value.grad is not None}
    told = mini.own & torch.stack([slope[..., None].flatten(2).any(2) for slope in slopes.values()]).any(0)
    moving, moves = mini.put(own=told), told.any(1)
    for rows in pieces:
        rows = rows if alone else rows[moves[rows]]
        if len(rows):
            again = seen[0] if alone else _as_dict(net.columns(moving.take(rows), columns))
            pairs = [(value, slopes[name]) for name, value in again.items() if name in slopes and value.requires_grad]
            pairs = [(value, slope[rows, : value.shape[1]]) for value, slope in pairs]
            torch.autograd.backward([value for value, _ in pairs], [slope for _, slope in pairs])
    if not moves.any():
        for weight in net.trainable().values():  # a gradient of zero, with which an optimiser's momentum goes on
            weight.grad = torch.zeros_like(weight)
    parallel.sum_gradients(net.trainable().values())
    return float(loss.detach())


def look_again(rows: Rows, net: Policy, view: str, columns: Mapping[str, Column], micro_tokens: int) -> Rows:
    """The rows with ``view.logp`` and the columns of `view`, as the model behind it sees them: ref, teacher."""
    with net.seen_by(view) as other:
        said = look(rows, other, columns, micro_tokens)
    return rows.with_columns(**{f"{view}.{name}": value for name, value in said.items()})


def look(rows: Rows, net: Network, columns: Mapping[str, Column], micro_tokens: int) -> dict[str, Tensor]:
    """What `net` says of the rows, without gradient. {name: [B,T,...]}"""
    pieces = split(rows, micro_tokens)
    return _together(rows, pieces, _see(net, rows, pieces, columns))


def split(rows: Rows, micro_tokens: int) -> list[Tensor]:
    """Row indices of this process's micro-batches: at most `micro_tokens` padded tokens each (but at least one row)."""
    order = sorted(range(len(rows))[parallel.share(len(rows))], key=lambda b: (rows.prompts[b], int(rows.length[b])))
    pieces: list[list[int]] = [[]]
    for b in order:
        trial = [*pieces[-1], b]
        prompts = {rows.prompts[i] for i in trial}
        tokens = len(trial) * int(rows.length[trial].max()) + len(prompts) * max(map(len, prompts))
        if tokens > micro_tokens and pieces[-1]:
            pieces.append([b])
        else:
            pieces[-1] = trial
    return [torch.tensor(piece) for piece in pieces if piece]


def _see(
    net: Network, rows: Rows, pieces: list[Tensor], columns: Mapping[str, Column], with_graph: bool = False
) -> list[dict[str, Tensor]]:
    """What is said of each piece; of one row where there is no piece, so that its shapes are known."""
    with torch.set_grad_enabled(with_graph):
        return [_as_dict(net.columns(rows.take(piece), columns)) for piece in pieces or [torch.tensor([0])]]


def _as_dict(now: Now) -> dict[str, Tensor]:
    return {"logp": now.logp, **now.columns}


@torch.no_grad()
def _together(rows: Rows, pieces: list[Tensor], seen: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What was said of each piece, by every process, at its place in the whole. {name: [b,T,...]}"""
    parallel.agree(hash(rows.tokens.shape), "the rows to learn from")
    whole = {}
    for name, like in seen[0].items():
        whole[name] = like.new_zeros(len(rows), rows.tokens.shape[1], *like.shape[2:])
        for piece, said in zip(pieces, seen, strict=False):
            whole[name][piece, : said[name].shape[1]] = said[name]
        whole[name] = parallel.summed(whole[name])
    return whole

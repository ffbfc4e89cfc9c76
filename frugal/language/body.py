"""The layers between token ids and the head, as sampler and trainer call them; for any architecture of transformers.

`llama.py` is the same for the Llama family, several times faster; `policy.py` takes it where it fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from .rows import Rows

Prompt = tuple[int, ...]


class Decoding(Protocol):
    """Rows that are being sampled."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row. tokens [A] -> the states after them [A,D]"""

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows at these indices only. [n]"""


class Body(Protocol):
    """What a policy needs of a model below its head. Each distinct prompt is encoded once."""

    def decode(self, prompts: Sequence[Prompt], index: Tensor, room: int) -> tuple[Tensor, Decoding]:
        """Rows that continue prompts[index[a]] by at most `room` tokens, and the state before the first. [A,D]"""

    def states(self, rows: Rows, at: Tensor) -> Tensor:
        """The state before each position of `at` [b,T] bool, row by row. [n,D]"""


class Generic:
    """A body of transformers, called as it is; prompts are padded on the left."""

    def __init__(self, backbone: Any):
        self.backbone = backbone

    def decode(self, prompts: Sequence[Prompt], index: Tensor, room: int) -> tuple[Tensor, GenericDecoding]:
        last, cache, mask = self._prefill(prompts)
        cache.batch_select_indices(index)
        return last[index], GenericDecoding(self, cache, mask[index])

    def states(self, rows: Rows, at: Tensor) -> Tensor:
        distinct = list(dict.fromkeys(rows.prompts))
        index = torch.tensor([distinct.index(p) for p in rows.prompts])
        last, cache, mask = self._prefill(distinct)
        states = last[index][:, None]
        if rows.tokens.shape[1] > 1:
            cache.batch_select_indices(index)
            states = torch.cat([states, self.extend(rows.tokens[:, :-1], cache, mask[index])[0]], dim=1)
        return states[at]

    def extend(self, tokens: Tensor, cache: DynamicCache, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Append tokens [B,t] to what the cache holds (mask [B,P]). Returns states [B,t,D] and the new mask."""
        mask = torch.cat([mask, mask.new_ones(tokens.shape)], dim=1)
        return self._run(tokens, mask, cache), mask

    def _prefill(self, prompts: Sequence[Prompt]) -> tuple[Tensor, DynamicCache, Tensor]:
        width, cache = max(map(len, prompts)), DynamicCache()
        ids = torch.tensor([(0,) * (width - len(p)) + tuple(p) for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        return self._run(ids, mask, cache)[:, -1], cache, mask

    def _run(self, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return self.backbone(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, past_key_values=cache
        ).last_hidden_state


class GenericDecoding:
    """Rows in a cache of transformers."""

    def __init__(self, body: Generic, cache: DynamicCache, mask: Tensor):
        self.body, self.cache, self.mask = body, cache, mask

    def step(self, tokens: Tensor) -> Tensor:
        hidden, self.mask = self.body.extend(tokens[:, None], self.cache, self.mask)
        return hidden[:, 0]

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]

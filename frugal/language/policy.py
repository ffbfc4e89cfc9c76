"""What sampler and trainer see of a Hugging Face causal model: hidden states, a head, and columns read from both.

The prompt of a group is encoded once, in sampling and in training, and log-probabilities are computed in chunks, so
that batch x time x vocabulary never exists.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from frugal.core.errors import BadModel

from .body import Body, Generic
from .llama import Llama, fits
from .rows import Rows

Column = Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits[n,V], token[n], hidden[n,D]) -> [n,...]

CHUNK_FLOATS = 2**25  # logits that exist at once: 128 MB in float32
STATES = 2**26  # tokens x layers x width of one forward and backward pass, which takes a dozen times as many floats


@dataclass(frozen=True)
class Now:
    """The policy's present view of b rollouts: log-probabilities and the columns that parts asked for."""

    logp: Tensor  # [b,T], 0 where not own
    columns: Mapping[str, Tensor]  # [b,T,...]

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]


class Policy:
    """A causal model with its tokenizer. `temperature` divides every logit: it is part of the policy itself."""

    writes = True  # a reward model is trained as a policy is, and says nothing

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # below LoRA
        self._assemble(model, tokenizer, inner, inner.get_output_embeddings())
        self._check_head(inner)

    def _assemble(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, inner: PreTrainedModel, head: Any
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer  # no dropout: one policy samples and is trained
        self.temperature = 1.0
        self.backbone, self.head = inner.base_model, head
        self.body: Body = Llama(self.backbone) if fits(inner.config) else Generic(self.backbone)
        self.context = getattr(inner.config, "max_position_embeddings", None) or 2**31
        self.ends = _end_tokens(inner, tokenizer)
        self._decode = lru_cache(2**14)(
            partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )
        self.end = int(self.ends[0]) if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
        self.reference: Policy | None = None
        self.others: dict[str, Policy] = {}  # frozen models that look at the rows too, by view: a teacher

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def exact(self) -> bool:
        """Whether sampling and training say the same to rounding in float32; in half precision they do not."""
        return self.head.weight.dtype == torch.float32

    @property
    def micro_tokens(self) -> int:
        """Tokens of one forward and backward pass where memory has to be bounded."""
        return max(STATES // (self.backbone.config.num_hidden_layers * self.backbone.config.hidden_size), 1)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    # -- forward ----------------------------------------------------------------------------------------------

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..,D] -> logits [..,V] in float32, at the policy's temperature."""
        logits = self.head(hidden).float()
        return logits if self.temperature == 1.0 else logits / self.temperature

    def columns(self, rows: Rows, wanted: Mapping[str, Column]) -> Now:
        """Log-probabilities of the own tokens of `rows`, and the wanted columns, with gradient if enabled."""
        hidden, own = self.body.states(rows, rows.own), rows.own
        tokens, read = rows.tokens[own], {}
        size = max(1, CHUNK_FLOATS // self.head.weight.shape[0])
        pieces = []
        for h, token in zip(hidden.split(size), tokens.split(size), strict=True):
            if torch.is_grad_enabled() and len(tokens) > size:
                pieces.append(checkpoint(self.read, h, token, wanted, use_reentrant=False))
            else:
                pieces.append(self.read(h, token, wanted))
        for name in ("logp", *wanted):
            flat = torch.cat([piece[name] for piece in pieces]) if pieces else hidden.new_zeros(0)
            read[name] = flat.new_zeros(*own.shape, *flat.shape[1:]).masked_scatter(_like(own, flat), flat)
        return Now(read.pop("logp"), read)

    def read(self, hidden: Tensor, tokens: Tensor, wanted: Mapping[str, Column]) -> dict[str, Tensor]:
        """One chunk: hidden [n,D], tokens [n] -> {"logp": [n], column: [n,...]}."""
        return self.read_logits(self.logits(hidden), tokens, hidden, wanted)

    def read_logits(
        self, logits: Tensor, tokens: Tensor, hidden: Tensor, wanted: Mapping[str, Column]
    ) -> dict[str, Tensor]:
        """As `read`, from logits [n,V] that are there already."""
        logp = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)
        return {"logp": logp, **{name: column(logits, tokens, hidden) for name, column in wanted.items()}}

    # -- other weights ----------------------------------------------------------------------------------------

    def copy(self) -> Policy:
        """A second policy with the same weights, sharing nothing."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        other.__init__(other.model, self.tokenizer)  # type: ignore[misc]
        other.temperature = self.temperature
        return other

    def freeze_reference(self) -> None:
        """Remember the present weights as the reference policy: the model that the user passed."""
        if not self._has_idle_adapter():
            self.reference = self.copy()
            self.reference.model.requires_grad_(False)

    @torch.no_grad()
    def _has_idle_adapter(self) -> bool:
        """Whether the model has an adapter that changes nothing yet, so that it is the reference without it."""
        if not hasattr(self.model, "disable_adapter"):
            return False
        ids = torch.tensor([[1, 2, 3]]) % self.head.weight.shape[0]
        here = self.backbone(input_ids=ids).last_hidden_state
        with self.model.disable_adapter():
            return torch.equal(here, self.backbone(input_ids=ids).last_hidden_state)

    @contextmanager
    def seen_by(self, view: str) -> Iterator[Policy]:
        """One of `others`, or ("ref") the policy as it was at the start: the frozen copy, or without its adapter."""
        other = self.reference if view == "ref" else self.others[view]
        if other is not None:
            other.temperature = self.temperature
            yield other
        else:
            with self.model.disable_adapter():
                yield self

    # -- text -------------------------------------------------------------------------------------------------

    def encode(self, prompt: str | Sequence[Mapping[str, str]], prefix: str = "") -> tuple[int, ...]:
        """Token ids of a prompt; text goes through the chat template where the tokenizer has one."""
        return self.encode_all([prompt], prefix)[0]

    def encode_all(
        self, prompts: Sequence[str | Sequence[Mapping[str, str]]], prefix: str = ""
    ) -> list[tuple[int, ...]]:
        """As `encode`, for many prompts."""
        special = not self.tokenizer.chat_template  # a template writes its special tokens itself
        texts = [self._text(prompt) + prefix for prompt in prompts]
        return [tuple(ids) for ids in self.tokenizer(texts, add_special_tokens=special)["input_ids"]] if texts else []

    def _text(self, prompt: str | Sequence[Mapping[str, str]]) -> str:
        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        if isinstance(prompt, str):
            return prompt
        raise BadModel(
            "this task's prompts are chat messages, and the model's tokenizer has no chat template; "
            "use a chat model, or prompts of plain text"
        )

    def encode_reply(self, text: str) -> tuple[int, ...]:
        """Token ids of an environment's message, from just after the policy's end token to its next turn."""
        if not self.tokenizer.chat_template:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        chat = [
            {"role": "user", "content": "-"},
            {"role": "assistant", "content": "ANSWER"},
            {"role": "user", "content": text},
        ]
        whole = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        after = whole.partition("ANSWER")[2]
        ends = [end for end in self.tokenizer.convert_ids_to_tokens(self.ends.tolist()) if end and end in after]
        if ends:  # the policy has sampled it; a template that writes none leaves it to the policy
            after = after.partition(min(ends, key=after.index))[2]
        return tuple(self.tokenizer(after, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a response, special tokens left out."""
        return self._decode(tuple(tokens))

    def _check_head(self, inner: PreTrainedModel) -> None:
        """Some architectures scale or cap their logits outside the head; refuse rather than be slightly wrong."""
        with torch.no_grad():
            ids = torch.tensor([[1, 2, 3]]) % self.head.weight.shape[0]
            whole = inner(input_ids=ids).logits.float()
            ours = self.head(self.backbone(input_ids=ids).last_hidden_state).float()
        if not torch.allclose(whole, ours, rtol=1e-3, atol=1e-3):
            raise BadModel(
                f"{type(inner).__name__} computes its logits outside its output layer, which is not "
                "supported yet; use a model such as Llama, Qwen2, Qwen3 or SmolLM"
            )


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = {*(configured if isinstance(configured, (list, tuple)) else [configured]), tokenizer.eos_token_id} - {None}
    if not ends:
        raise BadModel("the model names no end-of-sequence token; set tokenizer.eos_token")
    return torch.tensor(sorted(ends))


def _like(own: Tensor, flat: Tensor) -> Tensor:
    """The mask `own` [b,T] with as many trailing axes as a column has."""
    return own.view(*own.shape, *[1] * (flat.ndim - 1)).expand(*own.shape, *flat.shape[1:])

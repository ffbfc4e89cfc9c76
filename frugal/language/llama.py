"""The body of a Llama-like model, written out: linear layers see real tokens only, and a group shares its prompt.

Axes: n tokens in a row, G prompts, P positions of a prompt, m rows of a prompt (the most that one has), t positions of
a response, s keys of a response, H heads, K heads of keys and values, d width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .body import Prompt
from .rows import Rows

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
GROW = 64  # positions by which room for a response's keys begins; it doubles
ROTARY = ("default", "linear", "llama3", "yarn")  # whose angles depend on the position alone

Pair = tuple[Tensor, Tensor]  # keys and values
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # (layer, q [n,H,d], k [n,K,d], v [n,K,d]) -> [n,H,d]


def fits(config: Any) -> bool:
    """Whether `Llama` computes what a model of this configuration does."""
    return (
        config.model_type in FAMILY
        and config.hidden_act == "silu"
        and config.rope_parameters.get("rope_type") in ROTARY
        and not (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True))
    )


class Llama:
    """Llama, Mistral, Qwen2, Qwen3. The weights stay in the model's own modules, with adapters where it has any."""

    def __init__(self, backbone: Any):
        self.net = backbone
        self.width = backbone.layers[0].self_attn.head_dim

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """ids [n], positions [n] -> states [n,D]"""
        x = self.net.embed_tokens(ids)
        cos, sin = (c[0, :, None] for c in self.net.rotary_emb(x, positions[None]))  # [n,1,d]
        for i, layer in enumerate(self.net.layers):
            block, mlp = layer.self_attn, layer.mlp
            h = norm(layer.input_layernorm, x)
            q, k, v = (p(h).unflatten(1, (-1, self.width)) for p in (block.q_proj, block.k_proj, block.v_proj))
            if hasattr(block, "q_norm"):
                q, k = norm(block.q_norm, q), norm(block.k_norm, k)
            x = x + block.o_proj(attend(i, rotate(q, cos, sin), rotate(k, cos, sin), v).flatten(1))
            h = norm(layer.post_attention_layernorm, x)
            x = x + mlp.down_proj(Gated.apply(mlp.gate_proj(h), mlp.up_proj(h)))
        return norm(self.net.norm, x)

    def states(self, rows: Rows, at: Tensor) -> Tensor:
        """The state before each position of `at` [b,T] bool, row by row. [n,D]"""
        distinct = {p: g for g, p in enumerate(dict.fromkeys(rows.prompts))}
        prompts, index = Prompts(list(distinct)), torch.tensor([distinct[p] for p in rows.prompts])
        steps = torch.arange(at.shape[1])
        real = steps < (at * steps).amax(1, keepdim=True)  # [b,T]: tokens that an asked state follows
        seat, m = seats(index, len(distinct))
        T, n = int(real.sum(1).max()), len(prompts.ids)
        grid = Place((seat[:, None] * T + steps)[real], (len(distinct), m, T))
        ids = torch.cat([prompts.ids, rows.tokens[real]])
        positions = torch.cat([prompts.positions, (prompts.length[index, None] + steps)[real]])
        later = torch.ones(T, T, dtype=torch.bool).triu(1)

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            first, kp, vp = prompts.attend(q[:n], k[:n], v[:n])
            q, k, v = (grid.spread(x[n:]) for x in (q, k, v))  # [G,m,T,H,d]
            then = shared(q, k.transpose(2, 3), v.transpose(2, 3), kp, vp, prompts.hole, later)
            return torch.cat([first, grid.gather(then)])

        hidden = self.forward(ids, positions, attend)
        where = n - 1 + real.flatten().cumsum(0).view_as(real)  # of the state after each real token
        before = torch.cat([prompts.last[index, None], where[:, :-1]], dim=1)
        return hidden[before[at]]

    def decode(self, prompts: Sequence[Prompt], index: Tensor, room: int) -> tuple[Tensor, Decoding]:
        """Rows that continue prompts[index[a]] by at most `room` tokens, and the state before the first. [A,D]"""
        side, keys = Prompts(prompts), list[Pair]()

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out, kp, vp = side.attend(q, k, v)
            keys.append((kp, vp))
            return out

        hidden = self.forward(side.ids, side.positions, attend)
        return hidden[side.last[index]], Decoding(self, side, keys, index, room)


class Prompts:
    """Distinct prompts, one after the other in one row of tokens."""

    def __init__(self, prompts: Sequence[Prompt]):
        self.length = torch.tensor([len(p) for p in prompts])  # [G]
        self.last = self.length.cumsum(0) - 1  # [G]: where each ends
        self.ids = torch.tensor([token for p in prompts for token in p])  # [n]
        steps = torch.arange(int(self.length.max()))
        real = steps < self.length[:, None]  # [G,P]
        self.positions = steps.expand_as(real)[real]
        self.hole = ~real[:, None, None]  # [G,1,1,P]
        self.place = Place(real.flatten().nonzero()[:, 0], real.shape)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Causal attention within each prompt. Returns it [n,H,d], and the keys and values [G,K,P,d]."""
        q, k, v = (self.place.spread(x).transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.place.gather(out.transpose(1, 2)), k, v


class Place:
    """Where n rows lie in a grid of which some places stay empty."""

    def __init__(self, where: Tensor, shape: Sequence[int]):
        """where [n]: indices into the flattened grid of this shape, each at most once."""
        self.where, self.shape, self.size = where, shape, math.prod(shape)
        self.whole = len(where) == self.size and bool((where == torch.arange(self.size)).all())

    def spread(self, x: Tensor) -> Tensor:
        """x [n,...] -> [*shape,...], 0 in empty places"""
        if not self.whole:
            x = x.new_zeros(self.size, *x.shape[1:]).index_copy(0, self.where, x)
        return x.unflatten(0, self.shape)

    def gather(self, grid: Tensor) -> Tensor:
        """grid [*shape,...] -> [n,...]"""
        flat = grid.flatten(0, len(self.shape) - 1)
        return flat if self.whole else Gather.apply(flat, self.where)


def seats(index: Tensor, groups: int) -> tuple[Tensor, int]:
    """A place for each row in a grid [G,m] by its prompt index [b], and m. -> [b], m"""
    counts = index.bincount(minlength=groups)
    order = index.argsort(stable=True)
    rank = torch.empty_like(index)
    rank[order] = torch.arange(len(index)) - (counts.cumsum(0) - counts)[index[order]]
    m = int(counts.max())
    return index * m + rank, m


def shared(q: Tensor, k: Tensor, v: Tensor, kp: Tensor, vp: Tensor, hole: Tensor, later: Tensor | None) -> Tensor:
    """Attention of responses to their prompt and to themselves, one softmax over both. -> [G,m,t,H,d]

    q [G,m,t,H,d]; own keys and values k, v [G,m,K,s,d], later [t,s] bool where a key comes after the query; the
    prompt's kp, vp [G,K,P,d], hole [G,1,1,P] bool where there is none. One product serves all rows of a prompt.
    """
    (G, m, t, H, d), (_, K, P, _) = q.shape, kp.shape
    r = H // K  # heads that share keys
    q = (q * d**-0.5).view(G, m, t, K, r, d).permute(0, 1, 3, 4, 2, 5).reshape(G, m, K, r * t, d)
    prompt = q.transpose(1, 2).reshape(G, K, m * r * t, d) @ kp.transpose(2, 3)
    prompt = prompt.masked_fill(hole, -torch.inf).view(G, K, m, r * t, P).transpose(1, 2)  # [G,m,K,rt,P]
    own = q @ k.transpose(3, 4)  # [G,m,K,rt,s]
    if later is not None:
        own = own.masked_fill(later.repeat(r, 1), -torch.inf)
    weight = torch.cat([prompt, own], dim=-1).softmax(-1, dtype=torch.float32).to(q.dtype)
    prompt, own = weight.split([P, k.shape[3]], dim=-1)
    out = (prompt.transpose(1, 2).reshape(G, K, m * r * t, P) @ vp).view(G, K, m, r * t, d).transpose(1, 2) + own @ v
    return out.view(G, m, K, r, t, d).permute(0, 1, 4, 2, 3, 5).reshape(G, m, t, H, d)


class Decoding:
    """Rows that are being sampled, with the keys and values of their own tokens."""

    def __init__(self, body: Llama, prompts: Prompts, keys: list[Pair], index: Tensor, room: int):
        self.body, self.keys, self.hole, self.index, self.room = body, keys, prompts.hole, index, room
        self.positions, self.t = prompts.length[index], 0
        where, m = seats(index, len(prompts.length))
        self.place = Place(where, (len(prompts.length), m))
        some = keys[0][0]  # [G,K,P,d]
        shape = (some.shape[0], m, some.shape[1], min(room, GROW), some.shape[3])
        self.own = [(some.new_zeros(shape), some.new_zeros(shape)) for _ in keys]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row. tokens [A] -> the states after them [A,D]"""
        t, self.t = self.t, self.t + 1
        if t == self.own[0][0].shape[3]:
            more = min(t, self.room - t)
            self.own = [(F.pad(k, (0, 0, 0, more)), F.pad(v, (0, 0, 0, more))) for k, v in self.own]

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for own, new in zip(self.own[i], (k, v), strict=True):
                own[:, :, :, t] = self.place.spread(new)
            k, v = (own[:, :, :, : self.t] for own in self.own[i])
            out = shared(self.place.spread(q)[:, :, None], k, v, *self.keys[i], self.hole, None)
            return self.place.gather(out[:, :, 0])

        hidden = self.body.forward(tokens, self.positions, attend)
        self.positions = self.positions + 1
        return hidden

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows at these indices only; the grid is laid anew when a quarter of it is empty. [n]"""
        old, self.index, self.positions = self.place.where[rows], self.index[rows], self.positions[rows]
        left, index = self.index.unique(return_inverse=True)
        where, m = seats(index, len(left))
        if 4 * len(left) * m > 3 * self.place.size:
            self.place = Place(old, self.place.shape)
            return
        if len(left) < len(self.hole):
            self.keys = [(k[left], v[left]) for k, v in self.keys]
            self.index, self.hole = index, self.hole[left]
        self.place = place = Place(where, (len(left), m))

        def relaid(x: Tensor) -> Tensor:
            return place.spread(x.flatten(0, 1)[old])

        self.own = [(relaid(k), relaid(v)) for k, v in self.own]


class Gather(torch.autograd.Function):
    """x[where] for indices without repeats, whose gradient is a copy instead of a sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor) -> Tensor:
        ctx.where, ctx.shape = where, x.shape
        return x.index_select(0, where)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.shape).index_copy_(0, ctx.where, grad), None


class RMSNorm(torch.autograd.Function):
    """x / rms(x) * weight over the last axis (Zhang and Sennrich 2019), a third of the time of autograd's backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rate = (x.float().square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, weight, rate)
        return (x.float() * rate).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, rate = ctx.saved_tensors
        unit, g = x.float() * rate, (grad * weight).float()
        along = torch.linalg.vecdot(g, unit)[..., None] / x.shape[-1]
        dweight = (grad * unit).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        return g.addcmul_(unit, along, value=-1).mul_(rate).to(x.dtype), dweight, None


class Gated(torch.autograd.Function):
    """silu(gate) * up; its backward needs only the two (autograd keeps silu(gate) as well)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


def norm(module: Any, x: Tensor) -> Tensor:
    return RMSNorm.apply(x, module.weight, module.variance_epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021). x [n,H,d]; cos, sin [n,1,d]"""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin

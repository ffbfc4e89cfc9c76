"""Networks as functions of named weights, and weights that lie in one flat vector with one Adam over all of it.

Functions, so that the same network runs with the present weights, with those of the target, or with any others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.adam import adam
from torch.overrides import TorchFunctionMode

from frugal.core.errors import BadTask

Weights = Mapping[str, Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "tanh": torch.tanh,
    "normalised": lambda x: F.leaky_relu(F.layer_norm(x, x.shape[1:])),
}


def linear(inputs: int, outputs: int, rng: torch.Generator, gain: float | None = None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer: orthogonal with a gain and zero bias, or even in +-1/sqrt(inputs) without one."""
    if gain is not None:
        return orthogonal(outputs, inputs, gain, rng), torch.zeros(outputs)
    bound = 1 / math.sqrt(inputs)
    weight, bias = torch.empty(outputs, inputs), torch.empty(outputs)
    return weight.uniform_(-bound, bound, generator=rng), bias.uniform_(-bound, bound, generator=rng)


def orthogonal(rows: int, columns: int, gain: float, rng: torch.Generator) -> Tensor:
    """A [rows, columns] matrix with orthonormal rows or columns, times gain (Saxe et al. 2014, arXiv 1312.6120)."""
    tall = torch.randn(max(rows, columns), min(rows, columns), generator=rng)
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()  # so that the draw is even over all of them
    return gain * (q if rows >= columns else q.T).contiguous()


def mlp_weights(
    name: str, sizes: Sequence[int], rng: torch.Generator, gains: tuple[float, float] | None = None
) -> dict[str, Tensor]:
    """{"name.0.weight": ...} of a multilayer perceptron; `gains` of hidden layers and of the last one."""
    weights: dict[str, Tensor] = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        gain = None if gains is None else gains[i == len(sizes) - 2]
        weights[f"{name}.{i}.weight"], weights[f"{name}.{i}.bias"] = linear(inputs, outputs, rng, gain)
    return weights


def mlp(weights: Weights, name: str, x: Tensor, layers: int, activation: str = "relu") -> Tensor:
    """The perceptron of `layers` linear layers on x [B,D]; no activation after the last."""
    for i in range(layers):
        x = F.linear(x, weights[f"{name}.{i}.weight"], weights[f"{name}.{i}.bias"])
        if i < layers - 1:
            x = ACTIVATIONS[activation](x)
    return x


def ensemble_weights(name: str, members: int, sizes: Sequence[int], rng: torch.Generator) -> dict[str, Tensor]:
    """Of perceptrons `name`.0, `name`.1, ... that see the same input."""
    each = [mlp_weights(f"{name}.{k}", sizes, rng) for k in range(members)]
    return {key: value for weights in each for key, value in weights.items()}


def ensemble(weights: Weights, name: str, members: int, x: Tensor, layers: int) -> Tensor:
    """The outputs [K,B] of `members` perceptrons with one output on x [B,D]."""
    return torch.stack([mlp(weights, f"{name}.{k}", x, layers)[:, 0] for k in range(members)])


def convolutions(name: str, shape: Sequence[int], features: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Three convolutions and a linear layer; of Mnih et al. 2015 for large pictures, of 3 x 3 for small ones."""
    height, width, channels = shape
    weights: dict[str, Tensor] = {}
    for i, (size, stride, out) in enumerate(_kernels(min(height, width))):
        weight, bias = linear(channels * size * size, out, rng)
        weights[f"{name}.{i}.weight"], weights[f"{name}.{i}.bias"] = weight.view(out, channels, size, size), bias
        height, width, channels = (height - size) // stride + 1, (width - size) // stride + 1, out
    weights[f"{name}.3.weight"], weights[f"{name}.3.bias"] = linear(height * width * channels, features, rng)
    return weights


def convolve(weights: Weights, name: str, obs: Tensor) -> Tensor:
    """uint8 pictures [B,H,W,C] -> features [B,D]."""
    x = (obs.float() / 255).permute(0, 3, 1, 2)
    for i, (_, stride, _) in enumerate(_kernels(min(x.shape[2:]))):
        x = F.conv2d(x, weights[f"{name}.{i}.weight"], weights[f"{name}.{i}.bias"], stride).relu()
    return F.linear(x.flatten(1), weights[f"{name}.3.weight"], weights[f"{name}.3.bias"]).relu()


def _kernels(side: int) -> tuple[tuple[int, int, int], ...]:
    """(size, stride, channels) of each convolution."""
    if side < 7:  # of which three convolutions of 3 x 3 leave one pixel
        raise BadTask(
            f"pictures of {side} pixels in height or width are too small to convolve; give them as vectors "
            "(gymnasium.wrappers.FlattenObservation, in a function that makes the environment)"
        )
    return ((8, 4, 32), (4, 2, 64), (3, 1, 64)) if side >= 36 else ((3, 1 + (side > 10), 16), (3, 1, 16), (3, 1, 16))


class Active(TorchFunctionMode):
    """Counts, within it, the outputs of all rectified units, and those that are above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.units = self.above = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("relu", "relu_"):
            self.units += out.numel()
            self.above += int((out > 0).sum())
        return out


class Flat:
    """Named weights as views of one vector, and Adam (Kingma and Ba 2015, arXiv 1412.6980) over all of it."""

    def __init__(self, weights: Weights):
        self.shapes = {name: w.shape for name, w in weights.items()}
        self.vector = torch.cat([w.detach().reshape(-1) for w in weights.values()]) if weights else torch.zeros(0)
        self.weights = {name: w.requires_grad_() for name, w in self.views(self.vector).items()}
        self.steps = torch.zeros(())
        self.mean, self.square = torch.zeros_like(self.vector), torch.zeros_like(self.vector)

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """The pieces of a vector such as this one, by name."""
        pieces = vector.split([shape.numel() for shape in self.shapes.values()])
        named = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.view(shape).detach() for (name, shape), piece in named}

    def gradient(self, loss: Tensor, weights: Weights | None = None, graph: bool = False) -> Tensor:
        """d loss / d weights as one vector; 0 for weights that the loss does not depend on.

        `weights` are others than its own; with `graph` the gradient has a gradient.
        """
        at = list((self.weights if weights is None else weights).values())
        grads = torch.autograd.grad(loss, at, allow_unused=True, create_graph=graph)
        pairs = zip(grads, at, strict=True)
        return torch.cat([(torch.zeros_like(w) if g is None else g).reshape(-1) for g, w in pairs])

    def step(self, gradient: Tensor, lr: float, max_norm: float = float("inf"), eps: float = 1e-8) -> float:
        """One step of Adam. Returns the gradient's norm; if that is NaN or infinite, nothing is updated."""
        norm = float(gradient.dot(gradient)) ** 0.5
        if not norm < float("inf"):
            return norm
        if norm > max_norm:
            gradient.mul_(max_norm / (norm + 1e-6))
        adam(
            [self.vector],
            [gradient],
            [self.mean],
            [self.square],
            [],
            [self.steps],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr,
            weight_decay=0.0,
            eps=eps,
            maximize=False,
        )
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        return {"weights": self.vector, "steps": self.steps, "mean": self.mean, "square": self.square}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, own in self.state_dict().items():
            own.copy_(state[name])

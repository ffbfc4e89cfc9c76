"""AdamW with gradient clipping and float32 master weights, whose whole state can be saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Optimiser:
    """AdamW (Loshchilov and Hutter 2019) on named parameters; lower-precision weights have float32 masters."""

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], weight_decay: float = 0.0, max_grad_norm: float = 1.0
    ):
        self.parameters, self.weight_decay, self.max_grad_norm = dict(parameters), weight_decay, max_grad_norm
        self.masters = {
            name: p if p.dtype == torch.float32 else p.detach().float().requires_grad_()
            for name, p in self.parameters.items()
        }
        self.adam = torch.optim.AdamW(list(self.masters.values()), fused=True)

    def step(self, lr: float) -> float:
        """One update from the gradients that lie in the parameters, which are cleared. Returns their norm.

        If that is NaN or infinite, nothing is updated.
        """
        for name, p in self.parameters.items():
            master = self.masters[name]
            if master is not p:
                master.grad = None if p.grad is None else p.grad.float()
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters.values(), self.max_grad_norm))
        if norm < float("inf"):
            for group in self.adam.param_groups:
                group["lr"], group["weight_decay"] = lr, self.weight_decay
            self.adam.step()
            with torch.no_grad():
                for name, p in self.parameters.items():
                    if self.masters[name] is not p:
                        p.copy_(self.masters[name])
        self.clear()
        return norm

    def clear(self) -> None:
        """Forget the gradients."""
        for name, p in self.parameters.items():
            p.grad = self.masters[name].grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """{"name/master": weights, "name/exp_avg": ...}"""
        state: dict[str, Tensor] = {}
        for name, master in self.masters.items():
            state[f"{name}/master"] = master.detach()
            state.update({f"{name}/{key}": value for key, value in self.adam.state[master].items()})
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, master in self.masters.items():
            master.copy_(state[f"{name}/master"])
            self.parameters[name].copy_(master)
            self.adam.state[master] = {
                key.rsplit("/", 1)[1]: value.clone()
                for key, value in state.items()
                if key.startswith(f"{name}/") and not key.endswith("/master")
            }

"""A trained policy on disk: policy.safetensors and policy.json; it loads without the run that made it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugal.core.errors import BadRun, FrugalError
from frugal.core.live import Live
from frugal.core.recipe import Recipe
from frugal.core.run import Run
from frugal.registry import recipe as parse

from .net import Net
from .spaces import Spaces

PARTS = ("learn.encoder", "learn.policy", "learn.critic", "act.deploy")  # those that acting takes


class Policy:
    """How a trained recipe acts."""

    def __init__(self, recipe: Recipe, spaces: Spaces, state: Mapping[str, Any], task: str = ""):
        self.recipe, self.spaces, self.task = recipe, spaces, task
        run = Run(1)
        run.ledger.samples = 1  # schedules are at their end
        run.spaces, run.settings = spaces, recipe.settings.at(1.0)
        self.net = run.net = Net(recipe, spaces, run)
        with torch.no_grad():
            for name, weight in self.net.weights.items():
                weight.copy_(state[f"weights/{name}"])
        for path in PARTS:
            setattr(self.net, path.split(".")[1], _begin(path, recipe.parts[path], run, state))

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """obs [N,O] -> a [N,A], in [-1, 1] or choices counted from 0."""
        return self.net.deploy(self.net, obs)  # type: ignore[no-any-return]

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """One observation (flattened by `gymnasium.spaces.flatten` if it is a Dict) -> what the environment takes."""
        x, shape = np.asarray(obs), self.spaces.shape
        if self.spaces.pixels and x.shape == (shape[2], *shape[:2]) != shape:  # channels come first
            x = np.moveaxis(x, 0, 2)
        dtype = torch.uint8 if self.spaces.pixels else torch.float32
        a = self.act(torch.as_tensor(x).to(dtype).reshape(1, *shape))
        return self.spaces.own(self.spaces.act(a.numpy())[0])  # type: ignore[no-any-return]


def save(folder: Path, net: Net, live: Live, recipe: Recipe, task: str) -> None:
    """Write the policy of a run into a folder."""
    from safetensors.torch import save_file

    state = {f"weights/{name}": weight.detach().clone() for name, weight in net.weights.items()}
    values: dict[str, Any] = {}
    for key, value in live.state_dict().items():
        if key.split("/")[0].removesuffix(".inner") in PARTS:
            if isinstance(value, Tensor):
                state[f"parts/{key}"] = value.detach().contiguous()
            else:
                values[f"parts/{key}"] = value
    save_file(state, folder / "policy.safetensors")
    about = {"recipe": str(recipe), "task": task, "spaces": net.spaces.as_data(), "values": values}
    (folder / "policy.json").write_text(json.dumps(about, indent=2))


def load(folder: Path | str) -> Policy:
    """The policy in a folder such as ``runs/a/model``. Raises `BadRun` if there is none, or it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        about = json.loads((folder / "policy.json").read_text())
        state = {**about["values"], **load_file(folder / "policy.safetensors")}
        return Policy(parse(about["recipe"]), Spaces.from_data(about["spaces"]), state, about["task"])
    except FileNotFoundError:
        raise BadRun(f"{folder} holds no policy; a finished run has one in its folder model/") from None
    except FrugalError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadRun(f"the policy in {folder} is damaged: {error}") from None


def _begin(path: str, part: Any, run: Run, state: Mapping[str, Any]) -> Any:
    """A part with what it remembered."""
    if getattr(part, "inner", None) is not None:
        part = dataclasses.replace(part, inner=_begin(path + ".inner", part.inner, run, state))
    part = part.begin(run) if hasattr(part, "begin") else part
    if hasattr(part, "load_state_dict"):
        prefix = f"parts/{path}/"
        part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return part

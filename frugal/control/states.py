"""Snapshots of a simulator, as one array of float64: MuJoCo, classic control, and whoever can do it himself.

An environment of the user's offers `get_state() -> array` and `set_state(array) -> observation`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from frugal.core.errors import BadTask


def save_state(env: Any) -> np.ndarray:
    """The state of an environment. Raises `BadTask` if it has none that we know of."""
    inner = env.unwrapped
    if hasattr(inner, "get_state"):
        return np.asarray(inner.get_state(), np.float64)
    if hasattr(inner, "data") and hasattr(inner, "model"):
        import mujoco

        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(inner.model, kind))
        mujoco.mj_getState(inner.model, inner.data, state, kind)
        return state
    if hasattr(inner, "state") and inner.state is not None:
        return np.array(inner.state, np.float64)
    raise BadTask(f"{env} cannot save its state; give it get_state() -> array and set_state(array) -> observation")


def restore_state(env: Any, state: np.ndarray) -> Any:
    """Put an environment that was just reset into a saved state; its observation there, as its wrappers show it."""
    wrappers = []
    while env is not env.unwrapped:
        wrappers.append(env)
        env = env.env
    obs = _restore(env, state)
    for wrapper in reversed(wrappers):
        if isinstance(wrapper, gymnasium.ObservationWrapper):
            obs = wrapper.observation(obs)
        elif wrapper.observation_space != wrapper.env.observation_space:
            raise BadTask(
                f"{type(wrapper).__name__} shows more than the present state, so that no episode can begin in one; "
                "leave it out"
            )
    return obs


def _restore(inner: Any, state: np.ndarray) -> Any:
    """Of the environment within all wrappers."""
    if hasattr(inner, "get_state"):
        return inner.set_state(np.array(state))
    if hasattr(inner, "data") and hasattr(inner, "model"):
        import mujoco

        mujoco.mj_setState(inner.model, inner.data, np.array(state), mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(inner.model, inner.data)
        return inner._get_obs()
    if not hasattr(inner, "state"):
        raise BadTask(
            f"{inner} cannot restore a state; give it get_state() -> array and set_state(array) -> observation"
        )
    inner.state = np.array(state)
    for name in ("_get_obs", "_get_ob"):
        if hasattr(inner, name):
            return getattr(inner, name)()
    return np.array(state, np.float32)

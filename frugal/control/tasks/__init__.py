"""Environments of our own, for methods whose property none of Gymnasium's has: ``frugal/Coverage-v0`` and others."""

import gymnasium

gymnasium.register("frugal/CartPole-v0", f"{__name__}.cartpole:CartPole", max_episode_steps=500)
gymnasium.register("frugal/Coverage-v0", f"{__name__}.coverage:Coverage")
gymnasium.register("frugal/LotSizing-v0", f"{__name__}.lot_sizing:LotSizing")

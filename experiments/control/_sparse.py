"""Pendulum-v1 whose reward says only whether it stands upright."""

import gymnasium


class Upright(gymnasium.RewardWrapper):
    """1 for a step from within 26 degrees of the upright position, else 0."""

    def reward(self, reward):
        return float(self.unwrapped._get_obs()[0] > 0.9)


def pendulum(**options):
    return Upright(gymnasium.make("Pendulum-v1", **options))

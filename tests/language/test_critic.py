"""Value networks."""

import torch

from frugal.language.recipes import ppo
from tests.language.tinyrun import launch, policy, weights


def test_a_critic_of_a_model_in_half_precision():
    net = policy()
    net.model.to(torch.bfloat16)
    before = weights(net)
    launch(ppo(prompts=8, lr=1e-2), net=net, samples=16)
    assert not torch.equal(weights(net), before) and weights(net).isfinite().all()

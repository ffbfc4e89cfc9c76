"""The floor's count of operations: PyTorch's own counter over an update of ours, and over the one written out."""

from dataclasses import replace

import gymnasium
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.control_vs_peers import ROWS, Meter, operations, products, written_out
from frugal.control import loop_off
from frugal.control.env import environments
from frugal.control.net import Net
from frugal.core.live import Live
from frugal.core.run import Run
from frugal.registry import recipe
from tests.control.rows import rows


def test_products_by_hand():
    assert products(2, (3, 5, 1)) == (2 * 2 * (15 + 5), 2 * 2 * 15)


def test_an_update_computes_no_more_than_the_floor_counts():
    made, run = recipe("sac"), Run(1000)
    env = environments(lambda: gymnasium.make("Pendulum-v1"), 1, 0)
    run.spaces, run.settings = env.spaces, made.settings.at(0.0)
    net = run.net = Net(made, env.spaces, run)
    p = Live(made, run)
    net.join(p)
    batch = rows([[1.0]] * 256, obs=torch.randn(256, 1, 3), next=torch.randn(256, 1, 3))
    with FlopCounterMode(display=False) as counter:
        loop_off.learn(net, p, batch, run.settings, {"critic": [], "actor": [], "q": []}, 0)
    wanted = operations(ROWS["sac-1"], observation=3, actions=1)
    # the counter takes the first layer's gradient of observations, which comes with that of actions, for nothing less
    assert counter.get_total_flops() == pytest.approx(wanted, rel=0.01)


def test_the_update_that_is_written_out_computes_what_the_floor_counts():
    row = replace(ROWS["sac-1"], task="Pendulum-v1", warm=1, steps=1)
    meter = Meter(row)
    with FlopCounterMode(display=False) as counter:
        written_out(row, meter)
    assert [steps for steps, _ in meter.seen] == [1, 2]
    assert counter.get_total_flops() == pytest.approx(3 * operations(row, observation=3, actions=1), rel=0.01)

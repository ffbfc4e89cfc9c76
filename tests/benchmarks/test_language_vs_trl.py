"""The floor's counts: against PyTorch's own counter on a model with shared key heads, and by hand."""

import dataclasses

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from benchmarks.language_vs_trl import CHECKPOINTED, ROWS, WHOLE, Phase, Sizes, phases, trl_operations
from tests.language.tinyrun import tiny_model


def test_sizes_and_operations_are_pytorchs():
    net = tiny_model(num_attention_heads=4, num_key_value_heads=2, head_dim=6, attn_implementation="eager")
    s, cache, token = Sizes.of(net.config), DynamicCache(), torch.zeros(3, 1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for _ in range(5):  # one position after the other: a block would be counted as if each attended to all
            net(token, past_key_values=cache)
    assert s.trained == net.num_parameters()
    assert s.cache == sum(layer.keys[0, :, 0].numel() + layer.values[0, :, 0].numel() for layer in cache.layers)
    assert counter.get_total_flops() == 3 * (s.forward(range(1, 6)) + 5 * 2 * s.head)


def test_a_step_by_hand():
    s = Sizes(layers=2, body=100, head=7, attention=3, cache=5, trained=200)
    row = dataclasses.replace(ROWS["tiny"], prompts=2, group=3, prompt=2, tokens=2)
    found = phases(row, s, width=4)
    # a token costs 200 + 24 x position: a prompt 472, the response's first token 272, its last 296; the head 14
    assert found["encode"].operations == 2 * 472
    assert found["decode"].operations == 6 * (272 + 2 * 14)
    assert found["train"].operations == 3 * (2 * 472 + 6 * (272 + 2 * 14))
    assert found["decode"].bytes == 4 * (2 * (100 + 7) + 5 * (2 * 2 + 6))  # of 2 prompts and of 6 first tokens
    assert found["update"].bytes == 4 * 8 * 200
    sampling, forward, head = 6 * (472 + 272 + 2 * 14), 6 * (472 + 272 + 296), 6 * 3 * 14
    assert trl_operations(row, s, WHOLE) == sampling + 3 * forward + 4 * head
    assert trl_operations(row, s, CHECKPOINTED) == sampling + 4 * forward + 4 * head


def test_a_phase_takes_the_longer_of_its_two():
    assert Phase(10, 6).seconds(operations=10, bytes=2) == 3
    assert Phase(100, 6).seconds(operations=10, bytes=2) == 10

"""Our losses on pairs and their gradients against those of TRL 1.16 on the same tensors, through the public loop."""

import tempfile
import warnings
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

pytest.importorskip("trl", reason="needs TRL")

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.trainer.base_trainer import _BaseTrainer

from frugal.core.recipe import Patch
from frugal.language.rows import Rows
from frugal.preference import dpo
from tests.language.tinyrun import gradients, policy, reference_is, sampled
from tests.language.trl_reference import _same_seed, _tokenizer
from tests.preference.tinyrun import launch

BETA = 0.7
LOSSES = {  # ours -> TRL's
    "sigmoid": ({}, "sigmoid"),
    "sigmoid by mean": ({"score": "mean"}, "sigmoid_norm"),
    "hinge": ({"loss": "hinge"}, "hinge"),
    "ipo by mean": ({"loss": "ipo", "score": "mean"}, "ipo"),  # TRL divides by the length, the paper does not
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rows that are not drawn but given, with labels; each group is a pair."""

    rows: Rows

    def __call__(self, asks, sampler, rng):
        return self.rows


def given(rows):
    return Patch(fill={"act.answers": Drawn(rows)}, name="given", domain="preference")


def batch(groups=5):
    """Pairs of sampled responses of unequal lengths, the first of each preferred in the data's order."""
    rows = sampled(policy(7), groups=groups, n=2)
    no = torch.zeros_like(rows.drawn)
    assert len(set(rows.length.tolist())) > 2
    return rows.put(score=torch.tensor([1.0, 0.0] * groups), drawn=no)


def ours(rows, net, reference, **options):
    """(loss, {name: gradient}) of the loop's first step."""
    with gradients() as seen, reference_is(reference):
        run = launch(
            dpo(beta=BETA, lr=0, prompts=len(rows) // 2, **options) + given(rows), net=net, samples=len(rows) // 2
        )
    (loss,) = [line["loss"] for line in run.curve if line["kind"] == "train"]
    return loss, seen[0]


def theirs(rows, net, reference, trainer_class, config, **extra):
    """(loss, {name: gradient}) by TRL: chosen rows, then rejected ones."""
    order = [*range(0, len(rows), 2), *range(1, len(rows), 2)]
    texts = [[*rows.prompts[i], *rows.tokens[i, : rows.length[i]].tolist()] for i in order]
    read = [[1] * len(text) for text in texts]
    learnt = [[0] * len(rows.prompts[i]) + [1] * int(rows.length[i]) for i in order]
    ids, mask, completion = (pad_sequence(list(map(torch.tensor, x)), batch_first=True) for x in (texts, read, learnt))
    inputs = {"input_ids": ids, "attention_mask": mask, "completion_mask": completion}
    inputs |= {name: make(ids, mask, completion) for name, make in extra.items()}
    data = {"prompt": ["a"] * 2, "chosen": ["a"] * 2, "rejected": ["aa"] * 2}
    if trainer_class is KTOTrainer:
        data = {"prompt": ["a"] * 2, "completion": ["a", "aa"], "label": [True, False]}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _same_seed():
        warnings.simplefilter("ignore")
        with mock.patch.object(_BaseTrainer, "_send_telemetry"):
            trainer = trainer_class(
                net.model,
                reference.model,
                args=config(
                    output_dir=folder, report_to="none", bf16=False, use_cpu=True, gradient_checkpointing=False
                ),
                train_dataset=Dataset.from_dict(data),
                processing_class=_tokenizer(),
            )
        net.model.eval()
        loss = trainer._compute_loss(net.model, inputs, False)
    names = dict(net.model.named_parameters())
    return loss.item(), dict(zip(names, torch.autograd.grad(loss, list(names.values())), strict=True))


def assert_same(found, wanted):
    assert found[0] == pytest.approx(wanted[0], rel=1e-5, abs=1e-6)
    largest = max(float(g.abs().max()) for g in wanted[1].values())
    assert largest > 1e-3 and found[1].keys() == wanted[1].keys()
    for name, g in wanted[1].items():  # both are float32 sums, in other orders
        torch.testing.assert_close(found[1][name], g, rtol=1e-5, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_trls(name):
    options, loss_type = LOSSES[name]
    rows = batch()
    found = ours(rows, policy(), policy(5), **options)
    config = lambda **o: DPOConfig(loss_type=[loss_type], beta=BETA, **o)  # noqa: E731
    assert_same(found, theirs(rows, policy(), policy(5), DPOTrainer, config))


def test_kto_is_trls_with_the_same_estimate_of_the_divergence():
    """TRL takes z_0 from mismatched responses that it is given; given all of the pairs, it is our mean log-ratio."""
    rows = batch()
    config = lambda **o: KTOConfig(beta=BETA, **o)  # noqa: E731
    found = ours(rows, policy(), policy(5), loss="kto")
    same = {
        "KL_input_ids": lambda i, m, c: i,
        "KL_attention_mask": lambda i, m, c: m,
        "KL_completion_mask": lambda i, m, c: c,
        "label": lambda i, m, c: torch.arange(len(i)) < len(i) // 2,
    }
    assert_same(found, theirs(rows, policy(), policy(5), KTOTrainer, config, **same))

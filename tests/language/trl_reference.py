"""TRL's own losses and advantages on given tensors, to compare ours with.

Nothing here repeats a formula: every call builds a real TRL trainer around the given model and runs the
methods of that trainer. Written for TRL 1.16, whose log-probabilities are float32 whatever the model's dtype.
"""

import random
import tempfile
import warnings
from contextlib import contextmanager
from functools import lru_cache
from unittest import mock

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.trainer.base_trainer import _BaseTrainer


def trl_loss(
    model,
    prompt_ids,
    prompt_mask,
    completion_ids,
    completion_mask,
    advantages,
    *,
    loss_type,
    max_completion_length,
    old_logp=None,
    ref_logp=None,
    beta=0.0,
    clip_low=0.2,
    clip_high=0.2,
    level="token",
    temperature=1.0,
    tool_mask=None,
    num_items_in_batch=None,
    **options,
):
    """Loss of one batch taken as one optimiser step on one process, attached to the parameters of `model`.

    Prompts are padded left, completions right. The attention mask is the two masks side by side: a token that
    the model reads but that bears no loss has a 1 in `completion_mask` and a 0 in `tool_mask`. `advantages`
    is [B], or [B, T] for the losses of GRPOTrainer. Without `old_logp` the old policy is the present one;
    where there is no token it must be finite and near 0, as TRL's own is.

    `loss_type` is one of GRPOConfig's, or "gmpo" or "rloo", which have trainers of their own. The clips are
    TRL's `epsilon` and `epsilon_high`, distances from 1, with two exceptions: "cispo" takes `clip_high` as
    the largest ratio itself and ignores `clip_low`; "gmpo" clips the log-ratio. `num_items_in_batch` is the
    divisor of "dapo", "cispo" and "vespo": by default the tokens that bear loss; for one micro-batch of many,
    the number in them all.

    `options` go to TRL's configuration. Mind `use_bias_correction_kl`, True by default: it multiplies the
    penalty by the ratio, which changes the gradient even where the ratio is 1.
    """
    trainer_class, config_class = _classes(loss_type)
    if trainer_class is not GRPOTrainer and level != "token":
        raise ValueError(f"{loss_type} has no level")
    if trainer_class is RLOOTrainer and (beta or tool_mask is not None):
        raise ValueError("RLOO has neither a penalty nor a tool mask in its loss")
    if trainer_class is GRPOTrainer:
        options |= {"loss_type": loss_type, "importance_sampling_level": level}
    options |= {"max_completion_length": max_completion_length}
    options |= {"epsilon": clip_low, "epsilon_high": clip_high, "temperature": temperature}
    prompt_mask, completion_mask = prompt_mask.long(), completion_mask.long()
    loss_mask = completion_mask if tool_mask is None else completion_mask * tool_mask.long()
    items = loss_mask.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
    inputs = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": advantages,
        "num_items_in_batch": items,
        "ref_per_token_logps": ref_logp,
    }
    if tool_mask is not None:
        inputs["tool_mask"] = tool_mask.long()
    with _trainer(trainer_class, config_class, model, **options) as trainer:
        trainer.beta = beta  # set here: beta in the configuration makes TRL load a reference model by name
        trainer.current_gradient_accumulation_steps = 1  # which Trainer.train sets
        if trainer_class is RLOOTrainer:
            old_logp = _logp(trainer, model, inputs) if old_logp is None else old_logp
            inputs["old_logps"] = (old_logp * completion_mask).sum(1)  # what RLOO stores when it generates
        elif old_logp is not None:
            inputs["old_per_token_logps"] = old_logp
        return trainer._compute_loss(model, inputs)


def trl_logp(model, prompt_ids, prompt_mask, completion_ids, completion_mask, *, temperature=1.0):
    """Log-probabilities [B, T] of the completion tokens, without a graph; 0 where `completion_mask` is 0."""
    inputs = {"prompt_ids": prompt_ids, "prompt_mask": prompt_mask.long()}
    inputs |= {"completion_ids": completion_ids, "completion_mask": completion_mask.long()}
    with _trainer(GRPOTrainer, GRPOConfig, model, temperature=temperature) as trainer:
        return _logp(trainer, model, inputs)


def trl_advantages(rewards, group, scale="group"):
    """GRPO's advantages [B] of rewards [B] whose groups are neighbours; NaN is a reward that is missing."""
    return _advantages(GRPOTrainer, GRPOConfig, rewards, group, scale_rewards=scale)


def trl_rloo_advantages(rewards, group, normalize=False):
    """RLOO's advantages [B], without its KL penalty."""
    return _advantages(RLOOTrainer, RLOOConfig, rewards, group, normalize_advantages=normalize)


def _advantages(trainer_class, config_class, rewards, group, **options):
    """Drive `_generate_and_score_completions` without the generation, in evaluation: a group may be of 1."""
    completions = [[1]] * len(rewards)
    given = [None if r != r else r for r in rewards.tolist()]
    options |= {"num_generations_eval": group}
    with _trainer(trainer_class, config_class, _tiny_model(), lambda **_: given, **options) as trainer:
        generated = completions if trainer_class is RLOOTrainer else (completions, None)
        trainer._generate_single_turn = lambda *_: generated
        trainer.beta = 0.0
        return trainer._generate_and_score_completions([{"prompt": "a"}] * len(rewards))["advantages"]


@torch.no_grad()
def _logp(trainer, model, inputs):
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    return trainer._get_per_token_logps_and_entropies(model, ids, mask, inputs["completion_ids"].shape[1])[0]


def _classes(loss_type):
    if loss_type == "rloo":
        return RLOOTrainer, RLOOConfig
    if loss_type == "gmpo":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "experimental"
            from trl.experimental.gmpo import GMPOConfig, GMPOTrainer
        return GMPOTrainer, GMPOConfig
    return GRPOTrainer, GRPOConfig


@contextmanager
def _trainer(trainer_class, config_class, model, reward=lambda **_: None, **options):
    """A real trainer around `model`; what it changes in the model and the generators is undone afterwards."""
    changed = [model, model.config, model.generation_config]  # a new forward, use_cache, pad_token_id
    before = [dict(vars(x)) for x in changed]
    options = {"beta": 0.0, "num_generations": 2, "per_device_train_batch_size": 2, **options}
    options |= {"bf16": False, "use_cpu": model.device.type == "cpu", "gradient_checkpointing": False}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with mock.patch.object(_BaseTrainer, "_send_telemetry"), _same_seed():
                trainer = trainer_class(
                    model,
                    reward,
                    args=config_class(output_dir=folder, report_to="none", **options),
                    train_dataset=Dataset.from_dict({"prompt": ["a", "a"]}),
                    processing_class=_tokenizer(),
                )
            yield trainer
        finally:
            for x, attributes in zip(changed, before, strict=True):
                vars(x).clear()
                vars(x).update(attributes)


@contextmanager
def _same_seed():
    """Undo the seeding that a trainer does when it is made."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)


@lru_cache
def _tokenizer():
    words = Tokenizer(WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>", unk_token="a")


@lru_cache
def _tiny_model():
    sizes = {"vocab_size": 2, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=1, bos_token_id=0, eos_token_id=1)
    with torch.random.fork_rng():
        return LlamaForCausalLM(config).eval()

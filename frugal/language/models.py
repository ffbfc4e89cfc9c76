"""Loading a policy: a tiny built-in model, a fetched one, a local folder or a hub name; LoRA on wish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from frugal.core.errors import BadModel, MissingExtra
from frugal.core.recipe import Recipe

from .fetch import resolve
from .policy import Policy
from .tiny import TEACHERS, load_tiny

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(
    name: str,
    dtype: str = "auto",
    lora: int = 0,
    seed: int = 0,
    trust_remote_code: bool = False,
    tiny: Callable[[str], tuple[Any, Any]] = load_tiny,
) -> tuple[Any, Any]:
    """(model, tokenizer). `dtype` auto is bfloat16 where the processor has it in hardware, else float32.

    Raises `BadModel` if there is no such model, `MissingExtra` if LoRA is asked for without peft.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise BadModel(f"dtype {dtype!r}; choose auto, {', '.join(DTYPES)}")
    if name.startswith("tiny-"):
        model, tokenizer = tiny(name)
        model = model if dtype == "auto" else model.to(DTYPES[dtype])
    else:
        model, tokenizer = _load(resolve(name), _dtype(dtype), trust_remote_code)
    return (_with_lora(model, lora, seed) if lora else model), tokenizer


def load_others(recipe: Recipe, name: str, net: Policy) -> dict[str, Policy]:
    """{"teacher": policy}: the frozen models that parts want to look at the rows beside `net`, the model `name`.

    A part that ``needs {"teacher.logp": "folder or hub name"}`` names it; None is the teacher made for a tiny model.
    Raises `BadModel` if none is named, or if it reads other tokens than the policy.
    """
    others = {}
    for view, wanted in ((key.removesuffix(".logp"), value) for key, value in recipe.needs().items()):
        if "." in view or view in ("old", "now", "ref"):
            continue
        chosen = wanted or (f"{name}-teacher" if f"{name}-teacher" in {f"tiny-{made}" for made in TEACHERS} else None)
        if chosen is None:
            raise BadModel(
                f"{recipe} needs a {view} for {name}, and none is named; name a folder or a hub model with the same "
                f"tokenizer: {view}='runs/a/model'"
            )
        model, tokenizer = load(chosen)
        if tokenizer.get_vocab() != net.tokenizer.get_vocab():
            raise BadModel(f"the {view} {chosen} has another tokenizer than {name}; choose one that shares it")
        others[view] = Policy(model.to(net.head.weight.dtype).requires_grad_(False), tokenizer)
    return others


def _dtype(name: str) -> torch.dtype:
    if name != "auto":
        return DTYPES[name]
    fast = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def _load(path: str, dtype: torch.dtype, trust_remote_code: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise BadModel(
            f"cannot load the model {path!r}: {first}\nGive a folder with config.json and safetensors, a "
            "hub name that can be reached, or a model of: frugal fetch"
        ) from None
    return model, tokenizer


def _with_lora(model: Any, rank: int, seed: int) -> Any:
    """Low-rank adapters on every linear layer but the head (Hu et al. 2021, arXiv 2106.09685); alpha is 2 rank."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingExtra("peft", "LoRA") from None
    torch.manual_seed(seed)
    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )

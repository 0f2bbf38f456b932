"""Adapters named as on the hub, from a cache that looks as the hub's own does; nothing is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file

from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model.backbone import load_backbone
from llm_gym.feedback.reward_model.pooled import load_trunk
from llm_gym.language_models import SFT_MODEL, hub, load_causal_lm, load_tokenizer, resolve
from llm_gym.language_models.adapter_files import base_of, sort_metadata
from llm_gym.language_models.adapters import adapter_of, add_adapter, lora_config, merge
from llm_gym.language_models.embedded import embed, embedded_names, fetch
from llm_gym.language_models.loading import load_config
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.sft import SFTConfig, fine_tune
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

NAME, BASE = "somebody/their-adapter", "somebody/their-base"
IDS = torch.arange(8)[None]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Puts a directory into the hub's cache under a name; returns where it lies."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.fetch_adapter.cache_clear()

    def put(name, directory):
        place = tmp_path / "cache" / f"models--{name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0" * 40)
        shutil.copytree(directory, place / "snapshots" / ("0" * 40))
        return place / "snapshots" / ("0" * 40)

    return put


@pytest.fixture
def made(tiny_dir, tmp_path):
    """An adapter that does something, of a base that is a directory."""
    base = tiny_dir("gpt2", **MODEL)
    model = load_causal_lm(base)
    add_adapter(model, lora_config({"r": 2}, model), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.manual_seed(1))
    adapter_of(model).save(tmp_path / "made")
    return tmp_path / "made"


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_it_is_loaded_trained_on_and_merged_as_from_a_directory(cache, made, tmp_path):
    cache(NAME, made)
    expected = logits(load_causal_lm(made))
    model = load_causal_lm(NAME)
    assert torch.equal(logits(model), expected)
    assert adapter_of(model).directory == resolve(NAME) != NAME
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    assert len(load_tokenizer(NAME)) == len(load_tokenizer(made))
    assert load_config(NAME).model_type == "gpt2"
    merge(NAME, tmp_path / "merged")
    assert torch.allclose(logits(load_causal_lm(tmp_path / "merged")), expected, atol=1e-5)
    assert adapter_of(load_backbone(NAME)[0]).directory == resolve(NAME)
    whole, other = load_trunk(NAME)[0], load_trunk(made)[0]
    assert torch.equal(whole(IDS).last_hidden_state, other(IDS).last_hidden_state)
    assert TrainConfig(model=NAME).trains_adapter


def test_a_policy_starts_from_it_and_it_is_the_reference(cache, made):
    cache(NAME, made)
    algorithm = make("RLOO", NAME, small_env(NAME, group_size=4), kl_coef=0.1)
    expected = logits(load_causal_lm(made))
    assert torch.allclose(logits(algorithm.reference.model), expected, atol=1e-5)
    rollouts(algorithm)
    assert not torch.equal(logits(algorithm.policy.model), logits(algorithm.reference.model))
    with pytest.raises(ValueError, match="is a LoRA adapter, which is trained further"):
        make("PPO", NAME, policy_kwargs={"lora": {"r": 2}})


def test_the_commands_go_on_with_it(cache, made, tmp_path):
    cache(NAME, made)
    pairs = [{"prompt": f"w{n}", "completion": "w3 w4"} for n in range(20)]
    fine_tune(NAME, pairs, tmp_path / "sft", SFTConfig(learning_rate=1e-2), quiet=True)
    votes = [Preference(f"w{n} w{n}", "w1 w2", "w3") for n in range(15)]
    train_dpo(votes, tmp_path / "dpo", DPOConfig(model=NAME, epochs=1), quiet=True)
    base = json.loads((made / "adapter_config.json").read_text())["base_model_name_or_path"]
    for output in ("sft", "dpo"):
        settings = json.loads((tmp_path / output / "adapter_config.json").read_text())
        assert (settings["r"], settings["base_model_name_or_path"]) == (2, base)
        weights = load_file(tmp_path / output / "adapter_model.safetensors")
        assert weights.keys() == load_file(made / "adapter_model.safetensors").keys()
    with pytest.raises(ValueError, match="lora_rank=4 asks for a new adapter, and model="):
        fine_tune(NAME, pairs, tmp_path / "other", SFTConfig(lora_rank=4), quiet=True)


def test_its_base_may_be_a_name_on_the_hub_but_no_past_revision_of_one(cache, made):
    path = made / "adapter_config.json"
    settings = json.loads(path.read_text())
    expected = logits(load_causal_lm(made))
    cache(BASE, settings["base_model_name_or_path"])
    place = cache(NAME, made)
    settings["base_model_name_or_path"] = BASE
    (place / path.name).write_text(json.dumps(settings))
    model = load_causal_lm(NAME)
    assert torch.equal(logits(model), expected)
    assert adapter_of(model).base_name == BASE
    for newest in (None, "main"):
        (place / path.name).write_text(json.dumps({**settings, "revision": newest}))
        assert base_of(place) == BASE
    (place / path.name).write_text(json.dumps({**settings, "revision": "v1"}))
    with pytest.raises(ValueError, match=r"at revision 'v1', .*hf download somebody/their-base"):
        load_causal_lm(NAME)


def test_whole_models_and_what_is_not_there_are_left_to_transformers(cache, made, tiny_dir):
    both = cache("somebody/a-model", tiny_dir())
    (both / "adapter_config.json").write_text("{}")
    assert resolve("somebody/a-model") == "somebody/a-model"
    (both / "adapter_config.json").unlink()
    assert adapter_of(load_causal_lm("somebody/a-model")) is None
    with pytest.raises(OSError, match="cannot get the language model 'somebody/nowhere'"):
        load_causal_lm("somebody/nowhere")
    place = cache(NAME, made)
    (place / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"is an adapter without adapter_model"):
        load_causal_lm(NAME)
    assert resolve("not a/name") == "not a/name"


def test_the_hub_is_asked_once_for_few_files(cache, made, monkeypatch, tmp_path):
    asked = []

    def download(name, file):
        asked.append(file)
        if file == "config.json":
            raise EntryNotFoundError("no such file")
        return str(tmp_path / file)

    def snapshot(name, *, allow_patterns):
        asked.append(allow_patterns)
        cache(name, made)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    for _ in range(2):
        assert adapter_of(load_causal_lm(NAME)) is not None
    assert asked[:2] == ["adapter_config.json", "config.json"]
    assert len(asked) == 3
    assert not [pattern for pattern in asked[2] if pattern.endswith((".bin", ".py", "*"))]


def test_weights_that_are_in_the_cache_are_not_fetched_again(cache, made, monkeypatch):
    place = cache(NAME, made)

    def download(name, file):
        if file == "config.json":
            raise EntryNotFoundError("no such file")
        return str(place / file)

    def snapshot(*_, **__):
        raise AssertionError("asked for all files")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert fetch(NAME) == str(place)


def test_a_directory_here_is_no_name_on_the_hub(cache, made, tmp_path, monkeypatch):
    cache(NAME, made)
    monkeypatch.chdir(tmp_path)
    assert resolve(NAME) != NAME
    Path(NAME).mkdir(parents=True)
    assert resolve(NAME) == NAME


def test_a_plug_ins_model_has_a_name_of_the_librarys_form(tmp_path):
    with pytest.raises(ValueError, match=r"name='somebody/model' must begin with 'llm_gym/'"):
        embed("somebody/model", tmp_path)
    assert "somebody/model" not in embedded_names()


def test_what_a_header_says_comes_in_order_and_the_tensors_stay(tmp_path):
    path, tensors = tmp_path / "a.safetensors", {"t": torch.arange(3.0)}
    said = {"z": "1", "format": "pt", "a": "ä"}
    save_file(tensors, path, metadata=said)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = said  # as chance may have it
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    path.write_bytes(content[:8] + text + content[8 + length :])
    sort_metadata(path)
    content = path.read_bytes()
    assert list(json.loads(content[8 : 8 + length])["__metadata__"]) == ["a", "format", "z"]
    assert torch.equal(load_file(path)["t"], tensors["t"])


def test_the_hub_is_not_asked_for_what_is_here(monkeypatch, made, tmp_path):
    def asked(host, *_, **__):
        raise AssertionError(f"{host} was asked")

    monkeypatch.setattr("socket.getaddrinfo", asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.fetch_adapter.cache_clear()
    with pytest.raises(AssertionError, match=r"huggingface\.co was asked"):
        fetch(NAME)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_causal_lm(Path(NAME))
    for source in (SFT_MODEL, str(made), made):
        load_causal_lm(source)
        load_tokenizer(source)
        load_config(source)
        load_trunk(source)
    make("PPO", SFT_MODEL, policy_kwargs={"lora": {"r": 2}})
    pairs = [{"prompt": prompt, "completion": "w"} for prompt in "ab"]
    fine_tune(SFT_MODEL, pairs, tmp_path / "s", quiet=True)

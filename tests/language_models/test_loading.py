"""Loading by name, directory or hub name, and what is said when it cannot be done."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from llm_gym.feedback.reward_model.backbone import load_backbone
from llm_gym.language_models import embedded_names, load_causal_lm, load_tokenizer, resolve
from llm_gym.language_models.loading import load_config, model_source
from llm_gym.scorers import SequenceClassifierScorer
from llm_gym.stages.by_name import environment_kwargs


@pytest.fixture
def copy(tiny_dir, tmp_path):
    """A tiny model's directory that a test may spoil."""
    return Path(shutil.copytree(tiny_dir("gpt2"), tmp_path / "model"))


def test_a_directory_loads_in_float32_and_evaluation_mode(tiny_dir):
    model = load_causal_lm(tiny_dir("gpt2", resid_pdrop=0.5))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert len(load_tokenizer(Path(tiny_dir("gpt2")))) == 32


def test_another_type_can_be_asked_for(tiny_dir):
    model = load_causal_lm(tiny_dir("llama"), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16


def test_embedded_names_are_directories_of_the_package():
    assert embedded_names() == ("llm_gym/email-base", "llm_gym/email-sft", "llm_gym/facts-sft")
    for name in embedded_names():
        assert (Path(resolve(name)) / "model.safetensors").is_file()
    assert resolve("gpt2") == "gpt2"
    assert resolve(Path("some/where")) == "some/where"


def test_a_misspelt_embedded_name_gets_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'llm_gym/email-sft'"):
        load_causal_lm("llm_gym/email-stf")


@pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
@pytest.mark.parametrize("name", ["./no/where", "/no/where", Path("nowhere"), "a/b/c"])
def test_a_missing_directory_is_named(load, name):
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load(name)


@pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("runs/sftt", "; did you mean 'runs/sft'?"),  # the form of a hub name, but runs/ is here
        ("./run/sft", "; did you mean 'runs'?"),
        ("runs/deeper/down/sft", "; 'runs' has no directory 'deeper'"),
    ],
)
def test_a_misspelt_path_is_not_asked_of_the_hub(load, name, hint, tmp_path, monkeypatch):
    (tmp_path / "runs" / "sft").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for asked in ("AutoTokenizer", "AutoModelForCausalLM"):
        monkeypatch.setattr(f"transformers.{asked}.from_pretrained", None)
    with pytest.raises(FileNotFoundError) as error:
        load(name)
    assert str(error.value) == f"there is no directory {name!r} to load a model from{hint}"


def test_the_directory_of_a_run_says_where_its_model_is(copy):
    with pytest.raises(FileNotFoundError, match=r"; did you mean '.*model'\?$"):
        load_tokenizer(copy.parent)


def test_a_hub_model_that_is_in_the_cache_wins_over_a_directory_of_its_owner(
    copy, tmp_path, monkeypatch
):
    (tmp_path / "owner").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file: str(copy / file)
    )
    assert model_source("owner/model") == "owner/model"


@pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
def test_an_unknown_hub_name_says_what_does_not_need_the_network(load):
    with pytest.raises(OSError, match=r"cannot get the .*'no-such-model-xyz'.*llm_gym/email-sft"):
        load("no-such-model-xyz")


@pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_has_to_be_one(load, name):
    with pytest.raises(TypeError, match="name_or_path must be a non-empty str or Path"):
        load(name)


def test_missing_files_are_named(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no \*.safetensors file.*config.json"):
        load_causal_lm(copy)
    (copy / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        load_causal_lm(copy)
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer_config\.json"):
        load_tokenizer(copy)
    with pytest.raises(FileNotFoundError, match="is a file; pass the directory"):
        load_tokenizer(copy / "tokenizer.json")


def test_corrupt_weights_are_named(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="corrupt"):
        load_causal_lm(copy)
    weights.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="corrupt"):
        load_causal_lm(copy)


def test_missing_weights_are_an_error_and_never_random(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors are missing.*h.1.mlp.c_fc.weight"):
        load_causal_lm(copy)


def test_a_corrupt_configuration_or_tokenizer_is_named(copy):
    (copy / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(ValueError, match="cannot read a language model from"):
        load_causal_lm(copy)
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read a tokenizer from"):
        load_tokenizer(copy)


def test_code_in_a_checkpoint_is_never_run(copy):
    """A checkpoint that asks for its own code is refused, and the code leaves no trace."""
    trace = copy / "trace"
    (copy / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot read a language model from"):
        load_causal_lm(copy)
    assert not trace.exists()


@pytest.mark.parametrize("load", [load_causal_lm, load_backbone, SequenceClassifierScorer])
def test_nothing_is_unpickled_whatever_loads_it(load, tmp_path, tiny_dir, monkeypatch):
    """A complete model, but its weights are pickled."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_dir("gpt2"), num_labels=1)
    model.save_pretrained(tmp_path)
    load_tokenizer(tiny_dir("gpt2")).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(FileNotFoundError, match=r"no \*.safetensors .*pytorch_model\.bin.*save"):
        load(tmp_path)


def test_weights_that_are_no_numbers_are_called_so(copy):
    """Whatever is wrong with them later, the diagnosis is that the run diverged."""
    weights = load_file(copy / "model.safetensors")
    for value in (float("nan"), float("inf"), -float("inf"), -1e38):
        weights["transformer.h.1.mlp.c_fc.weight"][3, 4] = value
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"NaN or infinity.*h\.1\.mlp\.c_fc\.weight.*diverged"):
            load_causal_lm(copy)


@pytest.mark.parametrize("with_tokenizer", [False, True])
@pytest.mark.parametrize("base", ["meta/base-model", "/no/such/base", None])
def test_an_adapter_whose_base_is_not_here_is_refused(tmp_path, tiny_dir, base, with_tokenizer):
    """At every door, whichever of its files is asked for first."""
    settings = {"peft_type": "LORA"} | ({"base_model_name_or_path": base} if base else {})
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    save_file({"a": torch.zeros(99)}, tmp_path / "adapter_model.safetensors")
    if with_tokenizer:
        load_tokenizer(tiny_dir()).save_pretrained(tmp_path)
    doors = [load_causal_lm, load_config, partial(environment_kwargs, "llm_gym/TextGeneration-v0")]
    for load in doors if with_tokenizer else [*doors, load_tokenizer]:
        with pytest.raises((ValueError, OSError), match="adapter of") as caught:
            load(tmp_path)
        assert (base or "a model it does not name") in str(caught.value)
        told = "base_model_name_or_path" if base != "meta/base-model" else "hub"
        assert told in str(caught.value)


def test_an_object_is_refused_in_one_sentence(tiny_dir):
    model = load_causal_lm(tiny_dir())
    for load in (load_causal_lm, load_tokenizer):
        with pytest.raises(TypeError, match=r"GPT2LMHeadModel; save a model with") as caught:
            load(model)
        assert len(str(caught.value)) < 300


def test_another_kind_of_model_is_refused_in_one_sentence(tmp_path):
    from transformers import T5Config

    T5Config(vocab_size=64, d_model=32, num_layers=1).save_pretrained(tmp_path)
    save_file({"shared.weight": torch.zeros(64, 32)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"encoder with a decoder \(t5\)") as caught:
        load_causal_lm(tmp_path)
    assert len(str(caught.value)) < 400


def test_an_encoder_writes_no_text(tmp_path):
    from transformers import RobertaConfig, RobertaForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    for is_decoder in (True, False):
        config = RobertaConfig(
            vocab_size=32, intermediate_size=16, pad_token_id=0, is_decoder=is_decoder, **sizes
        )
        RobertaForCausalLM(config).save_pretrained(tmp_path / str(is_decoder))
    assert load_causal_lm(tmp_path / "True").config.is_decoder
    for dtype in ("float32", "bfloat16", "float64"):
        with pytest.raises(ValueError, match=r"is an encoder \(RobertaForCausalLM\), which reads"):
            load_causal_lm(tmp_path / "False", dtype=dtype)


def test_the_decoder_of_a_pair_is_a_language_model_and_the_pair_is_not(tmp_path):
    from transformers import BartConfig, BartForCausalLM, BartForConditionalGeneration

    sizes = {f"{part}_{size}": n for part in ("encoder", "decoder") for size, n in
             (("layers", 1), ("ffn_dim", 16), ("attention_heads", 2))}  # fmt: skip
    config = BartConfig(vocab_size=32, d_model=16, max_position_embeddings=16, **sizes)
    BartForConditionalGeneration(config).save_pretrained(tmp_path / "pair")
    BartForCausalLM(config).save_pretrained(tmp_path / "decoder")
    assert load_causal_lm(tmp_path / "decoder").config.model_type == "bart"
    with pytest.raises(ValueError, match=r"encoder with a decoder \(bart\)") as caught:
        load_causal_lm(tmp_path / "pair")
    assert "missing" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.gguf", "folder/model.GGUF"])
def test_a_gguf_file_that_is_not_there_is_no_name_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no GGUF file"):
        load_causal_lm(name)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"GGUF")
    for given in (name, str(Path(name).parent)):
        for load in (load_causal_lm, load_tokenizer):
            with pytest.raises(
                (ValueError, OSError), match=r"llm-gym fetch \S*model\.\w+ --output"
            ):
                load(given)

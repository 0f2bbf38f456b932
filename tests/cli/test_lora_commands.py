"""Adapters on the command line: made by commands, taken by others, merged, refused."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm_gym.language_models import load_causal_lm, load_tokenizer
from tests.products import sampled
from tests.supervised.test_lora import digests, logits

PAIRS = [{"prompt": f"w{n} w{n + 1}", "completion": "w5 w6 w7"} for n in range(20)]


@pytest.fixture(scope="session")
def base(tiny_dir, tmp_path_factory):
    """A base model that tests may break."""

    def make(architecture):
        directory = tmp_path_factory.mktemp("base") / architecture
        shutil.copytree(tiny_dir(architecture), directory)
        return directory

    return make


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, PAIRS)))
    return path


@pytest.fixture
def ours(base, run, pairs, tmp_path):
    """Makes an adapter by `llm-gym sft`; returns its base and its directory."""

    def make(architecture="gpt2"):
        start = base(architecture)
        before = digests(start)
        code, out, err = run(
            "sft", pairs, "--model", start, "--output", tmp_path / "sft", "--lora-rank", 4,
            "--prompt-template", "{prompt}", "--learning-rate", 3e-2, "--batch-size", 4,
        )  # fmt: skip
        assert (code, err) == (0, "")
        assert "a LoRA adapter of rank 4 is trained" in out
        assert digests(start) == before
        return start, tmp_path / "sft" / "model"

    return make


@pytest.fixture
def pefts(base, tmp_path):
    """Makes an adapter by PEFT alone, without a tokenizer."""

    def make(architecture="llama"):
        start = base(architecture)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(start),
            LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        )
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3, generator=torch.manual_seed(3))
        model.save_pretrained(tmp_path / "peft")
        return start, tmp_path / "peft"

    return make


@pytest.fixture(params=["ours-gpt2", "ours-llama", "peft-llama"])
def adapter(request, ours, pefts):
    maker, architecture = request.param.split("-")
    return {"ours": ours, "peft": pefts}[maker](architecture)


def test_merge_writes_a_plain_model(adapter, run, tmp_path):
    start, directory = adapter
    expected = logits(load_causal_lm(directory))
    assert not torch.allclose(expected, logits(load_causal_lm(start)), atol=1e-3)
    before = digests(start), digests(directory)
    output = tmp_path / "merged"
    code, out, err = run("merge", directory, "--output", output)
    assert (code, err) == (0, "")
    assert out == f"model: {output} ({directory} merged into {start})\n"
    assert (digests(start), digests(directory)) == before
    shutil.rmtree(start)
    merged = AutoModelForCausalLM.from_pretrained(output)
    assert torch.allclose(logits(merged), expected, atol=1e-5)
    assert load_tokenizer(output).vocab_size
    assert json.loads((output / "merged.json").read_text())["base"] == str(start)
    code, out, _ = run("generate", "--model", output, "--max-new-tokens", 3, "w1")
    assert code == 0
    assert out.startswith("> w1")


def test_commands_take_an_adapter_for_a_model(adapter, run, tmp_path):
    _, directory = adapter
    code, out, err = run(
        "generate",
        "--model",
        directory,
        "--deterministic",
        "--max-new-tokens",
        3,
        "--json",
        "w1 w2",
    )
    assert code == 0, err
    model, tokenizer = load_causal_lm(directory), load_tokenizer(directory)
    ids = tokenizer("w1 w2", return_tensors="pt").input_ids
    found = model.generate(ids, do_sample=False, max_new_tokens=3)[0, ids.shape[1] :]
    assert json.loads(out)["completion"] == tokenizer.decode(found, skip_special_tokens=True)

    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(row["prompt"] for row in PAIRS[:4]))
    task = ["--env", "llm_gym/TextGeneration-v0", "--prompts", prompts, "--max-new-tokens", 4]
    code, out, err = run("evaluate", directory, *task, "--scorer", "length:2")
    assert code == 0, err
    code, out, err = run(
        "compare", tmp_path / "votes.db", "--model", directory, "--prompts", prompts,
        "--raters", "simulated", "--true-rater", "length:2", "--max-new-tokens", 4,
    )  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize("architecture", sampled(["gpt2", "llama"], "llama"))
def test_train_makes_an_adapter_and_trains_it_further(architecture, base, run, tmp_path):
    start = base(architecture)
    before = digests(start)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(row["prompt"] for row in PAIRS[:4]))
    task = [
        "train", "--prompts", prompts, "--scorer", "length:2", "--max-new-tokens", 4,
        "--num-envs", 4, "--batch-size", 8, "--device", "cpu", "--checkpoint-every", 1,
    ]  # fmt: skip
    first, second = tmp_path / "first", tmp_path / "second"
    new = ["--model", start, "--lora-rank", 2, "--output", first]
    code, _, err = run(*task, *new, "--total-tokens", 16)
    assert code == 0, err
    assert "a LoRA adapter of rank 2 is trained" in err
    assert "learning_rate=0.0001 is the default, and an adapter learns best at about ten" in err
    one = load_file(first / "model" / "adapter_model.safetensors")
    assert any(value.any() for name, value in one.items() if "lora_B" in name)
    code, _, err = run("train", "--resume", first, "--total-tokens", 48)
    assert code == 0, err
    further = load_file(first / "model" / "adapter_model.safetensors")
    assert any(not torch.equal(one[name], further[name]) for name in one)

    code, _, err = run(
        *task, "--model", first / "model", "--output", second, "--total-tokens", 16,
        "--learning-rate", 1e-3,
    )  # fmt: skip
    assert code == 0, err
    assert "rank 2 is trained" in err
    assert "is the default" not in err
    assert digests(start) == before
    for directory in (first, second):
        settings = json.loads((directory / "model" / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(start.resolve())
        assert not (directory / "model" / "config.json").exists()
        assert torch.equal(
            logits(load_causal_lm(directory / "model")),
            logits(AutoModelForCausalLM.from_pretrained(directory / "model")),
        )
    code, _, err = run(
        *task, "--model", second / "model", "--lora-rank", 2, "--output", tmp_path / "no"
    )
    assert (code, "leave lora_rank out" in err) == (2, True)


def test_a_base_that_has_moved_is_said(ours, run, tmp_path):
    start, directory = ours()
    start.rename(tmp_path / "elsewhere")
    for command in (
        ["generate", "--model", directory, "w1"],
        ["evaluate", directory],
        ["merge", directory, "--output", tmp_path / "merged"],
    ):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"is an adapter of '{start}', and there is no such directory here" in err
        assert f"base_model_name_or_path of {directory}/adapter_config.json" in err
    assert not (tmp_path / "merged").exists()
    settings = json.loads((directory / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(tmp_path / "elsewhere")
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    code, _, err = run("generate", "--model", directory, "--max-new-tokens", 2, "w1")
    assert code == 0, err


def test_what_is_no_adapter_is_not_merged(base, run, tmp_path):
    code, _, err = run("merge", base("gpt2"), "--output", tmp_path / "merged")
    assert code == 2
    assert "is no adapter" in err
    assert err.count("\n") == 1
    code, _, err = run("merge", tmp_path / "nothing", "--output", tmp_path / "merged")
    assert code == 2
    assert "nothing" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "merged").exists()


def test_nothing_that_is_needed_is_replaced_by_a_merged_model(ours, run):
    start, directory = ours()
    for output in (start, directory):
        before = digests(output)
        code, _, err = run("merge", directory, "--output", output)
        assert code == 2
        assert "choose another directory" in err
        assert digests(output) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lora-rank", -1], "lora_rank=-1 must be a whole number of at least 0 (0 is off)"),
        (["--lora-alpha", 8], "lora_alpha=8 is of a LoRA adapter, and lora_rank=0 trains"),
        (
            ["--lora-rank", 2, "--lora-target-modules", "q_proj,k_porj"],
            "target_modules='k_porj' match no layer of LlamaForCausalLM, whose linear layers",
        ),
    ],
)
def test_settings_that_do_not_fit(options, message, base, run, pairs, tmp_path):
    output = tmp_path / "sft"
    arguments = ["sft", pairs, "--model", base("llama"), "--output", output, *options]
    code, _, err = run(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (output / "model").exists()


def test_an_adapter_gets_no_second_one(ours, run, pairs, tmp_path):
    _, directory = ours()
    for command in (["sft", pairs], ["dpo", pairs]):
        code, _, err = run(
            *command, "--model", directory, "--lora-rank", 2, "--output", tmp_path / "second"
        )
        assert (code, err.count("\n")) == (2, 1)
        assert "lora_rank=2 asks for a new adapter, and model=" in err
        assert "llm-gym merge" in err


def test_without_peft_a_sentence_says_what_to_install(base, run, pairs, tmp_path, monkeypatch):
    start = base("gpt2")
    monkeypatch.setitem(sys.modules, "peft", None)
    code, _, err = run(
        "sft", pairs, "--model", start, "--lora-rank", 2, "--output", tmp_path / "sft"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "LoRA adapters need PEFT: pip install 'llm-gym[lora]'" in err

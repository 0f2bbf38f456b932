"""Commands that let a model answer: how answers end, what is loaded, what is said and how often."""

from __future__ import annotations

import json
import re
import warnings

import pytest
import transformers

from llm_gym.cli import main
from llm_gym.feedback.preferences import PreferenceStore
from llm_gym.stages import compare as module
from llm_gym.stages.compare import CompareConfig, sample_comparisons
from llm_gym.text.prompts import PromptRow
from tests.chat_tokenizers import save_model

LONG = "w1 w2 w3 w4 w5 w6"


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 2)

    def call(*arguments):
        """Output, and what was warned of; the error if there was one."""
        code = 0
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                main(list(map(str, arguments)))
            except SystemExit as end:
                code = end.code or 0
        out, err = capsys.readouterr()
        assert not code, err
        return out, [str(each.message) for each in told]

    return call


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(f"{LONG} w{n}" for n in range(5)) + "\nw1\n")
    return path


def commands(model, prompts, store):
    asked = ["--prompts", prompts]
    return {
        "generate": ["generate", "--model", model, *asked, "--samples", 2, "--json"],
        "compare": ["compare", store, "--model", model, *asked],
        "label": ["label", store, "--generate-from", model, *asked, "--export", f"{store}.jsonl"],
    }


@pytest.fixture(params=["generate", "compare", "label"])
def command(request, tiny_dir, prompts, tmp_path):
    return commands(tiny_dir(), prompts, tmp_path / "s.db")[request.param]


def voted(command):
    """`label` writes what has votes, so that its export fails where nobody has voted."""
    return command[: command.index("--export")] if "--export" in command else command


def test_the_tokenizer_is_loaded_once(run, command, monkeypatch):
    loaded = []
    original = transformers.AutoTokenizer.from_pretrained
    monkeypatch.setattr(
        transformers.AutoTokenizer,
        "from_pretrained",
        lambda name, *args, **kwargs: loaded.append(name) or original(name, *args, **kwargs),
    )
    monkeypatch.setattr("llm_gym.cli.labelling._in_browser", lambda *_, **__: None)
    run(*voted(command), "--max-new-tokens", 6)
    assert len(loaded) == 1


def test_prompts_that_are_cut_are_spoken_of_once(run, command, monkeypatch):
    monkeypatch.setattr("llm_gym.cli.labelling._in_browser", lambda *_, **__: None)
    limits = ["--max-new-tokens", 6, "--max-prompt-tokens", 4, "--too-long", "truncate"]
    _, told = run(*voted(command), *limits)
    told = [message for message in told if "too long" in message]
    assert len(told) == 1
    assert re.match(r"5 of 6 prompts are too long and are cut \(.*line 1", told[0])


@pytest.mark.parametrize("name", ["generate", "compare", "label"])
def test_answers_end_where_the_command_says(run, name, tmp_path, prompts, monkeypatch):
    """Every token but the first of an answer is the stop string, or the end that is named."""
    monkeypatch.setattr("llm_gym.cli.labelling._in_browser", lambda *_, **__: None)
    model, store = save_model("bytes without a template", tmp_path / "model"), tmp_path / "s.db"
    command = voted(commands(model, prompts, store)[name])
    vowels = [letter for vowel in "aeiou" for letter in ("--stop-strings", vowel)]
    seen = {}

    def spy(environment, kwargs):
        seen.update(kwargs)
        return original(environment, kwargs)

    from llm_gym.runs import playing

    original = playing._make
    monkeypatch.setattr(playing, "_make", lambda env, kwargs: spy(env, {**env, **kwargs}))
    ends = ["--eos-token-id", 50, "--eos-token-id", 51, "--min-new-tokens", 2]
    out, _ = run(*command, *vowels, *ends, "--max-new-tokens", 9)
    assert seen["stop_strings"] == list("aeiou")
    assert seen["eos_token_id"] == [50, 51]
    assert (seen["min_new_tokens"], seen["max_new_tokens"]) == (2, 9)
    if name == "generate":
        answers = [json.loads(line)["completion"] for line in out.splitlines()]
    else:
        with PreferenceStore(store) as opened:
            answers = [answer for row in opened.comparisons() for answer in row.answers]
    assert len(answers) == 12
    assert not any(set(answer) & set("aeiou") for answer in answers)


def test_a_column_of_a_comparison_s_own_name_is_left_out_and_named(run, tiny_dir, tmp_path):
    path, store = tmp_path / "rows.jsonl", tmp_path / "s.db"
    taken = {"prompt": "id", "chosen": "c", "model": "m", "sampling_seed": 3, "temperature": 9}
    rows = [{"question": f"w{n}", "kept": n, **taken} for n in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--prompts", path, "--prompt-column", "question", "--max-new-tokens", 5]
    _, told = run("compare", store, "--model", tiny_dir(), *arguments)
    for name in taken:
        beginning = f"the column {name!r} is left out: something else is written under its name ("
        assert sum(beginning in message for message in told) == 1
    with PreferenceStore(store) as opened:
        found = list(opened.comparisons())
    assert {row.prompt for row in found} == {"w0", "w1", "w2"}
    for row in found:
        assert row.columns["kept"] == int(row.prompt[1:])
        assert row.columns["model"] == tiny_dir()
        assert row.columns["temperature"] == 1.0
        assert "prompt" not in row.columns


def test_the_prompt_column_is_that_of_imported_comparisons_too(run, tmp_path, monkeypatch):
    monkeypatch.setattr("llm_gym.cli.labelling._in_browser", lambda *_, **__: None)
    path, store = tmp_path / "pairs.jsonl", tmp_path / "s.db"
    path.write_text(json.dumps({"question": "why", "answers": ["a", "b"]}))
    with pytest.raises(AssertionError, match=r"has no \"prompt\" key.* \(--prompt-column\)"):
        run("label", store, "--import", path, "--terminal")
    out, _ = run("label", store, "--import", path, "--prompt-column", "question")
    assert f"new comparisons from {path}: 1" in out
    path.write_text(json.dumps({"question": "why", "chosen": "why a", "rejected": "why b"}))
    with pytest.raises(AssertionError, match="--prompt-column question is for rows with answers"):
        run("label", store, "--import", path, "--prompt-column", "question")


def test_sampling_from_python_takes_the_environment_s_options(tiny_dir):
    made = sample_comparisons(
        tiny_dir(), [PromptRow("w1", {})], max_new_tokens=6, stop_strings=["w3"], seed=2
    )
    assert not any("w3" in answer for row in made for answer in row.answers)
    assert CompareConfig(stop_strings=["w3"]).ending_options() == {"stop_strings": ["w3"]}

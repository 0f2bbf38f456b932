from __future__ import annotations

import pytest

from llm_gym import scorers
from llm_gym.language_models.loading import chat_prompt_template, torch_device
from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs, scorer_from_name
from llm_gym.testing.tiny import tiny_tokenizer


def test_scorers_by_name(tmp_path):
    assert isinstance(scorer_from_name("length:20"), scorers.LengthScorer)
    assert scorer_from_name("regex:a:b")(["p"], ["a:b"]) == [1.0]  # colons belong to the pattern
    assert isinstance(scorer_from_name("http://localhost:1/x"), scorers.HTTPScorer)
    assert scorer_from_name("tests.tiny_runs:count_w1")(["p"], ["w1 w1"]) == [2.0]
    file = tmp_path / "c:d.py"  # a colon in the path
    file.write_text("def f(prompts, completions): return [3.0] * len(prompts)")
    assert scorer_from_name(f"{file}:f")(["p"], ["x"]) == [3.0]


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda available=available: available)
        assert torch_device("auto") == expected
    assert torch_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kindness", "there is no scorer 'kindness'"),
        ("length:long", "length:WORDS needs a number"),
        ("classifier:some/model", "name the label too"),
        ("no_such_module:f", "cannot be imported"),
        ("tests.tiny_runs:nothing", "has no 'nothing'"),
        ("{file}:nothing", "has no 'nothing'"),
        ("{broken}:f", "cannot be run: ZeroDivisionError"),
    ],
)
def test_scorer_that_cannot_be_had_is_named(name, message, tmp_path):
    (tmp_path / "s.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=message):
        scorer_from_name(name.format(file=tmp_path / "s.py", broken=tmp_path / "b.py"))


def test_scorer_that_is_not_callable_is_refused(tmp_path):
    (tmp_path / "s.py").write_text("x = 1")
    with pytest.raises(TypeError, match="callable"):
        scorer_from_name(f"{tmp_path / 's.py'}:x")


def test_environment_fits_the_model_even_if_its_table_is_larger(tmp_path):
    from llm_gym.testing.tiny import tiny_model

    tiny_model(vocab_size=40).save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer(29)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    kwargs = environment_kwargs(TEXT_GENERATION, str(tmp_path), max_new_tokens=None)
    assert kwargs["vocab_size"] == 40
    assert kwargs["pad_token_id"] == 1  # the EOS: masks say what is padding
    assert "max_new_tokens" not in kwargs
    assert "prompt_template" not in kwargs


def test_chat_template_becomes_the_prompt_template():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{{ '{x}' }}<bot>"
    )
    template = chat_prompt_template(tokenizer)
    assert template.format(prompt="a {b}") == "<user>a {b}{x}<bot>"
    tokenizer.chat_template = "nobody speaks"
    with pytest.raises(ValueError, match="does not show the user's message once"):
        chat_prompt_template(tokenizer)

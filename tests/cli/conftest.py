import pytest

from llm_gym.cli import main
from tests.tiny_runs import PROMPTS


@pytest.fixture
def run(capsys):
    """Runs a command line in this process; gives exit code, standard output and error."""

    def call(*arguments):
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS))
    return path


@pytest.fixture
def scorer(tmp_path):
    path = tmp_path / "my scorer.py"
    path.write_text(
        "def w1(prompts, completions):\n    return [c.split().count('w1') for c in completions]\n"
        "def broken(prompts, completions):\n    return [float('nan')] * len(prompts)\n"
    )
    return path

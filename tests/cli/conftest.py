import pytest

from llm_gym.cli import main


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

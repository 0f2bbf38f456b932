"""The sizes that `rlhf` brings along: what they start from, and the gain at their end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from llm_gym.cli import main
from llm_gym.stages.rlhf import RLHFConfig, rlhf


@pytest.mark.slow
def test_a_quick_run_ends_with_a_gain(tmp_path):
    """In part of its size. Seeds 0 to 4 gained 18.0, 10.6, 10.5, 9.0 and 15.7 on one thread."""
    config = RLHFConfig.quick(
        train_prompts=48, held_out_prompts=24, generated_pairs=64, total_tokens=5120, look_every=9
    )
    console = Console(file=io.StringIO())
    summary = rlhf(tmp_path / "run", config, console=console, quiet=True).summary
    assert summary["gold_gain"] > 5
    assert summary["reward_model_accuracy"] > 0.5


def test_a_class_casts_300_votes():
    config = RLHFConfig.for_class(raters="people")
    votes = config.train_prompts * config.pairs_per_prompt * config.votes_per_comparison
    assert votes == 300
    assert (config.start_from, config.raters) == ("llm_gym/email-base", "people")


@pytest.mark.parametrize("sizes", [RLHFConfig.quick, RLHFConfig.for_class])
def test_what_is_given_takes_the_place_of_what_the_sizes_say(sizes):
    assert sizes(total_tokens=7).total_tokens == 7
    assert sizes(text="novels.txt").start_from is None
    assert sizes(text="novels.txt").text == "novels.txt"
    own = sizes(pairs="pairs.jsonl")
    assert own.start_from is not None
    assert own.praise_share is None


def test_two_sizes_are_one_too_many(capsys):
    with pytest.raises(SystemExit):
        main(["rlhf", "--quick", "--class"])
    assert (
        "--quick and --class are sizes of everything; give one of them" in capsys.readouterr().err
    )

"""`llm-gym train --algorithm NAME`: the table, its settings, and a whole run by each."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, replace

import pytest
from rich.console import Console
from safetensors.torch import load_file

import llm_gym
from llm_gym.learning.policy_gradient import PolicyGradient
from llm_gym.stages import algorithms
from llm_gym.stages.algorithms import ALGORITHMS, AlgorithmConfig, parameters_of, resolved
from llm_gym.stages.train import TrainConfig, build_algorithm, load_config, train
from tests.products import sampled

NOT_SETTINGS = {
    # given by other settings, or by the table itself
    "policy", "env", "policy_kwargs", "seed", "device", "objective", "penalty", "settings",
    "kwargs", "rollout_buffer_class", "rollout_buffer_kwargs", "_init_setup_model",
    # of no use to text, or fixed
    "verbose", "tensorboard_log", "stats_window_size", "use_sde", "sde_sample_freq",
    "cg_damping", "line_search_shrinking_factor", "line_search_max_iter", "sub_sampling_factor",
}  # fmt: skip


@pytest.fixture
def config(tiny_dir, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("w1 w2\nw3\nw4 w5 w6\n")
    return TrainConfig(
        model=tiny_dir(), prompts=str(prompts), scorer="length:3", max_new_tokens=5, num_envs=8,
        device="cpu", seed=2, total_tokens=80, checkpoint_every=1, learning_rate=1e-3,
    )  # fmt: skip


def silent():
    import io

    return Console(file=io.StringIO())


def weights(output):
    return load_file(output / "model" / "model.safetensors")


# ------------------------------------------------------------------ every algorithm


KEPT = ("ppo", "rloo", "nlpo", "raft", "dpo", "online_dpo", "maskable_ppo")


@pytest.mark.parametrize("name", sampled(ALGORITHMS, *KEPT))
def test_a_run_leaves_a_model_and_goes_on_exactly(name, config, tmp_path):
    config = replace(config, algorithm=name)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, config, console=silent())
    train(parts, replace(config, total_tokens=40), console=silent())
    again = replace(load_config(parts), total_tokens=80)
    run = train(parts, again, resume=True, console=silent())
    assert run.command.startswith(f"llm-gym generate --model {parts / 'model'}")
    assert f"learns by {name}" in (parts / "report.html").read_text()
    if name in ("sft_on_best", "dpo"):  # which sample all of total_tokens before they learn
        return
    straight, resumed = weights(whole), weights(parts)
    assert [key for key in straight if not (straight[key] == resumed[key]).all()] == []
    start = load_file(config.model + "/model.safetensors")
    assert any(not (start[key] == straight[key]).all() for key in start)


def test_every_algorithm_of_the_library_is_in_the_table():
    names = [name for name in llm_gym.__all__ if inspect.isclass(getattr(llm_gym, name))]
    ours = {name for name in names if hasattr(getattr(llm_gym, name), "collect_rollouts")}
    assert ours == {a.place.partition(":")[2] for a in ALGORITHMS.values() if not a.is_contrib}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_parameter_is_an_option(name):
    kind = ALGORITHMS[name].load()
    taken = set(inspect.signature(kind.__init__).parameters) - {"self"}
    if issubclass(kind, PolicyGradient):
        taken |= set(inspect.signature(PolicyGradient.__init__).parameters) - {"self"}
    assert taken - {each.name for each in fields(AlgorithmConfig)} <= NOT_SETTINGS


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_left_out_is_the_algorithms_own(name):
    values = resolved(AlgorithmConfig(algorithm=name))
    for key, value in ALGORITHMS[name].defaults.items():
        assert values[key] == (value if key != "kl_coef" else values["kl_coef"])
    assert values["group_size"] == ALGORITHMS[name].group_size
    # Said again they are the same: what a run writes down can be given to it.
    again = {key: value for key, value in values.items() if value is not None}
    assert resolved(AlgorithmConfig(**again)) == values


# ------------------------------------------------------------------ settings reach the algorithm


def test_settings_reach_the_algorithm(config):
    grpo = build_algorithm(
        replace(
            config, algorithm="grpo", group_size=4, clip_range=0.1, clip_range_high=0.3,
            kl_coef=0.2, kl_target=3.0, n_epochs=2, batch_size=10, max_grad_norm=0.5,
        )
    )  # fmt: skip
    assert type(grpo).__name__ == "GRPO"
    assert grpo.group_size == 4
    assert (grpo.clip_low, grpo.clip_high) == (0.1, 0.3)
    assert (grpo.n_epochs, grpo.batch_size, grpo.max_grad_norm) == (2, 10, 0.5)
    assert grpo.shaping.penalty.kl_target == 3.0
    assert grpo.shaping.penalty.kl_in == "loss"
    dapo = build_algorithm(replace(config, algorithm="dapo"))
    assert (dapo.clip_low, dapo.clip_high) == (0.2, 0.28)
    raft = build_algorithm(replace(config, algorithm="raft", group_size=1, top_share=0.25))
    assert raft.top_share == 0.25
    online = build_algorithm(replace(config, algorithm="online-dpo", label_smoothing=0.1))
    assert online.online
    assert online.label_smoothing == 0.1


def test_a_reference_is_another_model(config, tiny_dir):
    other = tiny_dir(seed=9)
    rloo = build_algorithm(replace(config, algorithm="rloo", reference=other))
    mine = dict(rloo.policy.model.named_parameters())
    theirs = dict(rloo.reference.model.named_parameters())
    assert any(not (mine[name] == value).all() for name, value in theirs.items() if name in mine)


def test_the_environment_is_told_how_answers_end(config):
    algorithm = build_algorithm(
        replace(
            config, eos_token_id=[3, 4], stop_strings=["w9"], max_prompt_tokens=7,
            on_max_length="penalise", missing_eos_penalty=-2.0, add_special_tokens=False,
            too_long="truncate",
        )
    )  # fmt: skip
    options = algorithm.env.get_attr("unwrapped")[0]._mdp.options
    assert list(options.eos_token_id) == [3, 4]
    assert list(options.stop_strings) == ["w9"]
    assert options.max_prompt_tokens == 7
    assert (options.on_max_length, options.missing_eos_penalty) == ("penalise", -2.0)
    assert options.add_special_tokens is False
    assert options.too_long == "truncate"


def test_the_model_is_loaded_as_the_settings_say(config):
    import torch

    algorithm = build_algorithm(
        replace(config, dtype="bfloat16", attn_implementation="eager", prefix_cache="off")
    )
    assert {p.dtype for p in algorithm.policy.model.parameters()} == {torch.bfloat16}
    assert algorithm.policy.model.config._attn_implementation == "eager"
    assert algorithm.policy.prefix_cache is False


def test_fewest_tokens_need_an_algorithm_that_heeds_masks(config):
    algorithm = build_algorithm(replace(config, algorithm="maskable_ppo", min_new_tokens=2))
    assert algorithm.env.get_attr("masks_actions")[0]
    with pytest.raises(ValueError, match="mask"):
        build_algorithm(replace(config, min_new_tokens=2))


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "rlo"}, "did you mean 'rloo'"),
        ({"algorithm": "sarsa-lambda"}, "there are ppo, a2c"),
        ({"algorithm": "rloo", "beta": 0.1}, "beta is no setting .*'rloo'.*: dpo, online_"),
        ({"algorithm": "raft", "gamma": 0.9}, "gamma is no setting of .*: ppo, a2c"),
        ({"algorithm": "ppo", "top_share": 0.5}, "top_share is no setting .*: raft, sft_on_best$"),
        ({"algorithm": "rloo", "clip_range": 0.3}, "clip_range=0.3 does nothing .*loss='clipped'"),
        ({"algorithm": "grpo", "vf_coef": 0.3}, "vf_coef=0.3 does nothing .*advantage='gae'"),
        ({"algorithm": "dapo", "kl_target": 3.0}, "kl_target=3.0 does nothing .*with kl_coef=0"),
        (
            {"algorithm": "dapo", "reference_weights": "disk"},
            "reference_weights='disk' does nothing .*with kl_coef=0 and no reference",
        ),
        ({"algorithm": "ppo", "kl_horizon": 3}, "kl_horizon=3 does nothing .*without kl_target"),
    ],
)  # fmt: skip
def test_a_setting_that_an_algorithm_has_not_is_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        resolved(AlgorithmConfig(**settings))


@pytest.mark.parametrize(
    ("name", "known"),
    [("Dr-GRPO", "dr_grpo"), ("expert-iteration", "raft"), ("REINFORCE_plus_plus", "reinforce++")],
)
def test_names_are_understood_as_people_write_them(name, known):
    assert AlgorithmConfig(algorithm=name).algorithm == known


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    parameters_of.cache_clear()
    with pytest.raises(
        ImportError, match=r'TRPO needs sb3-contrib: pip install "llm-gym\[contrib\]"'
    ):
        resolved(AlgorithmConfig(algorithm="trpo"))
    with pytest.raises(ValueError, match=r"target_kl is no setting .*: ppo$"):
        resolved(AlgorithmConfig(algorithm="rloo", target_kl=0.1))
    parameters_of.cache_clear()


# ------------------------------------------------------------------ before and after


@pytest.mark.parametrize("quiet", [False, True])
def test_held_out_prompts_are_answered_before_and_after(config, tmp_path, capsys, quiet):
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("w7\nw8 w9\n")
    console = silent()
    console.quiet = quiet
    run = train(tmp_path / "run", replace(config, eval_prompts=str(held_out)), console=console)
    assert capsys.readouterr().err.count("evaluating: 2 prompts\n") == (0 if quiet else 2)
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    for when in ("before", "after"):
        assert [row["prompt"] for row in written[when]["rows"]] == ["w7", "w8 w9"]
        assert written[when]["mean_score"] == run.evaluations[when].mean_score
    page = (tmp_path / "run" / "report.html").read_text()
    assert "score before" in page
    assert "<h3>w8 w9</h3>" in page


def test_the_table_names_classes_lazily():
    import subprocess
    import sys

    code = "import sys, llm_gym.stages.train; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert algorithms.known_name("ppo") == "ppo"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_reward_at_the_end_is_due_to_the_first_word_as_well(name):
    """At 0.99, the default of robots, 100 tokens earlier it would be worth 0.37 of itself."""
    if ALGORITHMS[name].is_contrib:
        pytest.importorskip("sb3_contrib")
    assert resolved(AlgorithmConfig(algorithm=name)).get("gamma", 1.0) == 1.0

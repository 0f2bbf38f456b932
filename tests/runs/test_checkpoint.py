from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import stable_baselines3
import torch
from safetensors.torch import load_file, save_file

import llm_gym
from llm_gym.files import owned
from llm_gym.learning.base import AnswerLearner
from llm_gym.runs import checkpoint as module
from llm_gym.runs import misfit
from llm_gym.runs.checkpoint import (
    has_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    save_model,
    save_numbered_checkpoint,
)
from tests.tiny_runs import ROLLOUT, tiny_env, tiny_ppo

N = 3 * ROLLOUT


def stock(name):
    """Stable-Baselines3's own algorithm with our policy and buffer."""

    def make(model, **overrides):
        kwargs = {"n_steps": 10, "learning_rate": 1e-3, "seed": 3, "device": "cpu"}
        kwargs |= {"batch_size": 12, "n_epochs": 2} if name == "PPO" else {"use_rms_prop": False}
        return getattr(stable_baselines3, name)(
            llm_gym.TransformerActorCriticPolicy,
            llm_gym.GymVecEnv(tiny_env(model)),
            rollout_buffer_class=llm_gym.EpisodeBuffer,
            policy_kwargs={"model": model},
            **kwargs,
            **overrides,
        )

    return make


def everything(algorithm):
    """All that training may depend on, as comparable values."""
    state = {f"policy.{k}": v for k, v in algorithm.policy.state_dict().items()}
    moments = algorithm.policy.optimizer.state_dict()["state"]
    state |= {f"adam.{i}.{k}": v for i, entry in moments.items() for k, v in entry.items()}
    state |= {f"obs.{k}": torch.as_tensor(v) for k, v in algorithm._last_obs.items()}
    state["random.policy"] = algorithm.policy.generator.get_state()
    values = {
        "env": json.dumps(algorithm.env.get_state()),
        "buffer": str(algorithm.rollout_buffer.rng.bit_generator.state),
        "own": algorithm.get_state() if isinstance(algorithm, AnswerLearner) else {},
        "steps": (algorithm.num_timesteps, algorithm._n_updates),
        "episodes": [(e["r"], e["l"]) for e in algorithm.ep_info_buffer],
        "progress": algorithm._current_progress_remaining,
        "starts": algorithm._last_episode_starts.tolist(),
    }
    return state, values


def assert_same(first, second):
    (tensors, values), (other_tensors, other_values) = everything(first), everything(second)
    assert tensors.keys() == other_tensors.keys()
    different = [k for k in tensors if not torch.equal(tensors[k], other_tensors[k])]
    assert different == []
    assert values == other_values


@pytest.mark.parametrize("make", [tiny_ppo, stock("PPO"), stock("A2C")], ids=["ppo", "sb3", "a2c"])
def test_training_on_from_a_checkpoint_is_training_on_bit_for_bit(make, tiny_dir, tmp_path):
    """Parameters, Adam moments, random states, KL coefficient and prompts continue exactly."""
    model = tiny_dir()
    straight = make(model, verbose=0)
    straight.learn(N)
    save_checkpoint(straight, tmp_path / "c")
    straight.learn(N, reset_num_timesteps=False)

    resumed = make(model, verbose=0)
    resumed.learn(2 * ROLLOUT)  # whatever it did before must not matter
    load_checkpoint(resumed, tmp_path / "c")
    resumed.learn(N, reset_num_timesteps=False)
    assert_same(resumed, straight)


def test_saving_does_not_disturb_training(tiny_dir, tmp_path):
    plain, saving = tiny_ppo(tiny_dir()), tiny_ppo(tiny_dir())
    plain.learn(N)
    saving.learn(N)
    save_checkpoint(saving, tmp_path / "c")
    for algorithm in (plain, saving):
        algorithm.learn(N, reset_num_timesteps=False)
    assert_same(saving, plain)


def test_schedules_go_on_where_they_were(tiny_dir, tmp_path):
    rates = {
        "learning_rate": lambda left: 1e-3 * left,
        "kl_coef": lambda left: 0.1 + left,
        "ent_coef": lambda left: 0.3 * left,
        "kl_target": None,
    }
    straight, resumed = tiny_ppo(tiny_dir(), **rates), tiny_ppo(tiny_dir(), **rates)
    from llm_gym.runs.callbacks import CheckpointCallback

    straight.learn(2 * N, callback=CheckpointCallback(tmp_path, every=3, keep_last=None))
    load_checkpoint(resumed, tmp_path / f"step-{N:012d}")
    resumed.learn(N, reset_num_timesteps=False)
    assert_same(resumed, straight)


@pytest.fixture
def saved(tiny_dir, tmp_path):
    algorithm = tiny_ppo(tiny_dir())
    algorithm.learn(ROLLOUT)
    return algorithm, save_checkpoint(algorithm, tmp_path / "saved")


def test_model_inside_is_one_that_transformers_loads(saved):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    algorithm, directory = saved
    model = AutoModelForCausalLM.from_pretrained(directory / "model")
    for name, value in algorithm.policy.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    tokenizer = AutoTokenizer.from_pretrained(directory / "model")
    assert tokenizer.decode(tokenizer("w1 w2")["input_ids"]) == "w1 w2"
    again = tiny_ppo(str(directory / "model")).policy
    torch.testing.assert_close(again.value_head.weight, algorithm.policy.value_head.weight)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_tied_weights_are_stored_once(device, tiny_dir, tmp_path):
    algorithm = tiny_ppo(tiny_dir("gpt2"), device=device)
    algorithm.learn(ROLLOUT)
    directory = save_checkpoint(algorithm, tmp_path / "c")
    head, embedding = "policy.model.lm_head.weight", "policy.model.transformer.wte.weight"
    assert read_metadata(directory)["shared_tensors"][head] == embedding
    weights = algorithm.policy.state_dict()
    stored = [n for n in load_file(directory / "training.safetensors") if n.startswith("policy.")]
    assert len(stored) == len({value.data_ptr() for value in weights.values()})
    load_checkpoint(tiny_ppo(tiny_dir("gpt2"), device=device), directory)


@pytest.mark.parametrize("made", ["untied", "said"])
def test_weights_that_are_tied_otherwise_are_refused(made, saved, tiny_dir, tmp_path):
    """By a model of the same names and shapes, or by a file that says of two that they are one."""
    algorithm, directory = saved
    name, twin = "policy.model.lm_head.weight", "policy.model.transformer.wte.weight"
    if made == "untied":
        directory = save_checkpoint(
            tiny_ppo(tiny_dir("gpt2"), kl_coef=0.0, kl_target=None), tmp_path / "tied"
        )
        algorithm = tiny_ppo(
            tiny_dir("gpt2", tie_word_embeddings=False), kl_coef=0.0, kl_target=None
        )
    else:
        name, twin = (f"policy.model.transformer.h.0.ln_{n}.weight" for n in (2, 1))
        tensors = load_file(directory / "training.safetensors")
        del tensors[name]
        save_file(tensors, directory / "training.safetensors")
        values = json.loads((directory / "checkpoint.json").read_text())
        values["shared_tensors"][name] = twin
        (directory / "checkpoint.json").write_text(json.dumps(values))
        owned.write_marker(directory, "checkpoint", files=owned.manifest(directory))
    with pytest.raises(ValueError, match=f"shared_tensors.{name} is not '{twin}' in the policy"):
        load_checkpoint(algorithm, directory)


def test_nothing_in_it_is_pickled(saved):
    _, directory = saved
    suffixes = {path.suffix for path in directory.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".jinja", ".txt"}


def test_what_was_loaded_is_saved_as_it_was(saved, tiny_dir, tmp_path):
    """Counters and budgets too, which the next `learn` would set anew."""
    _, directory = saved
    other = tiny_ppo(tiny_dir())
    load_checkpoint(other, directory)
    again = save_checkpoint(other, tmp_path / "again")
    for name in ("checkpoint.json", "training.safetensors"):
        assert (again / name).read_bytes() == (directory / name).read_bytes(), name


def test_saving_again_replaces_it_whole(saved):
    algorithm, directory = saved
    algorithm.learn(ROLLOUT, reset_num_timesteps=False)
    save_checkpoint(algorithm, directory)
    assert read_metadata(directory)["num_timesteps"] == 2 * ROLLOUT
    assert [path.name for path in directory.parent.iterdir()] == ["saved"]


def test_interrupted_saving_leaves_the_old_checkpoint_and_no_half_one(saved, monkeypatch):
    algorithm, directory = saved

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.owned, "manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(algorithm, directory)
    with pytest.raises(KeyboardInterrupt):
        save_numbered_checkpoint(algorithm, directory.parent)
    load_checkpoint(algorithm, directory)
    assert [path.name for path in directory.parent.iterdir()] == ["saved"]


def damage_tensors(directory):
    path = directory / "training.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    return "training.safetensors is corrupt"


def truncate_model(directory):
    path = directory / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    return "model.safetensors is corrupt"


def remove_tensors(directory):
    (directory / "training.safetensors").unlink()
    return "training.safetensors is missing"


def remove_metadata(directory):
    (directory / "checkpoint.json").unlink()
    return r"checkpoint\.json is missing"


def cut_metadata(directory):
    path = directory / "checkpoint.json"
    path.write_text(path.read_text()[:100])
    return r"checkpoint\.json is corrupt"


def empty_metadata(directory):
    (directory / "checkpoint.json").write_text("{}")
    return r"checkpoint\.json: format is missing"


def from_the_future(directory):
    path = directory / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    return "has format 99"


def remove_everything(directory):
    shutil.rmtree(directory)
    return "saved.checkpoint.json is missing"


@pytest.mark.parametrize(
    "damage",
    [
        damage_tensors,
        truncate_model,
        remove_tensors,
        remove_metadata,
        cut_metadata,
        empty_metadata,
        from_the_future,
        remove_everything,
    ],
)
def test_damage_is_one_clear_error_and_changes_nothing(damage, saved):
    algorithm, directory = saved
    before, _ = everything(algorithm)
    before = {name: value.clone() for name, value in before.items()}
    with pytest.raises(ValueError, match=damage(directory)):
        load_checkpoint(algorithm, directory)
    after, _ = everything(algorithm)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_checkpoint_of_something_else_is_refused_with_the_reason(saved, tiny_dir):
    _, directory = saved
    with pytest.raises(ValueError, match="saved by PPO, not A2C"):
        load_checkpoint(stock("A2C")(tiny_dir()), directory)
    with pytest.raises(ValueError, match="no parameter"):
        load_checkpoint(tiny_ppo(tiny_dir("llama")), directory)
    for width in (16, 64):  # narrower and wider than it was
        with pytest.raises(ValueError, match=r"has shape .* started from another model"):
            load_checkpoint(tiny_ppo(tiny_dir(n_embd=width)), directory)
    with pytest.raises(ValueError, match="KL reference is not the one"):
        load_checkpoint(tiny_ppo(tiny_dir(seed=5)), directory)
    with pytest.raises(ValueError, match="saved with 4 environments, there are 2"):
        load_checkpoint(
            llm_gym.PPO(
                "TransformerPolicy",
                tiny_env(tiny_dir(), num_envs=2),
                n_steps=10,
                policy_kwargs={"model": tiny_dir()},
                device="cpu",
            ),
            directory,
        )


def test_numbered_checkpoints_keep_the_newest(tiny_dir, tmp_path):
    algorithm = tiny_ppo(tiny_dir())
    for _ in range(3):
        algorithm.learn(ROLLOUT, reset_num_timesteps=False)
        save_numbered_checkpoint(algorithm, tmp_path, keep_last=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"step-{2 * ROLLOUT:012d}", f"step-{3 * ROLLOUT:012d}"]
    assert latest_checkpoint(tmp_path).name == names[-1]
    assert latest_checkpoint(tmp_path / names[0]).name == names[0]
    with pytest.raises(ValueError, match="keep_last must be at least 1"):
        save_numbered_checkpoint(algorithm, tmp_path, keep_last=0)


def test_half_written_directories_are_never_the_latest(saved):
    _, directory = saved
    folder = directory.parent
    (folder / f"step-{10**6:012d}").mkdir()
    (folder / ".step-000000999999.abc.tmp").mkdir()
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        latest_checkpoint(folder)
    assert not has_checkpoint(folder)
    directory.rename(folder / "step-000000000040")
    assert has_checkpoint(folder)
    assert latest_checkpoint(folder).name == "step-000000000040"


def test_destination_that_is_no_checkpoint_is_left_alone(saved, tmp_path):
    algorithm, _ = saved
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    for save in (save_checkpoint, save_model):
        with pytest.raises(ValueError, match="will not be replaced"):
            save(algorithm, tmp_path / "home")
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_environment_without_a_state_warns_that_prompts_start_anew(tiny_dir, tmp_path):
    from stable_baselines3.common.vec_env import DummyVecEnv

    from llm_gym import TextGenerationEnv
    from tests.tiny_runs import PROMPTS, count_w1

    def make():
        env = TextGenerationEnv(tiny_dir(), PROMPTS, count_w1, max_new_tokens=8)
        return llm_gym.PPO(
            "TransformerPolicy",
            DummyVecEnv([lambda: env]),
            n_steps=8,
            device="cpu",
            policy_kwargs={"model": tiny_dir()},
        )

    algorithm = make().learn(8)
    save_checkpoint(algorithm, tmp_path / "c")
    again = make()
    with pytest.warns(UserWarning, match="prompts start anew"):
        load_checkpoint(again, tmp_path / "c")
    again.learn(8, reset_num_timesteps=False)
    assert again.num_timesteps == 16
    assert np.isfinite(again.policy.value_head.weight.detach().numpy()).all()


@pytest.mark.parametrize("ends", [[3], [4, 5]])
def test_a_saved_model_ends_where_the_environment_did(ends, tiny_dir, tmp_path):
    from transformers import GenerationConfig

    algorithm = tiny_ppo(tiny_dir())
    own = algorithm.policy.model.generation_config.eos_token_id
    algorithm.set_env(tiny_env(tiny_dir(), eos_token_id=ends))
    save_model(algorithm, tmp_path / "model")
    saved = GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id
    assert saved == (ends if len(ends) > 1 else ends[0])
    assert algorithm.policy.model.generation_config.eos_token_id == own  # a policy is not changed


def global_generators():
    """What the next numbers of each global generator are."""
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("others", [0, 3])
def test_global_generators_go_on_where_they_were(others, saved):
    """Scorers and Stable-Baselines3 draw from them; what was drawn in between does not matter."""
    algorithm, path = saved
    save_checkpoint(algorithm, path)
    expected = global_generators()
    for _ in range(others):
        global_generators()
    load_checkpoint(algorithm, path)
    assert global_generators() == expected


@pytest.mark.parametrize("change", ["weights", "name"])
def test_a_reference_is_known_by_its_weights(change, saved, tiny_dir):
    """One of the same shape and names, but for a single weight, is another."""
    algorithm, path = saved
    reference = algorithm.reference.model
    with torch.no_grad():
        if change == "weights":
            next(reference.parameters()).view(-1)[0] += 1e-3
        else:
            reference.register_buffer("more", torch.zeros(1))
    with pytest.raises(ValueError, match="the KL reference is not the one of the saved run"):
        load_checkpoint(algorithm, path)


def test_figures_of_episodes_are_saved_whatever_numbers_they_are(saved):
    algorithm, path = saved
    algorithm.ep_info_buffer.append({"r": np.float32(1.5), "l": np.int64(3), "t": 0.5})
    save_checkpoint(algorithm, path)
    algorithm.ep_info_buffer.clear()
    load_checkpoint(algorithm, path)
    assert algorithm.ep_info_buffer[-1] == {"r": 1.5, "l": 3, "t": 0.5}


def test_generators_that_are_missing_or_unknown_are_named():
    known = dict.fromkeys(("torch", "policy", "numpy"), torch.zeros(1, dtype=torch.uint8))
    for name in known:
        without = {other: state for other, state in known.items() if other != name}
        with pytest.raises(ValueError, match=rf"random\.{name} is missing"):
            misfit._check_random(None, "cpu", without)
    with pytest.raises(ValueError, match=r"random\.dice is no state of a generator"):
        misfit._check_random(None, "cpu", {**known, "dice": known["torch"]})

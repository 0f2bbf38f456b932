"""Models whose text part is inside a larger configuration train as any other."""

from __future__ import annotations

import gymnasium as gym
import pytest
from stable_baselines3 import PPO as StockPPO

import llm_gym
from benchmarks.architectures.tiny import tiny_model
from llm_gym.language_models import load_tokenizer
from llm_gym.language_models.architecture import context_length, decoder_of, vocabulary_size
from llm_gym.language_models.loading import load_config
from llm_gym.learning.kl import ReferenceModel
from llm_gym.stages.by_name import environment_kwargs
from llm_gym.testing.tiny import tiny_tokenizer
from tests.products import covering

COMPOSITE = ["gemma3", "gemma4", "fuyu", "qwen3_5", "llama4"]


@pytest.fixture(params=COMPOSITE)
def directory(request, tmp_path):
    tiny_model(request.param).save_pretrained(tmp_path)
    tiny_tokenizer(45).save_pretrained(tmp_path)
    return str(tmp_path)


def test_vocabulary_and_context_are_those_of_the_text_part(directory):
    config = load_config(directory)
    assert vocabulary_size(config) == 48
    assert context_length(config) == 64
    kwargs = environment_kwargs("llm_gym/TextGeneration-v0", directory)
    assert kwargs["vocab_size"] == 48
    assert len(load_tokenizer(directory)) == 48


@pytest.mark.filterwarnings("ignore:the prefix cache does not fit")
@pytest.mark.parametrize(
    ("algorithm", "dtype"), covering([llm_gym.PPO, StockPPO], ["float32", "bfloat16"])
)
def test_training_leaves_a_ratio_of_one_before_the_first_step(directory, algorithm, dtype):
    """What was played and what is updated are one distribution; the reference is the model."""
    env = gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=3,
        tokenizer=tiny_tokenizer(45),
        prompts=["w1", "w5 w6 w7", "w9 w9"],
        scorer=lambda prompts, completions, **_: [float(len(c)) for c in completions],
        max_new_tokens=5,
        autoreset_mode="SameStep",
    )
    buffer = {} if algorithm is llm_gym.PPO else {"rollout_buffer_class": llm_gym.EpisodeBuffer}
    policy = llm_gym.TransformerActorCriticPolicy if buffer else "TransformerPolicy"
    model = algorithm(
        policy,
        llm_gym.GymVecEnv(env),
        n_steps=10,
        batch_size=15,
        n_epochs=1,
        learning_rate=1e-3,
        policy_kwargs={"model": directory, "dtype": dtype},
        seed=0,
        **buffer,
    ).learn(30)
    assert decoder_of(model.policy.model) is model.policy.actor_trunk.decoder
    reference = ReferenceModel.of(model.policy, directory)
    assert reference.model.dtype == model.policy.dtype
    if algorithm is llm_gym.PPO:
        deviation = model.logger.name_to_value["train/first_ratio_deviation"]
        assert deviation < (1e-4 if dtype == "float32" else 0.25)  # bfloat16 has 8 bits

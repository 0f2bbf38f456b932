"""Rollouts of whole answers with a critic: what is in them, what they cost, what they are worth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llm_gym.learning import base
from llm_gym.learning.progress import TokenBar
from llm_gym.learning.rounds import compacted
from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.learning.online_worlds import MODEL, PROMPTS, make, rollouts, small_env

EOS_IDS = (1, 7, 8)  # a quarter of the vocabulary: answers differ in length
CRITICS = ["PPO", "A2C", "NLPO"]


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def ragged(model, **overrides):
    return small_env(model, **({"eos_token_id": EOS_IDS} | overrides))


def answers(algorithm):
    buffer = algorithm.rollout_buffer
    return [(s, buffer.actions[s.start : s.stop, s.env].tolist()) for s in buffer.segments()]


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("per_row", [1, 3])
def test_a_rollout_is_a_number_of_answers_and_cuts_none(name, per_row, model):
    chosen = {} if per_row == 1 else {"answers_per_rollout": per_row * 16}
    algorithm = make(name, model, ragged(model), **chosen)
    tokens, lengths = 0, set()
    for _ in range(3):
        rollouts(algorithm)
        found = answers(algorithm)
        assert [s.env for s, _ in found] == np.arange(16).repeat(per_row).tolist()
        for segment, answer in found:
            assert algorithm.rollout_buffer.complete(segment)
            assert not set(answer[:-1]) & set(EOS_IDS)
            assert answer[-1] in EOS_IDS or len(answer) == 5
            tokens += len(answer)
            lengths.add(len(answer))
        assert algorithm.num_timesteps == tokens
    assert lengths == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("name", CRITICS)
def test_where_answers_are_equally_long_nothing_differs_from_rollouts_of_steps(name, model):
    def weights(**chosen):
        algorithm = make(name, model, small_env(model, eos_token_id=()), kl_coef=0.1, **chosen)
        return torch.cat([p.detach().flatten() for p in rollouts(algorithm, 3).policy.parameters()])

    torch.testing.assert_close(weights(), weights(n_steps=5), rtol=0, atol=1e-6)
    two = weights(answers_per_rollout=32)
    torch.testing.assert_close(two, weights(n_steps=10), rtol=0, atol=1e-6)


@pytest.mark.parametrize("on_max_length", ["terminate", "truncate"])
@pytest.mark.parametrize("name", ["PPO", "A2C"])
def test_advantages_are_those_of_each_answer_by_itself(name, on_max_length, model):
    """By hand, answer by answer; what a truncated one would have been worth is in its last step."""
    env = ragged(model, on_max_length=on_max_length)
    algorithm = make(name, model, env, kl_coef=0.2, gae_lambda=0.7, answers_per_rollout=32)
    rollouts(algorithm, 3)
    buffer, bootstrapped = algorithm.rollout_buffer, 0
    for s in buffer.segments():
        place = slice(s.start, s.stop), s.env
        rewards, values = buffer.rewards[place], buffer.values[place]
        rest = buffer.bootstraps[place]
        assert not rest[:-1].any()
        cut = s.stop - s.start == 5 and buffer.actions[place][-1] not in EOS_IDS
        assert bool(rest[-1]) == (cut and on_max_length == "truncate")
        bootstrapped += bool(rest[-1])
        after = np.append(values[1:], rest[-1])
        deltas = rewards + after - values
        expected = [sum(0.7**k * d for k, d in enumerate(deltas[t:])) for t in range(len(deltas))]
        np.testing.assert_allclose(buffer.advantages[place], expected, atol=1e-5)
        np.testing.assert_allclose(
            buffer.returns[place], buffer.advantages[place] + values, atol=1e-6
        )
    assert bool(bootstrapped) == (on_max_length == "truncate")


@pytest.mark.parametrize("name", ["PPO", "RLOO", "ReMax"])
def test_no_row_is_computed_in_vain(name, model, monkeypatch):
    """The policy is asked for the tokens of the answers, and reads each token once."""
    algorithm = make(name, model, ragged(model, group_size=4), learning_rate=0.0)
    algorithm.policy.set_training_mode(False)
    asked, read = [], []
    policy, trunk = algorithm.policy, algorithm.policy.actor_trunk
    forward, decode = policy.forward, trunk._forward

    def counted(obs, deterministic=False):
        asked.append(len(obs["input_ids"]))
        return forward(obs, deterministic)

    def counted_tokens(tokens, **kwargs):
        read.append(tokens.shape)
        return decode(tokens, **kwargs)

    monkeypatch.setattr(policy, "forward", counted)
    monkeypatch.setattr(trunk, "_forward", counted_tokens)
    rollouts(algorithm)
    tokens = algorithm.num_timesteps
    times = 2 if name == "ReMax" else 1  # asked for the most probable tokens, too
    assert sum(asked) == times * tokens
    # One pass over the prompts; then a token a row that goes on, none of them read again.
    prompts, *steps = read
    assert prompts[1] > 1 or prompts[0] == 16
    assert sum(rows * width for rows, width in steps) == tokens - 16


@pytest.mark.parametrize("options", [{"top_k": 4}, {"top_p": 0.8}, {"temperature": 0.6}])
@pytest.mark.parametrize("name", ["PPO", "GRPO"])
def test_what_was_sampled_is_what_is_evaluated_whichever_rows_are_left(name, options, model):
    """What was kept at sampling time goes back to the row it was of, and the ratio begins at 1."""
    env = ragged(model, group_size=4)
    algorithm = make(name, model, env, policy_kwargs={"model": model, **options}, kl_coef=0.1)
    for _ in range(3):
        rollouts(algorithm)
        assert algorithm.logger.name_to_value["train/first_ratio_deviation"] < 1e-4
    algorithm = make(name, model, env, policy_kwargs={"model": model, **options}, learning_rate=0.0)
    rollouts(algorithm)
    buffer, segments = algorithm.rollout_buffer, algorithm.rollout_buffer.segments()
    batch = buffer.episode_batch(segments)
    values, log_probs, _ = algorithm.policy.evaluate_actions(batch, batch.actions)
    stored = buffer.log_probs[buffer.places(segments)]
    np.testing.assert_allclose(log_probs.detach().numpy(), stored, atol=1e-5)
    if name == "PPO":
        np.testing.assert_allclose(
            values.detach().numpy().flatten(), buffer.values[buffer.places(segments)], atol=1e-5
        )


def test_rows_that_are_left_move_as_little_as_they_can():
    rng = np.random.default_rng(0)
    for _ in range(200):
        running = rng.random(int(rng.integers(1, 12))) < rng.random()
        rows = compacted(running)
        assert sorted(rows.tolist()) == np.flatnonzero(running).tolist()
        stays = [int(row) for place, row in enumerate(rows) if row == place]
        assert stays == np.flatnonzero(running[: len(rows)]).tolist()


@pytest.mark.parametrize("name", ["PPO", "A2C"])
def test_training_on_from_a_checkpoint_is_training_on_bit_for_bit(name, model, tmp_path):
    settings = {"kl_coef": 0.1, "answers_per_rollout": 32}
    straight = rollouts(make(name, model, ragged(model), **settings), 2)
    save_checkpoint(straight, tmp_path / "saved")
    again = make(name, model, ragged(model), **{**settings, "seed": 9})
    load_checkpoint(again, tmp_path / "saved")
    for algorithm in (straight, again):
        rollouts(algorithm, 2)
    for one, other in zip(straight.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert straight.num_timesteps == again.num_timesteps
    assert straight.get_state() == again.get_state()


def test_a_run_whose_rollouts_cut_answers_goes_on_with_whole_ones(model, tmp_path):
    """The answers that were under way are dropped; what is known of their beginnings, too."""
    cut = rollouts(make("PPO", model, ragged(model), n_steps=3, kl_coef=0.1), 3)
    assert cut._last_obs["completion_mask"].any()
    save_checkpoint(cut, tmp_path / "saved")
    algorithm = make("PPO", model, ragged(model), kl_coef=0.1)
    load_checkpoint(algorithm, tmp_path / "saved")
    before = algorithm.num_timesteps
    rollouts(algorithm)
    assert len(answers(algorithm)) == 16
    assert algorithm.num_timesteps - before == sum(len(answer) for _, answer in answers(algorithm))
    assert all(map(algorithm.rollout_buffer.complete, algorithm.rollout_buffer.segments()))
    prompts = {tuple(ids) for ids in algorithm.env.get_attr("tokenizer")[0](PROMPTS)["input_ids"]}
    assert {tuple(s.prefix.tolist()) for s, _ in answers(algorithm)} <= prompts
    assert algorithm.get_state()["unfinished"] == []


def test_a_saved_algorithm_is_loaded_with_its_rollouts(model, tmp_path):
    algorithm = rollouts(make("PPO", model, ragged(model), answers_per_rollout=32))
    algorithm.save(tmp_path / "saved.zip")
    loaded = type(algorithm).load(tmp_path / "saved.zip", env=ragged(model))
    assert len(answers(rollouts(loaded))) == 32


@pytest.mark.parametrize("longest", [3, 5, 7])
def test_rollouts_are_as_long_as_the_answers_of_the_environment_that_is_set(longest, model):
    """Shorter, as long and longer; what both show is as wide."""
    algorithm = make("PPO", model, small_env(model, max_new_tokens=5, max_prompt_tokens=6))
    algorithm.set_env(small_env(model, max_new_tokens=longest, max_prompt_tokens=11 - longest))
    buffer = algorithm.rollout_buffer
    assert (algorithm.n_steps, buffer.buffer_size, len(buffer.actions)) == (longest,) * 3
    rollouts(algorithm)
    assert len(buffer.segments()) == 16


@pytest.mark.parametrize("name", ["PPO", "A2C", "RLOO"])
def test_a_rollout_that_cannot_be_is_refused_in_one_sentence(name, model):
    env = ragged(model, group_size=4)
    with pytest.raises(
        ValueError, match=r"answers_per_rollout=24 must be a multiple of the 16 rows .*: pass 16$"
    ):
        make(name, model, env, answers_per_rollout=24)
    with pytest.raises(ValueError, match="n_steps=5 and answers_per_rollout=16 both say"):
        make(name, model, env, n_steps=5, answers_per_rollout=16)
    with pytest.raises(ValueError, match="answers_per_rollout=0"):
        make(name, model, env, answers_per_rollout=0)


@pytest.mark.parametrize(("given", "right"), [(1, 16), (15, 16), (17, 16), (40, 32)])
def test_the_nearest_right_number_of_answers_is_told(given, right, model):
    with pytest.raises(ValueError, match=f"={given} must be a multiple .*: pass {right}$"):
        make("PPO", model, answers_per_rollout=given)


def half(prompts, completions, **_):
    return [0.5] * len(prompts)


@pytest.mark.parametrize("chosen", [{}, {"n_steps": 8}], ids=["whole", "cut"])
@pytest.mark.parametrize("name", CRITICS)
def test_a_critic_starts_at_the_level_of_the_returns(name, chosen, model):
    """Answers of equal worth then teach nothing, however long; truncated ones neither."""
    settings = {"reward_scaling": False, "learning_rate": 0.0, **chosen}
    env = ragged(model, scorer=half, on_max_length="truncate")
    algorithm = rollouts(make(name, model, env, **settings))
    level = algorithm.policy.value_head.bias.item() * algorithm.policy.value_scale
    assert level == pytest.approx(0.5)
    places = algorithm.rollout_buffer.places(algorithm.rollout_buffer.segments())
    assert algorithm.rollout_buffer.truncated[places].any()
    np.testing.assert_allclose(algorithm.rollout_buffer.advantages[places], 0.0, atol=1e-6)
    zero = rollouts(make(name, model, env, critic_start=False, **settings))
    assert zero.policy.value_head.bias.item() == 0.0
    assert abs(zero.rollout_buffer.advantages[places]).max() > 0.1


class Bar:
    """Stands for a progress bar that is drawn."""

    def __init__(self, total):
        self.total, self.n = total, 0

    def update(self, n):
        assert n >= 0
        self.n += n

    def refresh(self):
        pass

    close = refresh


@pytest.mark.parametrize(("name", "options"), [("PPO", {}), ("PPO", {"n_steps": 4}), ("RLOO", {})])
def test_a_progress_bar_counts_tokens_and_no_rows_that_have_ended(
    name, options, model, monkeypatch
):
    bars = []
    monkeypatch.setattr(
        "stable_baselines3.common.callbacks.tqdm", lambda total: bars.append(Bar(total)) or bars[-1]
    )
    env = ragged(model, num_envs=4, group_size=2)
    algorithm = make(name, model, env, **options)
    algorithm.learn(30, progress_bar=True)
    algorithm.learn(20, progress_bar=True, reset_num_timesteps=False)
    first, second = bars
    assert (first.total, second.total) == (30, 20)
    assert first.n >= 30
    assert first.n + second.n == algorithm.num_timesteps
    algorithm.learn(1)
    assert len(bars) == 2


@pytest.mark.parametrize(("rank", "bars"), [(0, 1), (1, 0)])
def test_of_several_processes_the_first_draws_a_progress_bar(rank, bars, model, monkeypatch):
    monkeypatch.setattr(base, "world", lambda: SimpleNamespace(rank=rank))
    algorithm = make("RLOO", model, ragged(model, num_envs=4, group_size=2))
    callbacks = algorithm._init_callback(None, progress_bar=True).callbacks
    assert sum(isinstance(callback, TokenBar) for callback in callbacks) == bars

"""A trace tells what was, and training with it is training without."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch

import llm_gym
from llm_gym.files import atomic
from llm_gym.language_models.decoding import TokenTexts
from llm_gym.parallel import World
from llm_gym.runs.callbacks import TokenTrace, token_trace
from llm_gym.runs.trace import Look, decode, encode, read_look, trace_files
from tests.products import sampled
from tests.runs.test_checkpoint import assert_same, stock
from tests.tiny_runs import ROLLOUT, tiny_env, tiny_ppo
from tests.turns.test_learning import settings, turn_env


def rloo(model, **overrides):
    return llm_gym.RLOO(
        "TransformerPolicy", tiny_env(model, group_size=2), kl_coef=0.0, seed=3, device="cpu",
        learning_rate=1e-2, policy_kwargs={"model": model, **overrides},
    )  # fmt: skip


def raft(model):
    return llm_gym.ExpertIteration(
        "TransformerPolicy", tiny_env(model, group_size=2), n_steps=10, seed=3, device="cpu",
        kl_coef=0.1, policy_kwargs={"model": model},
    )  # fmt: skip


def looks(directory):
    return [read_look(path) for path in trace_files(directory)]


MAKERS = {
    "ppo": lambda model: tiny_ppo(model, n_steps=None),
    "cut": tiny_ppo,
    "separate": lambda m: tiny_ppo(m, policy_kwargs={"model": m, "separate_critic": True}),
    "sb3-ppo": stock("PPO"),
    "rloo": lambda model: rloo(model, top_k=9),
    "raft": raft,
}


@pytest.mark.parametrize("name", sampled(MAKERS, "cut", "separate", "sb3-ppo", "raft"))
def test_training_with_a_trace_is_training_without(name, tiny_dir, tmp_path):
    plain, traced = MAKERS[name](tiny_dir()), MAKERS[name](tiny_dir())
    plain.learn(3 * ROLLOUT)
    traced.learn(3 * ROLLOUT, callback=TokenTrace(tmp_path, every=1))
    assert len(trace_files(tmp_path)) >= 2
    assert_same(traced, plain)
    has_reference = getattr(traced, "reference", None) is not None
    for answer in looks(tmp_path)[0].answers:
        assert ("kl" in answer.quantities) == has_reference


class Rollouts(TokenTrace):
    """Looks at whole rollouts, and keeps what the looks are to be held against."""

    def __init__(self, directory, **options):
        super().__init__(directory, every=1, episodes=99, **options)
        self.seen = []

    def _on_rollout_end(self):
        super()._on_rollout_end()
        if self._open is None:  # not due
            return
        buffer = self.model.rollout_buffer
        chosen = self._drawn(self._open.step)
        self.seen.append((buffer.episode_batch(chosen), buffer.places(chosen), len(chosen)))
        self.columns = {n: getattr(buffer, n).copy() for n in ("log_probs", "values", "advantages")}


def of_rollout(look, name):
    answers = [each for each in look.answers if each.kind == "rollout"]
    return np.concatenate([each.quantities[name][each.by_agent] for each in answers])


def test_a_look_tells_what_ppo_learnt_from_and_what_became_of_it(tiny_dir, tmp_path):
    trace = Rollouts(tmp_path)
    algorithm = tiny_ppo(tiny_dir(), n_steps=None, learning_rate=2e-3)
    algorithm.learn(3 * 8 * 4, callback=trace)
    look = looks(tmp_path)[-1]  # the critic has begun to learn
    batch, places, _ = trace.seen[-1]
    divisor = algorithm.shaping.divisor
    columns = trace.columns
    np.testing.assert_array_equal(of_rollout(look, "log_prob"), columns["log_probs"][places])
    np.testing.assert_allclose(
        of_rollout(look, "value"), columns["values"][places] * divisor, rtol=1e-6
    )
    np.testing.assert_allclose(
        of_rollout(look, "advantage"), columns["advantages"][places] * divisor, rtol=1e-6
    )
    with torch.no_grad():
        _, after, _ = algorithm.policy.evaluate_actions(batch, batch.actions)
        reference = algorithm.reference.log_probs(batch)
    np.testing.assert_allclose(of_rollout(look, "log_prob_after"), after, atol=1e-5)
    kl = columns["log_probs"][places] - reference.numpy()
    np.testing.assert_allclose(of_rollout(look, "kl"), kl, atol=1e-5)
    ratio = np.exp(of_rollout(look, "log_prob_after") - of_rollout(look, "log_prob"))
    clipped = np.abs(ratio - 1) > 0.2
    assert 0 < clipped.mean() < 1
    np.testing.assert_array_equal(of_rollout(look, "clipped"), clipped)
    assert np.abs(of_rollout(look, "value")).min() > 0
    assert divisor not in (0, 1)
    assert 0 < look.step < look.end == algorithm.num_timesteps
    assert look.clip == (0.2, 0.2)
    assert look.kl_coef == pytest.approx(0.1, rel=0.05)
    assert look.absent == {}


def test_alternatives_and_entropies_are_those_of_the_policy_that_sampled(tiny_dir, tmp_path):
    trace = Rollouts(tmp_path)
    algorithm = rloo(tiny_dir(), top_k=9)
    before = {name: p.clone() for name, p in algorithm.policy.named_parameters()}
    algorithm.learn(1, callback=trace)
    algorithm.policy.load_state_dict(before, strict=False)
    [look] = looks(tmp_path)
    [(batch, _, _)] = trace.seen
    with torch.no_grad():
        log_probs = algorithm.policy.values_and_logits(batch)[1].log_softmax(-1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs.where(probs > 0, 0.0)).sum(-1)
    np.testing.assert_allclose(of_rollout(look, "entropy"), entropy, atol=1e-5)
    answers = [each for each in look.answers if each.kind == "rollout"]
    ids = np.concatenate([each.top_ids for each in answers])
    np.testing.assert_array_equal(ids, log_probs.topk(5).indices)
    kept = np.concatenate([each.top_log_prob for each in answers])
    np.testing.assert_allclose(kept, log_probs.topk(5).values, atol=2e-3)  # float16
    assert {int(token) for token in ids.flatten()} <= look.vocabulary.keys()
    assert look.absent.keys() == {"value", "kl", "clipped"}
    assert look.absent["value"] == "RLOO has no critic"
    assert look.clip is None


def test_rewards_scores_and_ends_are_those_of_the_environment(tiny_dir, tmp_path):
    trace = Rollouts(tmp_path)
    algorithm = tiny_ppo(tiny_dir(), n_steps=None)
    algorithm.learn(1, callback=trace)
    answers = [each for each in looks(tmp_path)[0].answers if each.kind == "rollout"]
    assert len(answers) == 4
    for answer in answers:
        assert answer.quantities["reward"].sum() == pytest.approx(answer.score)
        assert answer.score == answer.texts.count("w1")
        assert (answer.stop_reason == "eos") == (answer.texts[-1] == "<eos>")
        assert answer.stop_reason in ("eos", "length")
        assert answer.begins
        assert answer.ends


def test_probes_are_the_same_prompts_at_every_look_and_the_most_probable_answers(
    tiny_dir, tmp_path
):
    algorithm, trace = tiny_ppo(tiny_dir()), TokenTrace(tmp_path, every=1, probes=3)
    algorithm.learn(2 * ROLLOUT, callback=trace)
    trace.finish()
    found = looks(tmp_path)
    assert [look.step for look in found] == [0, ROLLOUT, 2 * ROLLOUT]
    probes = [[each for each in look.answers if each.kind == "probe"] for look in found]
    prompts = [tuple(each.prompt_ids for each in of_look) for of_look in probes]
    assert len(set(prompts)) == 1
    assert 1 < len(prompts[0]) == len(set(prompts[0])) <= 3
    for of_look in probes:
        for probe in of_look:
            np.testing.assert_array_equal(probe.top_ids[:, 0], probe.ids)
            assert probe.quantities.keys() >= {"log_prob", "entropy", "value", "kl"}
            assert "advantage" not in probe.quantities
    assert "log_prob_after" in probes[1][0].quantities
    assert "log_prob_after" not in probes[2][0].quantities
    assert found[2].absent == {"log_prob_after": "no update came after it"}


def test_what_a_world_says_is_told_apart(tiny_dir, tmp_path):
    algorithm = llm_gym.PPO(
        "TransformerPolicy", turn_env(), n_steps=24, **settings(tiny_dir, batch_size=64)
    )
    algorithm.learn(96, callback=TokenTrace(tmp_path, every=1))
    [look] = looks(tmp_path)
    answers = [each for each in look.answers if each.kind == "rollout"]
    assert any(not each.by_agent.all() for each in answers)
    for answer in answers:
        for column in answer.quantities.values():
            np.testing.assert_array_equal(np.isnan(column), ~answer.by_agent)
        np.testing.assert_array_equal(answer.top_ids[:, 0] < 0, ~answer.by_agent)
        assert len(answer.texts) == len(answer.ids)


def test_the_more_an_iteration_does_the_more_often_it_is_looked_at(tiny_dir, tmp_path):
    tiny_ppo(tiny_dir(), n_epochs=32).learn(3 * ROLLOUT, callback=TokenTrace(tmp_path))
    assert [look.step for look in looks(tmp_path)] == [0, 2 * ROLLOUT]


def test_looks_become_rare_before_the_budget_is_used(tiny_dir, tmp_path):
    algorithm, trace = (
        tiny_ppo(tiny_dir(), n_epochs=1),
        TokenTrace(tmp_path, every=1, budget=45_000),
    )
    algorithm.learn(24 * ROLLOUT, callback=trace)
    steps = [look.step for look in looks(tmp_path)]
    assert sum(path.stat().st_size for path in trace_files(tmp_path)) <= 45_000
    gaps = np.diff(steps) / ROLLOUT
    assert gaps[0] == 1
    assert gaps[-1] >= 4
    assert (np.diff(gaps) >= 0).all()


def test_a_new_run_begins_a_new_trace_and_a_full_disk_leaves_no_half_look(
    tiny_dir, tmp_path, monkeypatch
):
    tiny_ppo(tiny_dir()).learn(3 * ROLLOUT, callback=TokenTrace(tmp_path, every=1))
    assert len(trace_files(tmp_path)) == 3
    with monkeypatch.context() as patch:

        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as raised:
            tiny_ppo(tiny_dir()).learn(ROLLOUT, callback=TokenTrace(tmp_path, every=1))
    assert raised.value.filename.endswith("look-000000000000.safetensors")
    assert list((tmp_path / "trace").iterdir()) == []


def test_only_the_first_process_looks(tiny_dir, tmp_path, monkeypatch):
    second = World()
    second.rank = 1
    monkeypatch.setattr(token_trace, "world", lambda: second)
    trace = TokenTrace(tmp_path, every=1)
    tiny_ppo(tiny_dir()).learn(ROLLOUT, callback=trace)
    trace.finish()
    assert list(tmp_path.iterdir()) == []


def test_what_it_cannot_look_at_is_said(tmp_path):
    model = sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)
    with pytest.raises(
        ValueError, match="TokenTrace looks at answers of a language model, and PPO"
    ):
        model.learn(8, callback=TokenTrace(tmp_path))
    with pytest.raises(ValueError, match="probes=-1 must be a whole number"):
        TokenTrace(tmp_path, probes=-1)


def test_damaged_looks_are_said_in_one_sentence():
    content = encode(Look(step=3, end=5, algorithm="PPO", answers=()))
    assert decode(content, "x").end == 5
    for damaged in (content[:40], b"", content[:-1], content.replace(b"trace 1", b"trace 9")):
        with pytest.raises(ValueError, match=r"^x (is|has) "):
            decode(damaged, "x")
    with pytest.raises(ValueError, match=r"x is damaged: end must be"):
        decode(content.replace(b'end\\": 5', b'end\\":-5'), "x")


def test_texts_of_tokens_make_the_text_and_characters_stay_whole():
    from llm_gym.language_models.loading import load_tokenizer

    tokenizer = load_tokenizer("llm_gym/email-sft")
    text = "Grüße, 你好 🙂!"
    ids = tokenizer.encode(text)
    texts = TokenTexts(tokenizer).of_answer(tokenizer.encode("Hi"), ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == text
    assert "" in texts
    cut = TokenTexts(tokenizer).of_answer([5], tokenizer.encode("🙂")[:-1])
    assert "".join(cut) == "\ufffd"

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from llm_gym.runs.evaluation import Evaluation, evaluate, perplexity_under, sequence_kl
from llm_gym.testing.tiny import tiny_model
from llm_gym.text.answer import Answer
from tests.tiny_runs import PROMPTS, ROLLOUT, count_w1, tiny_ppo


def task(model, **overrides):
    return {
        "tokenizer": model,
        "prompts": PROMPTS,
        "scorer": lambda prompts, completions: [float(len(c.split())) for c in completions],
        "max_new_tokens": 6,
        **overrides,
    }


@pytest.mark.parametrize("num_envs", [1, 2, 5, 8])
def test_every_prompt_is_answered_exactly_once_whatever_the_batch(num_envs, tiny_dir):
    evaluation = evaluate(tiny_dir(), task(tiny_dir()), num_envs=num_envs)
    assert [row.prompt for row in evaluation.rows] == PROMPTS
    assert [row.prompt_index for row in evaluation.rows] == list(range(len(PROMPTS)))
    for row in evaluation.rows:
        assert row.score == len(row.completion.split())
        assert len(row.prompt_ids) == len(row.prompt.split())
        assert 1 <= len(row.completion_ids) <= 6
        ended = row.completion_ids[-1] == 1
        assert row.stop_reason == ("eos" if ended else "length")


def test_only_who_asks_is_told_that_it_goes_on(tiny_dir, capsys):
    evaluate(tiny_dir(), task(tiny_dir()), max_prompts=2)
    assert capsys.readouterr().err == ""
    evaluate(tiny_dir(), task(tiny_dir()), max_prompts=2, progress_bar=True)
    assert capsys.readouterr() == ("", "evaluating: 2 prompts\n")


def test_greedy_answers_do_not_depend_on_the_batch(tiny_dir):
    """Rows that wait for the last answer, and their neighbours, change nothing."""
    results = [
        evaluate(tiny_dir(), task(tiny_dir()), num_envs=n, deterministic=True).rows
        for n in (1, 3, 5)
    ]
    assert results[0] == results[1] == results[2]


def test_summary_is_that_of_the_rows(tiny_dir):
    evaluation = evaluate(tiny_dir(), task(tiny_dir()), seed=1)
    scores = [row.score for row in evaluation.rows]
    assert evaluation.mean_score == pytest.approx(np.mean(scores))
    assert evaluation.low <= evaluation.mean_score <= evaluation.high
    assert evaluation.mean_length == pytest.approx(
        np.mean([len(r.completion_ids) for r in evaluation.rows])
    )
    assert evaluation.share_ended == np.mean([r.stop_reason == "eos" for r in evaluation.rows])


def test_same_seed_same_answers_and_other_seed_others(tiny_dir):
    first, again, different = (
        evaluate(tiny_dir(), task(tiny_dir()), seed=s).rows for s in (1, 1, 2)
    )
    assert first == again
    assert first != different


def test_a_policy_in_training_is_left_as_it_was(tiny_dir):
    plain, watched = tiny_ppo(tiny_dir()), tiny_ppo(tiny_dir())
    for algorithm in (plain, watched):
        algorithm.learn(ROLLOUT)
    evaluate(watched, task(tiny_dir()))
    for algorithm in (plain, watched):
        algorithm.learn(ROLLOUT, reset_num_timesteps=False)
    for name, value in plain.policy.state_dict().items():
        assert torch.equal(value, watched.policy.state_dict()[name]), name


def test_only_the_first_prompts_and_registered_ids(tiny_dir):
    env = "llm_gym/TextGeneration-v0"
    evaluation = evaluate(tiny_dir(), env, env_kwargs=task(tiny_dir()), max_prompts=2)
    assert [row.prompt for row in evaluation.rows] == PROMPTS[:2]


def test_unscored_answers_count_with_their_penalty(tiny_dir):
    env = task(tiny_dir(), on_max_length="penalise", missing_eos_penalty=-7.0, eos_token_id=())
    evaluation = evaluate(tiny_dir(), env)
    assert {row.score for row in evaluation.rows} == {-7.0}
    assert evaluation.share_ended == 0.0


def test_json_form_holds_everything_but_ids(tiny_dir):
    evaluation = evaluate(tiny_dir(), task(tiny_dir()))
    written = json.loads(json.dumps(evaluation.to_dict()))
    assert written["prompts"] == len(PROMPTS)
    assert written["rows"][0]["prompt"] == PROMPTS[0]
    assert written["rows"][0]["tokens"] == len(evaluation.rows[0].completion_ids)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: evaluate(m, task(m, prompts=iter(PROMPTS), max_prompt_tokens=4)), "stream"),
        (
            lambda m: evaluate(m, task(m), num_envs=0),
            "num_envs=.* must be a .*number of at least 1",
        ),
        (
            lambda m: evaluate(m, task(m), max_prompts=0),
            "max_prompts=.* must be a .*number of at least 1",
        ),
        (lambda m: evaluate(m, "CartPole-v1"), "no text environment"),
        (
            lambda m: evaluate(tiny_ppo(m), task(m), policy_kwargs={"temperature": 2.0}),
            "cannot change a policy",
        ),
    ],
)
def test_bad_arguments(call, message, tiny_dir):
    with pytest.raises(ValueError, match=message):
        call(tiny_dir())


def test_what_has_no_name_is_refused_with_what_to_pass(tiny_dir):
    with pytest.raises(ValueError, match=r"has no name, .* save it with save_pretrained"):
        evaluate(tiny_model(), task(tiny_dir()))
    with pytest.raises(TypeError, match="model must be a name, a path"):
        evaluate(None, task(tiny_dir()))


def test_evaluation_of_one_row_has_no_width():
    evaluation = Evaluation.of(
        [Answer(score=0.0, stop_reason="eos", prompt_ids=(4,), completion_ids=(5, 1))]
    )
    assert (evaluation.low, evaluation.mean_score, evaluation.high) == (0.0, 0.0, 0.0)
    assert evaluation.mean_length == 2.0
    assert evaluation.share_ended == 1.0


def test_scorer_sees_the_same_text_as_the_rows(tiny_dir):
    seen = []

    def scorer(prompts, completions):
        seen.extend(zip(prompts, completions, strict=True))
        return count_w1(prompts, completions)

    evaluation = evaluate(tiny_dir(), task(tiny_dir(), scorer=scorer), num_envs=5)
    assert {(row.prompt, row.completion) for row in evaluation.rows} <= set(seen)


# ------------------------------------------------------------------ against a reference

ANSWERS = [
    Answer(prompt_ids=(4, 5), completion_ids=(6, 7, 1)),
    Answer(prompt_ids=(8,), completion_ids=(9,)),
    Answer(prompt_ids=(3, 4, 5, 6), completion_ids=(7, 8)),
]


def next_log_probs(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_perplexity_equals_a_loop_over_prefixes(architecture):
    model = tiny_model(architecture)
    total, count = 0.0, 0
    for answer in ANSWERS:
        ids = list(answer.prompt_ids)
        for token in answer.completion_ids:
            total += next_log_probs(model, ids)[token].item()
            count += 1
            ids.append(token)
    expected = math.exp(-total / count)
    for batch_size in (1, 2, 8):
        assert perplexity_under(model, ANSWERS, batch_size=batch_size) == pytest.approx(expected)


def test_kl_equals_a_loop_over_prefixes_and_is_zero_of_itself():
    model, reference = tiny_model(seed=0), tiny_model(seed=1)
    total = 0.0
    for answer in ANSWERS:
        ids = list(answer.prompt_ids)
        for token in answer.completion_ids:
            p, q = (
                (next_log_probs(m, ids) / 0.7).log_softmax(-1).exp() for m in (model, reference)
            )
            total += (p * (p / q).log()).sum().item()
            ids.append(token)
    divergence = sequence_kl(model, reference, ANSWERS, temperature=0.7, batch_size=2)
    assert divergence == pytest.approx(total / len(ANSWERS), rel=1e-5)
    assert sequence_kl(model, model, ANSWERS) == 0.0


def test_exact_kl_has_the_mean_of_the_sampled_log_ratio(tiny_dir):
    """KL per sequence agrees with what PPO logs: the mean log-ratio of sampled tokens."""
    model, reference = tiny_model(seed=0), tiny_model(seed=1)
    task = {"tokenizer": tiny_dir(), "prompts": ["w1"] * 200, "scorer": count_w1}
    answers = evaluate(tiny_dir(), {**task, "max_new_tokens": 6}, num_envs=100).rows
    exact = sequence_kl(model, reference, answers)
    ratio = [
        math.log(perplexity_under(m, [answer])) * len(answer.completion_ids)
        for answer in answers
        for m in (reference, model)
    ]
    sampled = np.array(ratio[::2]) - np.array(ratio[1::2])
    assert exact == pytest.approx(sampled.mean(), abs=4 * sampled.std() / math.sqrt(len(answers)))


def test_no_answers_is_an_error():
    with pytest.raises(ValueError, match="answers is empty"):
        perplexity_under(tiny_model(), [])

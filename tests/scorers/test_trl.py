"""TRL's reward functions run as they are, and every scorer of ours is one.

The functions in this file are written after TRL's documented signatures and run everywhere; the
last tests hold TRL's own functions and trainers against the library, where TRL is installed.
"""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

import llm_gym
from llm_gym.feedback.diagnostics.gold_proxy import GoldProxy
from llm_gym.scorers import (
    Clip,
    KeywordScorer,
    LengthScorer,
    RegexScorer,
    Scale,
    ScorerError,
    ScorerSignatureError,
    WeightedSum,
    as_scorer,
)
from llm_gym.scorers.texts import SourcedText
from tests.products import sampled
from tests.text.helpers import EOS, arguments, word

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2 ="}]
REPLY = [{"role": "assistant", "content": "It is 4."}]


def think_format(completions, **kwargs):
    """As `think_format_reward`: reads messages."""
    contents = [completion[0]["content"] for completion in completions]
    return [float(bool(re.match(r"^<think>.*</think>", text))) for text in contents]


def accuracy(completions, solution, log_extra=None, **kwargs):
    """As `accuracy_reward`: messages, a column, None for a row that it cannot judge."""
    contents = [completion[0]["content"] for completion in completions]
    if log_extra is not None:
        log_extra("solution", list(solution))
    return [
        None if right is None else float(right in text)
        for text, right in zip(contents, solution, strict=True)
    ]


class Overlong:
    """As `get_soft_overlong_punishment(...)`: nothing but token ids."""

    __name__ = "overlong"

    def __call__(self, completion_ids, **kwargs):
        return [-float(len(ids)) for ids in completion_ids]


def cosine(completions, solution, completion_ids, **kwargs):
    """As `get_cosine_scaled_reward(...)`: all three."""
    right = accuracy(completions, solution)
    return [
        None if value is None else value / len(ids)
        for value, ids in zip(right, completion_ids, strict=True)
    ]


def annealed(completions, trainer_state, **kwargs):
    return [float(trainer_state.global_step)] * len(completions)


def math_only(completions, task, **kwargs):
    return [1.0 if name == "math" else None for name in task]


def code_only(completions, task, **kwargs):
    return [2.0 if name == "code" else None for name in task]


ANSWER = (word(1), word(2), EOS)


def play(scorer, prompt="w4", tokens=ANSWER, **columns):
    env = llm_gym.TextGenerationEnv(
        **arguments(scorer=scorer, prompts=[{"prompt": prompt, **columns}])
    )
    env.reset(seed=0)
    return [env.step(token) for token in tokens][-1]


def test_messages_in_where_the_prompt_is_made_of_them():
    assert as_scorer(think_format)([QUESTION], [REPLY]) == [0.0]
    thought = "<think>two twos</think>4"
    assert as_scorer(think_format)([QUESTION], [thought]) == [1.0]  # as an environment has it
    seen = []
    as_scorer(lambda prompts, completions, **kwargs: seen.append((prompts, completions)) or [0.0])(
        [QUESTION], ["4"]
    )
    assert seen == [([QUESTION], [[{"role": "assistant", "content": "4"}]])]


def test_an_environment_passes_messages_on_where_its_prompt_has_them():
    """A prompt that came as messages is a text with an attribute `messages`."""
    seen = []

    def reward(prompts, completions, **kwargs):
        seen.append((prompts, completions))
        return [1.0]

    assert play(reward, prompt=SourcedText("w4", QUESTION))[1] == 1.0
    assert seen == [([QUESTION], [[{"role": "assistant", "content": "w1 w2"}]])]


def test_texts_in_where_the_prompt_is_a_text():
    seen = []
    as_scorer(lambda prompts, completions: seen.extend([prompts, completions]) or [0.0])(
        ["p"], ["c"]
    )
    assert seen == [["p"], ["c"]]
    assert {type(text) for batch in seen for text in batch} == {str}


def test_rows_of_both_kinds_may_stand_in_one_batch():
    seen = []
    as_scorer(lambda completions: seen.extend(completions) or [0.0, 0.0])(
        ["p", QUESTION], ["c", "d"]
    )
    assert seen == ["c", [{"role": "assistant", "content": "d"}]]


def test_a_function_called_by_position_gets_texts_always():
    """Its names are not TRL's, so it is not one of TRL's."""
    seen = []
    as_scorer(lambda p, c: seen.append((p, c)) or [0.0])([QUESTION], [REPLY])
    assert seen == [(["2 + 2 ="], ["It is 4."])]


def test_all_that_a_trainer_said_of_a_message_arrives():
    reply = [{"role": "assistant", "content": "4", "reasoning_content": "twos"}]
    seen = []
    total = WeightedSum({"a": (lambda completions: seen.extend(completions) or [0.0], 1.0)})
    assert total([QUESTION], [reply]) == [0.0]
    assert seen == [reply]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ([{"role": "assistant", "content": None}], ""),
        ([{"content": "no role"}], "no role"),
        (
            [{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}],
            "a",
        ),
        (
            [
                {"role": "assistant", "content": "I look."},
                {"role": "tool", "content": "42"},
                {"role": "assistant", "content": "It is 42."},
            ],
            "I look.\nIt is 42.",
        ),
    ],
)
def test_what_the_assistant_said_is_the_text(reply, text):
    assert as_scorer(lambda p, c: [float(c == [text])])([QUESTION], [reply]) == [1.0]


@pytest.mark.parametrize(
    ("prompt", "completion", "message"),
    [
        (3, "c", r"prompts\[0\] must be a str or a list of messages .*, got int"),
        ([], "c", r"prompts\[0\] must be a str or a list of messages"),
        ("p", None, r"completions\[0\] must be .*, got NoneType"),
        ("p", ["text"], r"completions\[0\] must be .*, got list"),
        ("p", [{"role": "assistant"}], r"completions\[0\] must be"),
        ("p", [{"content": 3}], r"completions\[0\]: the content of a message must be"),
    ],
)
def test_what_is_neither_text_nor_messages_is_named(prompt, completion, message):
    with pytest.raises(TypeError, match=message):
        LengthScorer(3)([prompt], [completion])


def test_completion_ids_are_the_actions_that_were_taken():
    seen = []

    def reward(completions, completion_ids, **kwargs):
        seen.extend(completion_ids)
        return [1.0] * len(completions)

    play(reward)
    assert seen == [[word(1), word(2), EOS]]
    assert play(Overlong())[1] == -3.0
    assert play(lambda *, completion_ids: [float(len(i)) for i in completion_ids])[1] == 3.0
    assert play(lambda completion_ids, prompts: [float(len(completion_ids[0]))])[1] == 3.0
    assert play(lambda p, c, completion_ids: [float(completion_ids[0][0])])[1] == word(1)
    assert play(lambda **kwargs: [float(len(kwargs["completion_ids"][0]))])[1] == 3.0


@pytest.mark.parametrize(
    "compose",
    [
        lambda f: WeightedSum({"ids": (f, 1.0)}),
        lambda f: Clip(Scale(f, 1.0), -100, 100),
        lambda f: GoldProxy(f, f),
        lambda f: as_scorer(f, name="other"),
    ],
)
def test_completion_ids_reach_every_depth_of_a_composition(compose):
    assert play(compose(Overlong()))[1] == -3.0


def test_completion_ids_that_nobody_knows_are_asked_for():
    with pytest.raises(ScorerSignatureError, match="requires 'completion_ids', the token ids"):
        as_scorer(Overlong())(["p"], ["c"])
    assert as_scorer(Overlong())(["p"], ["c"], completion_ids=[[1, 2]]) == [-2.0]
    with pytest.raises(ValueError, match="1 completions and 2 completion_ids"):
        as_scorer(Overlong())(["p"], ["c"], completion_ids=[[1], [2]])


def test_trainer_state_says_how_many_tokens_there_were():
    assert play(annealed)[1] == 3.0
    assert as_scorer(lambda completions, trainer_state: [float(trainer_state is None)])(
        ["p"], ["c"]
    ) == [1.0]
    assert play(lambda **kwargs: [float(kwargs["trainer_state"].global_step)])[1] == 3.0
    vector = llm_gym.TextGenerationVectorEnv(**arguments(scorer=annealed), num_envs=4)
    vector.reset(seed=0)
    vector.step(np.full(4, word(1)))
    assert vector.step(np.full(4, EOS))[1].tolist() == [8.0] * 4


def test_a_restored_environment_goes_on_counting():
    first, second = (llm_gym.TextGenerationEnv(**arguments(scorer=annealed)) for _ in range(2))
    first.reset(seed=0)
    first.step(word(1))
    second.set_state(first.get_state())
    assert second.step(EOS)[1] == first.step(EOS)[1] == 2.0


def test_what_is_logged_goes_nowhere_and_hurts_nobody():
    def reward(completions, log_extra, log_metric, **kwargs):
        log_extra("length", [len(c) for c in completions])
        log_metric("mean", 1.0)
        return [1.0] * len(completions)

    assert play(reward)[1] == 1.0
    assert as_scorer(reward)(["p"], ["c"]) == [1.0]


def test_a_function_with_columns_gets_the_columns_alone():
    """`**columns` is this library's own protocol: B values each, whatever the caller passes."""
    seen = []

    def scorer(prompts, completions, **columns):
        seen.append(columns)
        return [0.0]

    play(scorer, answer="4")
    as_scorer(scorer)(["p"], ["c"], completion_ids=[[1]], trainer_state=object(), answer=["4"])
    assert seen == [{"answer": ["4"]}] * 2


def test_columns_with_a_name_of_trls_are_left_out_with_a_warning():
    with pytest.warns(UserWarning, match=r"columns \['completion_ids', 'trainer_state'\] do not"):
        assert play(Overlong(), completion_ids=[7] * 9, trainer_state="x")[1] == -3.0


def test_none_is_not_counted_where_others_score():
    total = WeightedSum({"math": (math_only, 10.0), "code": (code_only, 1.0)})
    scores = total.score(["p"] * 2, ["c"] * 2, {"task": ["math", "code"]})
    assert scores.values.tolist() == [10.0, 2.0]
    assert np.isnan(scores.parts["math"]).tolist() == [False, True]
    *_, info = play(total, task="code")
    assert info["score"] == 2.0
    assert info["score_parts"] == {"code": 2.0}


@pytest.mark.parametrize(
    "part", [lambda f: Clip(f, 0, 1), lambda f: Scale(f, 3.0), lambda f: GoldProxy(f, code_only)]
)
def test_none_passes_through_whatever_wraps_it(part):
    total = WeightedSum({"math": (part(math_only), 1.0), "code": (code_only, 1.0)})
    assert total(["p"], ["c"], task=["code"]) == [2.0]
    assert play(total, task="code")[1] == 2.0


@pytest.mark.parametrize(
    "scorer",
    [
        math_only,
        WeightedSum({"math": (math_only, 1.0), "again": (Clip(math_only, 0, 1), 1.0)}),
        WeightedSum({"math": (math_only, 1.0), "held_out": (code_only, 0.0)}),
    ],
)
def test_a_row_that_nobody_scores_is_an_error_that_names_it(scorer):
    with pytest.raises(
        ScorerError, match=r"returned None .*row 1 of 2: prompt 'q', completion 'd'"
    ):
        as_scorer(scorer).score(["p", "q"], ["c", "d"], {"task": ["math", "code"]})
    with pytest.raises(ScorerError, match="no other scorer judges it"):
        play(scorer, task="code")


def test_nan_is_not_none():
    for nan in (float("nan"), np.float64("nan")):
        total = WeightedSum({"a": (lambda p, c, nan=nan: [nan], 1.0), "b": ("length:2", 1.0)})
        with pytest.raises(ScorerError, match="nan, which is not finite"):
            total(["p"], ["c"])
    a, b = (lambda p, c: [3e38], 1e300), (lambda p, c: [3e38], -1e300)
    endless = WeightedSum({"a": a, "b": b})
    with pytest.raises(ScorerError, match="not finite"):
        endless(["p"], ["c"])


OURS = {
    "length": LengthScorer(3),
    "regex": RegexScorer("4"),
    "keywords": KeywordScorer({"it": 1.0}),
    "politeness": llm_gym.PolitenessScorer(),
    "function": as_scorer(lambda p, c: [float(len(text)) for text in c]),
    "sum": WeightedSum({"a": ("length:3", 1.0), "b": (accuracy, 1.0)}),
    "clip": Clip("length:3", 0, 1),
    "scale": Scale(LengthScorer(3), 2.0),
    "gold": GoldProxy("length:3", "regex:4"),
}


@pytest.mark.parametrize("scorer", OURS.values(), ids=OURS)
def test_ours_are_reward_functions_of_trls(scorer):
    """Called as `GRPOTrainer._calculate_rewards` calls, conversational or not: the same scores."""
    logged = []
    beside = {
        "completion_ids": [[1, 2, 3]] * 2,
        "trainer_state": object(),
        "log_extra": lambda column, values: logged.append(column),
        "log_metric": lambda name, value: None,
        "solution": ["4", "5"],
    }
    talked = scorer(
        prompts=[QUESTION] * 2,
        completions=[REPLY, [{"role": "assistant", "content": "Five is 5."}]],
        **beside,
    )
    if scorer.name != "weighted_sum":  # which holds a function that reads messages
        plain = scorer(prompts=["2 + 2 ="] * 2, completions=["It is 4.", "Five is 5."], **beside)
        assert talked == plain
    assert all(type(value) is float for value in talked)
    assert scorer.__name__ == scorer.name
    assert logged == (["solution"] if scorer.name == "weighted_sum" else [])


def test_a_wrapped_function_may_still_return_none_to_trls_trainer():
    scorer = as_scorer(math_only)
    called = {"completion_ids": [[1]] * 2, "trainer_state": object(), "task": ["math", "code"]}
    assert scorer(prompts=["p"] * 2, completions=["c"] * 2, **called) == [1.0, None]


def test_a_text_keeps_its_source_wherever_it_goes():
    text = SourcedText("4", REPLY, [1, 2])
    for again in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert (again, again.messages, again.token_ids) == ("4", REPLY, [1, 2])


class TestTRL:
    """TRL 1.16's own functions and trainer."""

    @pytest.fixture(autouse=True)
    def trl(self):
        return pytest.importorskip("trl")

    @pytest.fixture
    def rewards(self):
        from trl import rewards

        return rewards

    def scores(self, function, text, ids=5, **columns):
        return as_scorer(function).score(
            [QUESTION], [SourcedText(text, token_ids=list(range(ids)))], columns
        )

    def test_think_format(self, rewards):
        think = rewards.think_format_reward
        assert self.scores(think, "<think>\nx\n</think>\n4").values.tolist() == [1.0]
        assert self.scores(think, "4").values.tolist() == [0.0]

    def test_those_of_token_ids(self, rewards):
        overlong = rewards.get_soft_overlong_punishment(max_completion_len=4, soft_punish_cache=2)
        assert play(overlong)[1] == -0.5  # 3 tokens: one into a cache of 2
        repetition = rewards.get_repetition_penalty_reward(ngram_size=1, max_penalty=-1.0)
        assert play(repetition, tokens=[word(1)] * 3 + [EOS])[1] == -0.5

    def test_those_of_mathematics(self, rewards):
        pytest.importorskip("math_verify")
        for name in ("accuracy_reward", "reasoning_accuracy_reward"):
            function = getattr(rewards, name)
            right = "<think>2</think> It is \\boxed{4}"
            assert self.scores(function, right, solution=["$4$"]).values.tolist() == [1.0]
            assert self.scores(function, "</think> \\boxed{5}", solution=["$4$"]).values == 0.0
        cosine_reward = rewards.get_cosine_scaled_reward(max_len=10)
        assert self.scores(cosine_reward, "\\boxed{4}", solution=["$4$"]).values == pytest.approx(
            0.75
        )
        with pytest.raises(ScorerError, match="no other scorer judges it"):
            self.scores(rewards.accuracy_reward, "\\boxed{4}", solution=["nothing to parse"])
        total = WeightedSum({"right": (rewards.accuracy_reward, 1.0), "brief": ("length:2", 1.0)})
        scores = total.score([QUESTION], ["a b"], {"solution": ["nothing to parse"]})
        assert scores.values.tolist() == [1.0]

    @pytest.mark.slow
    @pytest.mark.parametrize("conversational", sampled([False, True], True))
    def test_ours_train_in_grpo(self, conversational, tmp_path):
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        from llm_gym.testing.tiny import tiny_model, tiny_tokenizer

        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        turn = [{"role": "user", "content": "w1 w2"}]
        rows = [{"prompt": turn if conversational else "w1 w2", "solution": "4"}] * 4
        scorers = [scorer for name, scorer in OURS.items() if conversational or name != "sum"]
        trainer = GRPOTrainer(
            model=tiny_model(),
            reward_funcs=scorers,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(
                output_dir=str(tmp_path),
                max_steps=1,
                per_device_train_batch_size=2,
                num_generations=2,
                max_completion_length=4,
                report_to=[],
                use_cpu=True,
                bf16=False,
            ),
        )
        trainer.train()
        logged = trainer.state.log_history[0]
        for scorer in scorers:
            assert np.isfinite(logged[f"rewards/{scorer.name}/mean"])

from __future__ import annotations

import itertools
import json

import pytest

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from tests.text.helpers import PROMPTS, Recorder, arguments, word


def walk(env, length, **reset):
    """The prompt indices of the next episodes."""
    indices = [env.reset(**reset)[1]["prompt_index"]]
    return indices + [env.reset()[1]["prompt_index"] for _ in range(length - 1)]


def test_shuffled_order_visits_every_prompt_once_a_pass():
    env = TextGenerationEnv(**arguments())
    indices = walk(env, 3 * len(PROMPTS), seed=0)
    passes = [indices[i : i + 5] for i in (0, 5, 10)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in passes)
    assert len({tuple(order) for order in passes}) == 3


def test_seed_starts_the_walk_anew():
    env = TextGenerationEnv(**arguments())
    walks = [walk(env, 7, seed=seed) for seed in (3, 4, 3)]
    assert walks[0] == walks[2] != walks[1]


def test_shard_takes_every_nth_prompt():
    shares = []
    for index in range(2):
        env = TextGenerationEnv(**arguments(shard=(index, 2), prompt_order="sequential"))
        shares.append(walk(env, 4))
    assert shares == [[0, 2, 4, 0], [1, 3, 1, 3]]
    env = TextGenerationEnv(**arguments(shard=(1, 2)))
    assert set(walk(env, 10, seed=0)) == {1, 3}


def test_text_file_has_one_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffw1 w2\r\n\r\nw3\n  \n".encode())
    env = TextGenerationEnv(**arguments(prompts=str(file), prompt_order="sequential"))
    assert [env.reset()[1]["prompt"] for _ in range(3)] == ["w1 w2", "w3", "w1 w2"]


def test_json_lines_have_columns_for_the_scorer(tmp_path):
    scorer = Recorder()
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "w1\u2028", "answer": 4}, {"prompt": "w2", "answer": 5}]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    env = TextGenerationEnv(**arguments(prompts=file, prompt_order="sequential", scorer=scorer))
    for _ in rows:
        env.reset()
        env.step(1)
    assert [batch[2] for batch in scorer.batches] == [{"answer": [4]}, {"answer": [5]}]


def test_malformed_json_line_is_named(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "w1"}\n\n{"prompt": \n')
    with pytest.raises(ValueError, match=r"prompts\.jsonl, line 3: not JSON"):
        TextGenerationEnv(**arguments(prompts=file))


def test_json_line_without_a_prompt_is_named(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "w1"}\n{"text": "w2"}\n')
    with pytest.raises(ValueError, match=r"line 2: has no \"prompt\" key, only \['text'\]"):
        TextGenerationEnv(**arguments(prompts=file))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt.*no such file"):
        TextGenerationEnv(**arguments(prompts=tmp_path / "nothing.txt"))


def test_empty_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n\n")
    with pytest.raises(ValueError, match="is empty: there is nothing to read"):
        TextGenerationEnv(**arguments(prompts=file))


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        ([], ValueError, "prompts is empty"),
        (["w1", ""], ValueError, r"prompts\[1\]: the prompt is empty"),
        (["w1", "  "], ValueError, r"prompts\[1\] is empty: the tokenizer made no tokens"),
        ([{"prompt": ""}], ValueError, r"prompts\[0\]: the prompt is empty"),
        ([["w1"]], TypeError, r"prompts\[0\]: the prompt must be a str, got list"),
        ([{"question": "w1"}], ValueError, 'no "prompt" key'),
        ("w1 w2", ValueError, "for a single text pass a list"),
        ({"prompt": "w1"}, TypeError, "got dict"),
        (7, TypeError, "got int"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_bad_prompts(prompts, error, message):
    with pytest.raises(error, match=message):
        TextGenerationEnv(**arguments(prompts=prompts))


def test_prompt_longer_than_the_limit_is_named_with_its_length():
    with pytest.raises(ValueError, match=r"prompts\[2\] has 3 tokens.*max_prompt_tokens=2"):
        TextGenerationEnv(**arguments(max_prompt_tokens=2))


def test_truncation_keeps_the_last_tokens():
    env = TextGenerationEnv(**arguments(max_prompt_tokens=2, too_long="truncate"))
    observation, info = env.reset(options={"prompt_index": 3})
    assert info["prompt"] == "w7 w8 w9 w10"
    assert observation["input_ids"][:2].tolist() == [word(9), word(10)]
    assert observation["input_ids"].shape == (7,)


def test_what_is_left_out_or_cut_is_said_once_by_its_place(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    message = r"2 of 5 prompts are too long and are left out \(.*prompts\.txt, line 3 has 3 tokens"
    with pytest.warns(UserWarning, match=message) as told:
        env = TextGenerationEnv(**arguments(prompts=file, max_prompt_tokens=2, too_long="drop"))
    assert len(told) == 1
    assert env.num_prompts == 3
    prompts = {env.reset()[1]["prompt"] for _ in range(3)}
    assert prompts == {"w1 w2", "w3", "w2 w1"}
    with pytest.raises(ValueError, match=r"options\['prompt'\] has 3 tokens"):  # nothing to drop
        env.reset(options={"prompt": "w1 w2 w3"})
    with pytest.raises(ValueError, match="all 5 prompts are too long"):
        TextGenerationEnv(**arguments(prompts=["w1 w2"] * 5, max_prompt_tokens=1, too_long="drop"))


def test_prompts_leave_room_for_an_answer_in_the_models_context():
    kwargs = arguments(max_new_tokens=5, context_length=7)
    message = (
        r"prompts\[2\] has 3 tokens, more than the 2 that the model's context of 7 leaves beside"
    )
    with pytest.raises(ValueError, match=message):
        TextGenerationEnv(**kwargs)
    env = TextGenerationEnv(**{**kwargs, "too_long": "drop"})
    assert env.observation_space["input_ids"].shape == (7,)
    env = TextGenerationEnv(**{**kwargs, "context_length": 64})
    assert env.observation_space["input_ids"].shape == (9,)  # the longest prompt, as without
    env = TextGenerationEnv(**{**kwargs, "max_prompt_tokens": 40, "too_long": "truncate"})
    assert env.observation_space["input_ids"].shape == (7,)
    with pytest.raises(ValueError, match=r"max_new_tokens=5 leaves no room .*context_length=5"):
        TextGenerationEnv(**{**kwargs, "context_length": 5})


def test_a_stream_goes_on_behind_what_it_cannot_take():
    items = [{"question": "w1"}, {"prompt": "w1 w2 w3"}, {"prompt": "w2"}, {"prompt": "w3"}]
    options = {"max_prompt_tokens": 2, "too_long": "drop", "bad_rows": "skip"}
    env = TextGenerationEnv(**arguments(prompts=iter(items), **options))
    with pytest.warns(
        UserWarning, match="left out, as others will be like it: prompt 0 of the str"
    ):
        _, info = env.reset()
    assert (info["prompt"], info["prompt_index"]) == ("w2", 2)
    assert env.reset()[1]["prompt_index"] == 3
    for lacking, message in (
        ("bad_rows", "prompt 0 .*no .prompt. key"),
        ("too_long", "prompt 1 .*3"),
    ):
        part = {name: value for name, value in options.items() if name != lacking}
        env = TextGenerationEnv(**arguments(prompts=iter(items), **part))
        with pytest.raises(ValueError, match=message):
            env.reset()


def test_limit_may_be_longer_than_all_prompts():
    env = TextGenerationEnv(**arguments(max_prompt_tokens=9))
    assert env.reset(options={"prompt": "w1 " * 9})[0]["attention_mask"].sum() == 9


def test_template_that_asks_for_a_missing_column():
    with pytest.raises(ValueError, match=r"prompt_template='\{topic\}'.*prompts\[0\].*'prompt'"):
        TextGenerationEnv(**arguments(prompt_template="{topic}"))


def test_braces_in_a_prompt_are_text():
    env = TextGenerationEnv(**arguments(prompts=["{w1} {"]))
    assert env.reset()[1]["prompt"] == "{w1} {"


def test_prompt_ids_must_be_in_the_vocabulary():
    with pytest.raises(ValueError, match=r"encoding of prompts\[3\] contains 10.*vocab_size"):
        TextGenerationEnv(**arguments(vocab_size=10))


def test_stream_is_pulled_once_a_reset():
    stream = (f"w{n}" for n in itertools.count())
    env = TextGenerationEnv(**arguments(prompts=stream, max_prompt_tokens=1))
    infos = [env.reset(seed=0)[1] for _ in range(3)]
    assert infos == [{"prompt": f"w{n}", "prompt_index": n} for n in range(3)]
    assert next(stream) == "w3"


def test_exhausted_stream_is_an_error():
    env = TextGenerationEnv(**arguments(prompts=iter(["w1"]), max_prompt_tokens=1))
    env.reset()
    with pytest.raises(ValueError, match="ended after 1 prompts"):
        env.reset()


def test_stream_needs_a_length_limit():
    with pytest.raises(ValueError, match="pass max_prompt_tokens="):
        TextGenerationEnv(**arguments(prompts=iter(["w1"])))


def test_stream_has_no_indices():
    env = TextGenerationEnv(**arguments(prompts=iter(["w1"]), max_prompt_tokens=1))
    with pytest.raises(ValueError, match="prompts is a stream"):
        env.reset(options={"prompt_index": 0})


def test_bad_prompt_of_a_stream_is_numbered():
    env = TextGenerationEnv(**arguments(prompts=iter(["w1", "w1 w2"]), max_prompt_tokens=1))
    env.reset()
    with pytest.raises(ValueError, match="prompt 1 of the stream has 2 tokens"):
        env.reset()


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_there_is_a_cursor_for_each_row(is_stream, group_size):
    stream = ({"prompt": f"w{n % 20}"} for n in itertools.count())
    source = {"prompts": stream, "max_prompt_tokens": 1} if is_stream else {}
    env = TextGenerationVectorEnv(**arguments(**source), num_envs=4, group_size=group_size)
    env.reset(seed=0)
    state = env.get_state()["episodes"]
    assert len(state["cursors"]) == 4
    if not is_stream:  # whose prompts are told by their places alone
        assert all(set(row["prompt"]) == {"index"} for row in state["rows"])

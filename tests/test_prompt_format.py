"""One format for one model: every door shows a prompt to a model as every other does."""

from __future__ import annotations

import json
from dataclasses import fields

import gymnasium as gym
import numpy as np
import pytest
import typer
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaModel

import llm_gym
from llm_gym.cli.app import app
from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.dpo.preference_pairs import encode_preferences
from llm_gym.feedback.labelling import HumanScorer
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.preferences.records import asked
from llm_gym.feedback.reward_model import RewardModelConfig, train_reward_model
from llm_gym.feedback.reward_model.fitting import scorer_for
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.chat import PromptFormat, plain_text
from llm_gym.language_models.decoding import decode_after
from llm_gym.scorers.classifier import SequenceClassifierScorer
from llm_gym.scorers.texts import SourcedText, messages_of
from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs, no_score
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.rlhf import RLHFConfig
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.pairs import InstructionPair, encode_pair
from llm_gym.supervised.sft import SFTConfig, answer_perplexity, fine_tune
from llm_gym.text import TextGenerationEnv, TextGenerationVectorEnv
from tests.chat_tokenizers import (
    CHATML,
    TOKENIZERS,
    byte_tokenizer,
    everywhere,
    observed,
    save_model,
)
from tests.products import covering, sampled

# One of each that treats spaces, BOS or the end of an answer in its own way.
DIFFERENT = ("chatml", "llama", "sentencepiece, always a space", "EOS appended, sentencepiece")
PROMPT = "Say the cat, hi.\n"
ANSWER = "the cat sat."
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yes?"},
    {"role": "user", "content": "the cat"},
]


@pytest.fixture
def saved(tmp_path):
    return lambda kind: save_model(kind, tmp_path)


def expected_ids(tokenizer, messages):
    """What transformers itself makes of them."""
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    ids = tokenizer(messages[-1]["content"])["input_ids"]
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids


@pytest.mark.parametrize("kind", sampled(TOKENIZERS, *DIFFERENT))
def test_every_door_shows_a_prompt_alike(kind, saved):
    directory = saved(kind)
    tokenizer = load_tokenizer(directory)
    expected = expected_ids(tokenizer, [{"role": "user", "content": PROMPT}])
    task = {"tokenizer": directory, "prompts": [PROMPT], "scorer": no_score}
    name = f"me/Format{abs(hash(kind))}-v0"
    llm_gym.register_task(name, **task)
    named = {**environment_kwargs(TEXT_GENERATION, directory), "prompts": [PROMPT]}
    named["scorer"] = no_score
    doors = {
        "environment": observed(TextGenerationEnv(**task)),
        "gym.make": observed(gym.make(TEXT_GENERATION, **task)),
        "register_task": observed(gym.make(name)),
        "vector": observed(TextGenerationVectorEnv(**task)),
        "PoliteEmail": observed(
            gym.make("llm_gym/PoliteEmail-v0", tokenizer=tokenizer, prompts=[PROMPT])
        ),
        "commands": observed(gym.make(TEXT_GENERATION, **named)),
        "sft": list(encode_pair(tokenizer, InstructionPair(PROMPT, ANSWER)).prompt_ids),
        "dpo": list(
            encode_preferences(tokenizer, [Preference(PROMPT, ANSWER, "hi")], None, None)[
                0
            ].chosen.prompt_ids
        ),
        "evaluate": list(llm_gym.evaluate(directory, named).rows[0].prompt_ids),
        "best of n": list(llm_gym.sample_best_of_n(directory, named, 2).best.rows[0].prompt_ids),
    }
    assert doors == dict.fromkeys(doors, expected)
    assert expected.count(tokenizer.bos_token_id) == int(not kind.startswith("chatml"))


@pytest.mark.parametrize(
    ("kind", "algorithm"), covering(TOKENIZERS, ["DPO", "ExpertIteration", "RLOO", "PPO"])
)
def test_algorithms_show_conversations_as_the_format_does(kind, algorithm, saved, monkeypatch):
    """In sampling and in learning: whatever the model reads begins with the prompt."""
    monkeypatch.setattr("llm_gym.policy.last_layer.WORTH_IT", 2.0)  # about which it would be asked
    directory = saved(kind)
    shown = PromptFormat(load_tokenizer(directory))
    expected = shown.encode([shown.render(TALK)])[0]
    task = {**environment_kwargs(TEXT_GENERATION, directory), "prompts": [TALK]}
    task |= {"scorer": count_letters, "max_new_tokens": 3, "num_envs": 4, "group_size": 4}
    env = TextGenerationVectorEnv(**task, autoreset_mode="SameStep")
    # Each row by itself: of answers that share a prompt the others would begin behind it.
    policy = {"model": directory, "shared_prompts": False}
    options = {"online": True} if algorithm == "DPO" else {}
    agent = getattr(llm_gym, algorithm)(
        "TransformerPolicy", env, policy_kwargs=policy, seed=0, **options
    )
    seen = []
    agent.policy.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.extend(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    agent.learn(1)
    whole = [row for row in seen if len(row) > 1]  # the others are newest tokens, from the cache
    assert len(whole) > 2
    assert [row[: len(expected)] for row in whole] == [expected] * len(whole)


def count_letters(prompts, completions):
    return [float(len(text)) for text in completions]


@everywhere
@pytest.mark.parametrize("template", ["chat", "Q: {prompt} A: {completion}", None])
def test_reward_models_read_all_turns(kind, template, tmp_path):
    tokenizer = TOKENIZERS[kind]()
    if template == "chat" and not tokenizer.chat_template:
        pytest.skip("this tokenizer has no chat template")
    model = reward_head(tokenizer)
    talk, last = SourcedText("the cat", TALK), "the cat"
    written = "system: be brief\n\nuser: hi\n\nassistant: yes?\n\nuser: the cat"
    for scorer in (
        SequenceClassifierScorer(model, tokenizer=tokenizer, template=template),
        scorer_for(model, tokenizer, template, None),
    ):
        encode = lambda prompt: scorer._encode(prompt, ANSWER)["input_ids"]  # noqa: B023, E731
        assert encode(talk) != encode(last)
        if template == "chat":
            assert encode(talk)[: len(expected_ids(tokenizer, TALK))] == expected_ids(
                tokenizer, TALK
            )
        else:
            assert encode(talk) == encode(written)


def reward_head(tokenizer):
    """A tiny reward model for the tokenizer, not loaded from anywhere."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForSequenceClassification(config)


@everywhere
@pytest.mark.parametrize("start", ["<s>", ""])
def test_reward_models_read_bos_once_whoever_writes_it(kind, start):
    """A format string that has it, a tokenizer that adds it, both, or neither."""
    tokenizer = TOKENIZERS[kind]()
    model, template = reward_head(tokenizer), f"{start}Q: {{prompt}} A: {{completion}}"
    trained = scorer_for(model, tokenizer, template, None)
    plain = SequenceClassifierScorer(model, tokenizer=tokenizer, template=template)
    adds = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    for row in (plain._encode("hi", ANSWER), *trained.encode(["hi"], [ANSWER])):
        assert row["input_ids"].count(tokenizer.bos_token_id) == int(adds or bool(start))
        assert len(set(map(len, row.values()))) == 1


@pytest.mark.parametrize("train", [train_reward_model, train_dpo])
def test_what_is_learnt_from_a_file_of_conversations_keeps_their_turns(
    train, saved, tmp_path, monkeypatch
):
    """All that the model reads, in learning and in measuring, begins with the whole of one."""
    directory = saved("chatml")
    talks = [[*TALK[:3], {"role": "user", "content": f"the cat {n}"}] for n in range(14)]
    path = tmp_path / "talks.jsonl"
    answers = [[{"role": "assistant", "content": text}] for text in ("the", "cat", "hi")]
    rows = [
        {"prompt": talk, "chosen": answers[n % 2], "rejected": answers[2]}
        for n, talk in enumerate(talks)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    read = set()
    forward = LlamaModel.forward

    def watched(model, input_ids=None, attention_mask=None, **kwargs):
        if attention_mask is not None:  # what has none is a probe of some tokens, no text
            read.update(
                tuple(ids[mask.bool()].tolist())
                for ids, mask in zip(input_ids, attention_mask, strict=True)
            )
        return forward(model, input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", watched)
    config = RewardModelConfig if train is train_reward_model else DPOConfig
    train(path, tmp_path / "out", config(model=directory, epochs=1), quiet=True)
    expected = [tuple(expected_ids(load_tokenizer(directory), talk)) for talk in talks]
    begins = [[row[: len(prompt)] == prompt for prompt in expected] for row in read]
    assert {matches.index(True) for matches in begins} == set(range(len(talks)))
    assert {sum(matches) for matches in begins} == {1}


def test_people_are_shown_all_turns_of_a_conversation(tmp_path):
    """And two conversations that end alike are two questions."""
    asked = []

    def person(question):
        asked.append(question.prompt)
        return 50 + len(asked)

    scorer = HumanScorer(tmp_path / "book.db", person)
    talks = [SourcedText("the cat", TALK), SourcedText("the cat", TALK[1:]), "the cat"]
    assert len(set(scorer(talks, ["hi"] * 3))) == 3
    scorer.close()
    assert asked == [plain_text(talk) for talk in talks]
    assert asked[0].startswith("system: be brief\n\nuser: hi\n\n")


@everywhere
def test_a_conversation_keeps_its_turns_where_there_is_a_chat_template(kind):
    tokenizer = TOKENIZERS[kind]()
    row = Preference("flat", ANSWER, "hi", {"prompt_messages": TALK})
    [pair] = encode_preferences(tokenizer, [row], None, None)
    if tokenizer.chat_template:
        assert list(pair.chosen.prompt_ids) == expected_ids(tokenizer, TALK)
    else:
        text = "system: be brief\n\nuser: hi\n\nassistant: yes?\n\nuser: the cat"
        assert list(pair.chosen.prompt_ids) == PromptFormat(tokenizer).encode([text])[0]


@everywhere
def test_a_conversation_as_a_prompt_keeps_its_turns(kind):
    tokenizer = TOKENIZERS[kind]()
    expected = PromptFormat(tokenizer).encode([PromptFormat(tokenizer).render(TALK)])[0]
    if tokenizer.chat_template:
        assert expected == expected_ids(tokenizer, TALK)
    for prompts in ([TALK], [{"prompt": TALK, "name": "x"}], iter([TALK])):
        env = TextGenerationEnv(tokenizer, prompts, no_score, max_prompt_tokens=200)
        assert observed(env) == expected
        state = env.get_state()
        again = TextGenerationEnv(tokenizer, iter([TALK]), no_score, max_prompt_tokens=200)
        if not isinstance(prompts, list):
            mask = again.set_state(state)["attention_mask"].astype(bool)
            assert again.set_state(state)["input_ids"][mask].tolist() == expected


@everywhere
def test_a_conversation_may_be_the_prompt_of_a_reset(kind):
    """For one environment; for all rows of a vector environment, or one a row."""
    tokenizer = TOKENIZERS[kind]()
    task = {"scorer": no_score, "max_prompt_tokens": 200}
    other = [{"role": "user", "content": "hi"}]
    shown = PromptFormat(tokenizer)
    expected = [shown.encode([shown.render(messages)])[0] for messages in (TALK, other)]
    single = TextGenerationEnv(tokenizer, ["the"], **task)
    rows = TextGenerationVectorEnv(tokenizer, ["the"], num_envs=2, **task)

    def ids(observation):
        mask = np.atleast_2d(observation["attention_mask"]).astype(bool)
        pairs = zip(np.atleast_2d(observation["input_ids"]), mask, strict=True)
        return [row[real].tolist() for row, real in pairs]

    talk, _ = expected
    columns = {"prompt": TALK, "name": "x"}
    for prompt in (TALK, tuple(TALK), columns):
        assert ids(single.reset(options={"prompt": prompt})[0]) == [talk]
        assert ids(rows.reset(options={"prompt": prompt})[0]) == [talk, talk]
    for prompts in ([TALK, other], [columns, other], (TALK, {"prompt": "hi"}), [TALK, "hi"]):
        observation, infos = rows.reset(options={"prompt": prompts})
        assert ids(observation) == expected
        assert infos["prompt"].tolist() == ["the cat", "hi"]
    again, _ = rows.reset(options={"prompt": infos["prompt"]})  # which remembers its messages
    assert ids(again) == expected
    with pytest.raises(ValueError, match="3 entries, but num_envs=2"):
        rows.reset(options={"prompt": [TALK, TALK, TALK]})


def test_a_scorer_gets_the_messages_of_a_conversation_as_trl_hands_them_over():
    seen = []

    def score(prompts, completions):
        seen.extend(prompts)
        return [0.0] * len(prompts)

    env = TextGenerationEnv(byte_tokenizer(CHATML), [TALK], score)
    env.reset()
    env.step(2)
    assert seen == [TALK]


def test_a_reward_model_reads_the_turns_of_a_conversation():
    row = Preference("flat", ANSWER, "hi", {"prompt_messages": TALK})
    assert messages_of(asked(row)) == TALK
    assert messages_of(asked(Preference("flat", ANSWER, "hi"))) is None


@everywhere
@pytest.mark.parametrize("completion", [ANSWER, " the cat", "hi</s>", "hi</s></s>", "hi "])
def test_an_answer_to_learn_ends_in_one_end_token_and_reads_as_it_was_written(kind, completion):
    tokenizer = TOKENIZERS[kind]()
    shown = PromptFormat(tokenizer)
    prompt_ids, ids = shown.encode_answer("hi", completion)
    ends = {tokenizer.eos_token_id, shown.end_token_id}
    assert ids[-1] == shown.end_token_id
    assert not ends & set(ids[:-1])
    written = decode_after(tokenizer, prompt_ids, ids[:-1], skip_special_tokens=True)
    said = completion.replace("</s>", "")
    assert written == said or (written == " " + said and "sentencepiece" in kind)


@pytest.mark.parametrize("kind", sampled(TOKENIZERS, *DIFFERENT))
def test_what_was_learnt_is_what_generation_asks_for(kind, saved, tmp_path):
    """Perplexity near 1 under the prompt that a generating environment shows."""
    directory = saved(kind)
    pairs = [InstructionPair("hi", "the cat."), InstructionPair("the cat", "hi hi")]
    config = SFTConfig(epochs=60, batch_size=2, learning_rate=1e-2)
    fine_tune(directory, pairs, tmp_path / "sft", config, held_out=pairs, quiet=True)
    model, tokenizer = load_causal_lm(tmp_path / "sft"), load_tokenizer(tmp_path / "sft")
    answers = []
    for pair in pairs:
        env = TextGenerationEnv(str(tmp_path / "sft"), [pair.prompt], no_score, max_new_tokens=30)
        ids = observed(env)
        learnt = encode_pair(tokenizer, pair)
        assert ids == list(learnt.prompt_ids)
        assert learnt.completion_ids[-1] in env.eos_token_ids
        answers.append(learnt)
    assert answer_perplexity(model, answers) < 1.1
    assert PromptFormat(tokenizer).end_token_id in np.ravel(model.generation_config.eos_token_id)


@pytest.mark.parametrize(
    ("kind", "template"), covering(TOKENIZERS, ["Q: {prompt}\nA:", "{prompt}", "{prompt} "])
)
def test_a_prompt_template_is_saved_as_the_chat_template(kind, template, saved, tmp_path):
    directory = saved(kind)
    pairs = [InstructionPair("hi", "the cat."), InstructionPair("the cat", "hi hi")]
    config = SFTConfig(batch_size=2, prompt_template=template)
    fine_tune(directory, pairs, tmp_path / "sft", config, held_out=pairs, quiet=True)
    given = TextGenerationEnv(directory, ["hi"], no_score, prompt_template=template)
    assert observed(TextGenerationEnv(str(tmp_path / "sft"), ["hi"], no_score)) == observed(given)


def test_bos_is_there_once_whoever_writes_it():
    tokenizer = byte_tokenizer()
    for text in ("hi", "<s>hi"):
        assert PromptFormat(tokenizer).encode([text])[0][:2] == tokenizer("hi")["input_ids"][:2]
    twice = PromptFormat(tokenizer, "<s>{prompt}")
    assert twice.encode([twice.render("hi")])[0].count(tokenizer.bos_token_id) == 1


def test_a_chat_template_that_cannot_be_used_is_named():
    tokenizer = byte_tokenizer("nobody speaks")
    with pytest.raises(ValueError, match="does not show the user's message"):
        PromptFormat(tokenizer)
    tokenizer = byte_tokenizer(
        "{{ raise_exception('no system') if messages[0].role == 'system' }}"
        "{{ messages[-1].content }}"
    )
    with pytest.raises(ValueError, match=r"refuses the role 'system' .no system.*of the user"):
        PromptFormat(tokenizer).render(TALK)
    tokenizer = byte_tokenizer(
        "{{ raise_exception('roles must alternate') if messages|length == 2 }}"
        "{{ messages[-1].content }}"
    )
    with pytest.raises(ValueError, match=r"cannot render .*'user', 'user'.*must alternate"):
        PromptFormat(tokenizer).render([{"role": "user", "content": "hi"}] * 2)
    with pytest.raises(TypeError, match="prompt_template=3 must be a format string"):
        PromptFormat(tokenizer, 3)


@pytest.mark.parametrize("config", [SFTConfig, DPOConfig, RLHFConfig, TrainConfig, CompareConfig])
def test_no_stage_has_a_format_of_its_own(config):
    """Where nobody gives one, it is the model's."""
    [field] = [field for field in fields(config) if field.name == "prompt_template"]
    assert field.default is None


def test_no_command_has_a_format_of_its_own():
    group = typer.main.get_command(app)
    context = typer.Context(group)
    found = {
        name: parameter.default
        for name in group.list_commands(context)
        for parameter in group.get_command(context, name).params
        if "--prompt-template" in parameter.opts
    }
    assert len(found) > 5
    assert set(found.values()) == {None}


def test_dpo_saves_the_format_it_learnt_in(saved, tmp_path):
    directory = saved("chatml")
    rows = [Preference("hi", "the", "cat"), Preference("the", "hi", "cat")]
    config = DPOConfig(model=directory, prompt_template="Q: {prompt} A:", epochs=1, device="cpu")
    metrics = train_dpo(rows, tmp_path / "dpo", config, held_out=rows, quiet=True)
    assert metrics["prompt_format"] == "Q: {prompt} A:"
    assert PromptFormat(load_tokenizer(tmp_path / "dpo")).render("hi") == "Q: hi A:"

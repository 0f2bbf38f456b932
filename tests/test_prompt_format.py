"""One format for one model: every door shows a prompt to a model as every other does."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import llm_gym
from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.dpo.preference_pairs import encode_preferences
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.preferences.records import asked
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.chat import PromptFormat
from llm_gym.language_models.decoding import decode_after
from llm_gym.scorers.texts import messages_of
from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs, no_score
from llm_gym.supervised.pairs import InstructionPair, encode_pair
from llm_gym.supervised.sft import SFTConfig, answer_perplexity, fine_tune
from llm_gym.testing.tiny import tiny_model
from llm_gym.text import TextGenerationEnv, TextGenerationVectorEnv

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    " {{ m['content'] }}{{ eos_token }}{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}"
    "{% endfor %}"
)
SPECIAL = (
    "<pad>",
    "<s>",
    "</s>",
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
PROMPT = "Say the cat, hi.\n"
ANSWER = "the cat sat."
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yes?"},
    {"role": "user", "content": "the cat"},
]


def byte_tokenizer(template=None, *, adds_bos=True, adds_eos=False):
    """Byte-level, without a merge."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({t: i for i, t in enumerate([*SPECIAL, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return finished(core, template, adds_bos, adds_eos)


def metaspace_tokenizer(template=None, *, adds_bos=True, adds_eos=False, scheme="first"):
    """As sentencepiece's: a space is put before a text, and taken from its decoding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = ["▁", *map(chr, range(33, 127)), "\n", "▁cat", "▁the", "▁hi"]
    parts = [(w, -1.0 if len(w) > 1 else -4.0) for w in words]
    pieces = [(token, 0.0) for token in SPECIAL] + parts
    core = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    core.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
    return finished(core, template, adds_bos, adds_eos)


def finished(core, template, adds_bos, adds_eos):
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    start, end = "<s> " * adds_bos, " </s>" * adds_eos
    used = [token for token, on in (("<s>", adds_bos), ("</s>", adds_eos)) if on]
    if used:
        core.post_processor = processors.TemplateProcessing(
            single=f"{start}$A{end}", special_tokens=[(t, SPECIAL.index(t)) for t in used]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


TOKENIZERS = {
    "chatml": lambda: byte_tokenizer(CHATML, adds_bos=False),
    "chatml of a tokenizer that adds BOS": lambda: byte_tokenizer(CHATML),
    "llama": lambda: byte_tokenizer(LLAMA),
    "sentencepiece": lambda: metaspace_tokenizer(MISTRAL),
    "sentencepiece, always a space": lambda: metaspace_tokenizer(MISTRAL, scheme="always"),
    "sentencepiece without a template": metaspace_tokenizer,
    "bytes without a template": byte_tokenizer,
    "EOS appended": lambda: byte_tokenizer(adds_eos=True),
    "EOS appended, sentencepiece": lambda: metaspace_tokenizer(adds_eos=True),
}
everywhere = pytest.mark.parametrize("kind", TOKENIZERS)


@pytest.fixture
def saved(tmp_path):
    def save(kind):
        tokenizer = TOKENIZERS[kind]()
        size = len(tokenizer) + 3
        tiny_model("llama", size, max_position_embeddings=256).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def expected_ids(tokenizer, messages):
    """What transformers itself makes of them."""
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    ids = tokenizer(messages[-1]["content"])["input_ids"]
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids


def observed(env):
    observation, _ = env.reset(seed=0)
    return observation["input_ids"][observation["attention_mask"].astype(bool)].tolist()


@everywhere
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
    }
    assert doors == dict.fromkeys(doors, expected)
    assert expected.count(tokenizer.bos_token_id) == int(kind[:6] != "chatml" or "BOS" in kind * 0)


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


def test_the_end_of_a_turn_is_the_template_s():
    formats = {kind: PromptFormat(make()) for kind, make in TOKENIZERS.items()}
    ends = {
        kind: shown.tokenizer.convert_ids_to_tokens(shown.end_token_id)
        for kind, shown in formats.items()
    }
    assert ends["chatml"] == "<|im_end|>"
    assert ends["llama"] == "<|eot_id|>"
    assert set(ends.values()) == {"<|im_end|>", "<|eot_id|>", "</s>"}


@everywhere
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


@everywhere
@pytest.mark.parametrize("template", ["Q: {prompt}\nA:", "{prompt}", "{prompt} "])
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


def test_all_end_tokens_of_the_generation_config_end_an_episode(saved):
    directory = saved("bytes without a template")
    config = Path(directory, "generation_config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": [2, 4, 7]}))
    for tokenizer in (directory, load_tokenizer(directory)):
        env = TextGenerationEnv(tokenizer, ["hi"], no_score)
        assert env.eos_token_ids == (2, 4, 7)
    assert TextGenerationEnv(directory, ["hi"], no_score, eos_token_id=5).eos_token_ids == (5,)
    assert TextGenerationEnv(directory, ["hi"], no_score, eos_token_id=()).eos_token_ids == ()


@pytest.mark.parametrize(
    ("tokens", "completion"),
    [(["s"], "s"), (["▁", "s"], " s"), (["▁cat", "s"], " cats"), (["▁", "▁", "s"], "  s")],
)
def test_the_first_space_of_a_completion_survives(tokens, completion):
    tokenizer = metaspace_tokenizer()
    env = TextGenerationEnv(tokenizer, ["the"], no_score)
    env.reset()
    for token in tokenizer.convert_tokens_to_ids([*tokens, "</s>"]):
        *_, info = env.step(token)
    assert info["completion"] == completion
    assert info["prompt"] == "the"
    ids = tokenizer("the")["input_ids"] + tokenizer.convert_tokens_to_ids(tokens)
    assert info["prompt"] + completion == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_stop_string_may_begin_with_the_first_space():
    tokenizer = metaspace_tokenizer()
    env = TextGenerationEnv(tokenizer, ["the"], no_score, stop_strings=[" c"])
    env.reset()
    env.step(tokenizer.convert_tokens_to_ids("▁"))
    *_, terminated, _, info = env.step(tokenizer.convert_tokens_to_ids("c"))
    assert (terminated, info["stop_reason"], info["completion"]) == (True, "stop_string", "")


def test_the_prompt_of_a_finished_episode_is_in_its_final_info():
    tokenizer = byte_tokenizer()
    env = TextGenerationVectorEnv(
        tokenizer, ["a", "b", "c"], no_score, autoreset_mode="SameStep", prompt_order="sequential"
    )
    _, infos = env.reset()
    first = infos["prompt"][0]
    *_, infos = env.step(np.array([2]))
    assert infos["final_info"]["prompt"][0] == first == "a"
    assert infos["prompt"][0] == "b"


def test_a_chat_template_that_cannot_be_used_is_named():
    tokenizer = byte_tokenizer("nobody speaks")
    with pytest.raises(ValueError, match="does not show the user's message"):
        PromptFormat(tokenizer)
    tokenizer = byte_tokenizer(
        "{{ raise_exception('no system') if messages[0].role == 'system' }}"
        "{{ messages[-1].content }}"
    )
    with pytest.raises(ValueError, match=r"cannot render .*system.*no system"):
        PromptFormat(tokenizer).render(TALK)
    with pytest.raises(TypeError, match="prompt_template=3 must be a format string"):
        PromptFormat(tokenizer, 3)


def test_dpo_saves_the_format_it_learnt_in(saved, tmp_path):
    directory = saved("chatml")
    rows = [Preference("hi", "the", "cat"), Preference("the", "hi", "cat")]
    config = DPOConfig(model=directory, prompt_template="Q: {prompt} A:", epochs=1, device="cpu")
    metrics = train_dpo(rows, tmp_path / "dpo", config, held_out=rows, quiet=True)
    assert metrics["prompt_format"] == "Q: {prompt} A:"
    assert PromptFormat(load_tokenizer(tmp_path / "dpo")).render("hi") == "Q: hi A:"

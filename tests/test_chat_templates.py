"""A chat template that cannot show what it is given: one sentence of ours at every door."""

from __future__ import annotations

import warnings

import pytest

import llm_gym
from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.reward_model import RewardModelConfig, RewardModelScorer, train_reward_model
from llm_gym.language_models.chat import PromptFormat, TemplateWarning
from llm_gym.stages.chat import Conversation
from llm_gym.stages.chat_settings import ChatConfig
from llm_gym.supervised.sft import SFTConfig, fine_tune
from llm_gym.testing.tiny import tiny_model
from tests.chat_tokenizers import CHATML, byte_tokenizer

SYSTEM = {"role": "system", "content": "be kind"}
USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "yo"}

REFUSES = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('no\\nsystem') }}{% endif %}{% endfor %}"
)
ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
FAILS = (
    "{% for m in messages %}{% if m['role'] != 'user' %}{{ m['content'] + 3 }}{% endif %}"
    "{% endfor %}"
)

CASES = {
    "refuses a role": (REFUSES, [SYSTEM, USER], "refuses the role 'system' (no system): put what"),
    "alternates": (ALTERNATES, [USER, USER], "cannot render a conversation of the roles ['user', "),
    "fails inside": (FAILS, [SYSTEM, USER], "can only concatenate str"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = {}

    def get(template):
        if template not in made:
            directory = tmp_path_factory.mktemp("model")
            tokenizer = byte_tokenizer(template + CHATML, adds_bos=False)
            small = {"num_hidden_layers": 1, "max_position_embeddings": 256}
            tiny_model("llama", len(tokenizer), **small).save_pretrained(directory)
            tokenizer.save_pretrained(directory)
            made[template] = str(directory)
        return made[template]

    return get


def asked(turns, number):
    return [*turns[:-1], {**turns[-1], "content": f"hi {number}"}]


def prompts(model, turns, _):
    rows = [{"prompt": "fine"}, {"messages": turns}]
    llm_gym.TextGenerationEnv(model, prompts=rows, scorer=lambda p, c: [0.0] * len(p))


def sft(model, turns, output):
    rows = [{"messages": [*asked(turns, number), ANSWER]} for number in range(8)]
    fine_tune(model, rows, output, SFTConfig(batch_size=8), quiet=True)


def preferences(turns):
    return [
        {
            "prompt": asked(turns, n),
            "chosen": [{**ANSWER, "content": f"y{n}"}],
            "rejected": [ANSWER],
        }
        for n in range(12)
    ]


def dpo(model, turns, output):
    train_dpo(preferences(turns), output, DPOConfig(model=model, batch_size=8), quiet=True)


def reward_model(model, turns, output):
    config = RewardModelConfig(model=model, head="finetune")
    train_reward_model(preferences(turns), output, config, quiet=True)


def scorer(model, turns, output):
    from transformers import AutoModelForSequenceClassification

    from llm_gym.language_models import load_tokenizer
    from llm_gym.scorers.texts import SourcedText

    classifier = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    tokenizer = load_tokenizer(model)
    judge = RewardModelScorer(classifier, tokenizer=tokenizer, template="chat")
    judge.score([SourcedText("hi", messages=turns)], ["yo"])


DOORS = {
    "prompts": prompts,
    "sft": sft,
    "dpo": dpo,
    "reward model": reward_model,
    "scorer": scorer,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("door", DOORS)
def test_a_door_says_what_the_template_cannot(door, case, model, tmp_path):
    template, turns, sentence = CASES[case]
    with pytest.raises(ValueError) as caught:
        DOORS[door](model(template), turns, tmp_path / "output")
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message
    assert "template=" in message


def test_rows_are_named_by_their_place(model, tmp_path):
    for door, place in ((prompts, "prompts[1]: "), (sft, "pairs[0]: "), (dpo, "preferences[0]: ")):
        with pytest.raises(ValueError) as caught:
            door(model(REFUSES), [SYSTEM, USER], tmp_path / "output")
        assert str(caught.value).startswith(place)


def test_rows_that_a_template_refuses_are_left_out_on_request(model, tmp_path):
    fine = [{"messages": [USER | {"content": f"hi {n}"}, ANSWER]} for n in range(8)]
    rows = [*fine, {"messages": [SYSTEM, USER, ANSWER]}]
    config = SFTConfig(batch_size=8, bad_rows="skip", held_out_share=0.2)
    with pytest.warns(UserWarning, match="1 of .* the tokenizer's chat template refuses the role"):
        metrics = fine_tune(model(REFUSES), rows, tmp_path / "output", config, quiet=True)
    assert metrics["pairs"] == 7


def test_conversations_are_refused_before_anything_is_written(model):
    with pytest.raises(ValueError, match="refuses the role 'system'"):
        next(Conversation(model(REFUSES), ChatConfig(system="be kind")).answer("hi"))
    with pytest.raises(ValueError, match=r"of the roles \['user', 'assistant', 'user'\]"):
        llm_gym.TurnEnv(model(FAILS), World)


class World:
    def reset(self, seed=None):
        return "hello", {}

    def step(self, text):
        return "again", 1.0, False, False, {}


def test_a_system_message_that_is_not_shown_is_said(model):
    silent = CHATML.replace(
        "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"
    )
    shown = PromptFormat(byte_tokenizer(silent, adds_bos=False))
    with pytest.warns(TemplateWarning, match="leaves out what system messages say"):
        assert "be kind" not in shown.render([SYSTEM, USER])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "hi" in shown.render([USER])
        padded = {**SYSTEM, "content": "  be kind \n"}  # a template may trim
        assert "be kind" in PromptFormat(byte_tokenizer(CHATML)).render([padded, USER])

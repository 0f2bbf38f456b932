from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from llm_gym.language_models import load_tokenizer
from llm_gym.policy.transformer_policy import VALUE_HEAD_FILE
from llm_gym.stages.chat import Conversation
from llm_gym.stages.chat_settings import ChatConfig
from tests.tiny_runs import tiny_ppo


def last(stream):
    *_, text = stream
    return text


def ids_of(talk, messages):
    return talk.prompt_format.encode([talk.prompt_format.render(messages)])[0]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_answers_are_those_of_transformers_generate_turn_after_turn(tiny_dir, architecture):
    config = ChatConfig(max_new_tokens=8, deterministic=True)
    talk = Conversation(tiny_dir(architecture), config)
    for prompt in ("w1 w2 w3", "w7"):
        ids = ids_of(talk, [*talk.messages, {"role": "user", "content": prompt}])
        found = last(talk.answer(prompt))
        whole = talk.model.generate(
            torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=1, pad_token_id=0
        )
        expected = talk.tokenizer.decode(whole[0, len(ids) :], skip_special_tokens=True)
        assert found == expected
    roles = [message["role"] for message in talk.messages]
    assert roles == ["user", "assistant"] * 2
    assert any(message["content"] for message in talk.messages[1::2])
    assert talk.messages[-1]["content"] == found


def test_the_seed_is_everything(tiny_dir):
    config = ChatConfig(max_new_tokens=12, seed=3)
    one, other = (Conversation(tiny_dir("gpt2"), config) for _ in range(2))
    first, second = last(one.answer("w1")), last(one.answer("w1"))
    assert [last(other.answer("w1")), last(other.answer("w1"))] == [first, second]
    one.reset()
    assert one.messages == []
    assert last(one.answer("w1")) == first
    another = Conversation(tiny_dir("gpt2"), ChatConfig(max_new_tokens=12, seed=4))
    assert last(another.answer("w1")) != first


def test_of_one_token_to_choose_from_the_most_probable_is_chosen(tiny_dir):
    greedy = Conversation(tiny_dir("llama"), ChatConfig(max_new_tokens=9, deterministic=True))
    for cut in (ChatConfig(max_new_tokens=9, top_k=1), ChatConfig(max_new_tokens=9, top_p=1e-6)):
        greedy.reset()
        cold = Conversation(tiny_dir("llama"), cut)
        assert last(cold.answer("w1 w2")) == last(greedy.answer("w1 w2"))


def test_a_text_grows_and_a_half_read_answer_is_remembered(tiny_dir):
    talk = Conversation(tiny_dir("gpt2"), ChatConfig(max_new_tokens=30, seed=2))
    stream = talk.answer("w1")
    first = next(text for text in stream if text)
    second = next(text for text in stream if text != first)
    stream.close()
    assert second.startswith(first)
    assert len(second) > len(first)
    assert talk.messages == [
        {"role": "user", "content": "w1"},
        {"role": "assistant", "content": second},
    ]


def test_the_end_is_not_shown_and_ends(tiny_dir):
    """An end token whose logit is the largest whatever was said."""
    talk = Conversation(tiny_dir("gpt2"), ChatConfig(max_new_tokens=30, deterministic=True))
    talk._head = lambda hidden: torch.nn.functional.one_hot(torch.tensor([1]), 32).float()
    assert list(talk.answer("w1")) == []
    assert talk.messages[-1] == {"role": "assistant", "content": ""}


def test_a_full_context_forgets_the_oldest_turns_but_not_what_was_told_before(tiny_dir):
    config = ChatConfig(system="w9", max_new_tokens=4, deterministic=True)
    talk = Conversation(tiny_dir("gpt2"), config)  # reads 64 tokens
    for number in range(12):
        list(talk.answer(" ".join([f"w{number}"] * 12)))
        assert len(ids_of(talk, talk.messages[:-1])) < 64
    assert talk.messages[0] == {"role": "system", "content": "w9"}
    assert talk.messages[-2]["content"] == " ".join(["w11"] * 12)
    assert 4 < len(talk.messages) < 12
    assert talk.messages[1]["role"] == "user"


def test_a_prompt_that_does_not_fit_at_all_changes_nothing(tiny_dir):
    talk = Conversation(tiny_dir("gpt2"), ChatConfig(max_new_tokens=4))
    list(talk.answer("w1"))
    before = talk.messages
    with pytest.raises(ValueError, match=r"the prompt has 80 tokens.* at most 64"):
        talk.answer(" ".join(["w1"] * 80))
    assert talk.messages is before


def test_types_of_weights(tiny_dir):
    talk = Conversation(tiny_dir("llama"), ChatConfig(max_new_tokens=4, dtype="bfloat16"))
    assert talk.model.dtype == torch.bfloat16
    assert last(talk.answer("w1"))
    with pytest.raises(ValueError, match="dtype='int8'"):
        ChatConfig(dtype="int8")
    with pytest.raises(ValueError, match="temperature=0"):
        ChatConfig(temperature=0.0)
    with pytest.raises(ValueError, match="no place for a prompt"):
        ChatConfig(prompt_template="hello")


def test_a_model_without_an_end_is_refused(tmp_path):
    from llm_gym.testing.tiny import tiny_model, tiny_tokenizer

    model = tiny_model("gpt2")
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    model.save_pretrained(tmp_path)
    tiny_tokenizer(with_eos=False).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="nothing says which token ends an answer"):
        Conversation(tmp_path, ChatConfig())


# ------------------------------------------------------------------ what a model thinks of tokens


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_probabilities_are_those_of_one_pass_over_the_whole(tiny_dir, architecture):
    config = ChatConfig(max_new_tokens=6, temperature=2.0, top_k=5, seed=1)
    talk = Conversation(tiny_dir(architecture), config)
    ids = ids_of(talk, [{"role": "user", "content": "w1 w2"}])
    *_, answer = talk.write("w1 w2")
    assert answer.tokens
    chosen = [token.id for token in answer.tokens]
    with torch.no_grad():
        logits = talk.model(torch.tensor([ids + chosen])).logits[0, len(ids) - 1 : -1].double()
    probs = logits.softmax(-1)  # (T, V), at temperature 1
    entropies = torch.distributions.Categorical(probs=probs).entropy()
    for place, token in enumerate(answer.tokens):
        assert token.prob == pytest.approx(float(probs[place, token.id]), abs=1e-5)
        assert token.entropy == pytest.approx(float(entropies[place]), abs=1e-4)
        assert [n for n, _ in token.top] == probs[place].topk(5).indices.tolist()
        assert token.value is None
    assert len(answer.texts) == len(answer.tokens) == len(answer.beginnings)
    assert answer.beginnings[-1] == answer.text
    assert not talk.has_critic


@pytest.mark.parametrize("separate", [False, True])
def test_values_are_those_of_the_policy_that_was_saved(tmp_path, tiny_dir, separate):
    kwargs = {"model": tiny_dir("gpt2"), "separate_critic": separate}
    policy = tiny_ppo(tiny_dir("gpt2"), policy_kwargs=kwargs).policy
    torch.nn.init.normal_(policy.value_head.weight)
    torch.nn.init.constant_(policy.value_head.bias, 0.5)
    policy.save_pretrained(tmp_path)
    load_tokenizer(tiny_dir("gpt2")).save_pretrained(tmp_path)
    talk = Conversation(tmp_path, ChatConfig(max_new_tokens=5, seed=2))
    *_, answer = talk.write("w1 w2")
    if separate:  # it read hidden states that are not here
        assert not talk.has_critic
        assert {token.value for token in answer.tokens} == {None}
        return
    ids = ids_of(talk, [{"role": "user", "content": "w1 w2"}])
    chosen = [token.id for token in answer.tokens]
    with torch.no_grad():
        states = talk._decoder(torch.tensor([ids + chosen])).last_hidden_state[0]
        expected = policy.value_head(states)[len(ids) - 1 : -1, 0] * policy.value_scale
    assert [token.value for token in answer.tokens] == pytest.approx(expected.tolist(), abs=1e-4)
    save_file({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, tmp_path / VALUE_HEAD_FILE)
    with pytest.raises(ValueError, match="is not a value head for this model"):
        Conversation(tmp_path, ChatConfig())

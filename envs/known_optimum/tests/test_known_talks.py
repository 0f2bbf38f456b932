"""Conversations whose optimum is known: against listed strategies, published values and play."""

from __future__ import annotations

import itertools
import math
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from llm_gym_known_optimum import (
    Blackjack,
    GuessTheNumber,
    KuhnPoker,
    TwentyQuestions,
    Wordle,
    equilibrium,
    evaluate_talk,
    exploitability,
    solve,
    value_of_choices,
    word_probabilities,
)
from llm_gym_known_optimum.talks.kuhn import PLACES, payoff, strategy_from
from llm_gym_known_optimum.talks.talk import TalkWorld

import llm_gym
from llm_gym.testing.conformance import EnvironmentConformance, VectorEnvironmentConformance
from llm_gym.testing.tiny import tiny_model


class Conformance(EnvironmentConformance):
    name = ""
    max_steps = 20

    def make_env(self):
        return gym.make(f"llm_gym/{self.name}-v0")


class TestGuess(Conformance):
    name = "GuessTheNumber"


class TestWordle(Conformance):
    name = "Wordle"


class TestTwentyQuestions(Conformance):
    name = "TwentyQuestions"


class TestBlackjack(Conformance):
    name = "Blackjack"


class TestKuhn(Conformance):
    name = "KuhnPoker"


class TestRows(VectorEnvironmentConformance):
    def make_env(self, row, num_rows):
        return gym.make("llm_gym/GuessTheNumber-v0", numbers=5)

    def make_vector_env(self, num_envs, autoreset_mode):
        return gym.make_vec(
            "llm_gym/GuessTheNumber-v0", num_envs, autoreset_mode=autoreset_mode, numbers=5
        )


del Conformance, EnvironmentConformance, VectorEnvironmentConformance

# ---------------------------------------------------------------------- optima


@pytest.mark.parametrize("numbers", [2, 3, 7, 12, 20])
def test_halving_is_the_best_way_to_guess(numbers):
    """The i-th number of a balanced search tree is found in floor(log2 i) + 1 turns."""
    turns = sum(int(math.log2(i)) + 1 for i in range(1, numbers + 1)) / numbers
    found = solve(GuessTheNumber(numbers))
    assert found.turns == pytest.approx(turns)
    assert found.value == pytest.approx(1 - 0.1 * (turns - 1))
    assert numbers != 20 or found.turns == pytest.approx(3.70)


def played(talk, secret, say):
    """The sum of rewards of one conversation; `say` chooses a word by what was answered so far."""
    world, rewards = TalkWorld(talk), 0.0
    world.reset(seed=0)
    world._secret = secret
    heard = ()
    for _ in range(talk.max_turns):
        text, reward, ended, _, _ = world.step(say(heard))
        rewards, heard = rewards + reward, (*heard, text)
        if ended:
            break
    return rewards


@pytest.mark.parametrize("turn_cost", [0.0, 0.3])
def test_no_listed_strategy_is_better_than_the_optimum(turn_cost):
    talk = GuessTheNumber(3, max_turns=3, turn_cost=turn_cost)
    places = [h for n in range(3) for h in itertools.product(["less", "more"], repeat=n)]
    values = [
        np.mean([played(talk, s, dict(zip(places, plan, strict=True)).get) for s in talk.secrets])
        for plan in itertools.product(talk.words, repeat=len(places))
    ]
    assert len(values) == 3**7
    assert solve(talk).value == pytest.approx(max(values))


def test_the_marks_of_wordle():
    talk = Wordle()
    assert talk.reply("egg", "gag") == "+.="
    assert talk.reply("bad", "dad") == ".=="
    assert talk.reply("tab", "bat") == "+=+"
    assert talk.reply("egg", "egg") == "===" == talk.hit


@pytest.mark.parametrize("talk", [Wordle(), TwentyQuestions(max_turns=5)])
def test_the_best_words_are_worth_what_is_said(talk):
    found = solve(talk)
    worlds = [TalkWorld(talk) for _ in talk.secrets]
    rewards = 0.0
    for world, secret in zip(worlds, talk.secrets, strict=True):
        world.reset(seed=0)
        world._secret, state, left, ended = secret, frozenset(talk.secrets), talk.max_turns, False
        while not ended and left:
            word = found.best_words(state, left)[-1]  # `solve` counts turns with the first
            text, reward, ended, _, _ = world.step(word)
            assert secret not in state or talk.reply(secret, word) == text
            state = frozenset(s for s in state if talk.reply(s, word) == text)
            rewards, left = rewards + reward, left - 1
    assert rewards / len(talk.secrets) == pytest.approx(found.value)


def test_blackjack_is_best_played_as_published():
    """Figure 5.2 of Sutton and Barto, Reinforcement Learning (2nd ed.): from where to stick.

    Soft hands against an ace are left out: 18 depends on what a dealer's natural wins against 21.
    """
    found = solve(Blackjack())
    hard = {1: 17, 2: 13, 3: 13, 4: 12, 5: 12, 6: 12, 7: 17, 8: 17, 9: 17, 10: 17}
    for card, least in hard.items():
        for total in range(12, 21):
            best = found.best_words((total, False, card, False), 20)
            assert best == ["stick" if total >= least else "hit"], (card, total)
        for total in range(12, 21) if card > 1 else ():
            best = found.best_words((total, True, card, False), 20)
            assert best == ["stick" if total >= (19 if card in (9, 10) else 18) else "hit"]


def test_blackjack_pays_what_gymnasiums_pays():
    """Both play on until 16, with and without aces; 4 standard errors of the difference."""
    exact, _ = value_of_choices(
        Blackjack(), lambda state, _: {"stick" if state[0] >= 17 else "hit": 1.0}
    )
    env, paid = gym.make("Blackjack-v1", sab=True).unwrapped, []
    for seed in range(4_000):
        (total, _, _), _ = env.reset(seed=seed if not seed else None)
        reward, ended = 0.0, False
        while not ended:
            (total, _, _), reward, ended, _, _ = env.step(int(total < 17))
        paid.append(reward)
    assert abs(np.mean(paid) - exact) < 4 * np.std(paid) / math.sqrt(len(paid))


# ---------------------------------------------------------------------- Kuhn poker


def value_for_first(first, second):
    """What the first player wins, by dealing all hands and walking through all that is said."""

    def walk(said, one, two):
        if said in ("pp", "bp", "bb", "pbp", "pbb"):
            return payoff(said, one, two)
        bet = second[two, said] if len(said) == 1 else first[one, said]
        return bet * walk(said + "b", one, two) + (1 - bet) * walk(said + "p", one, two)

    return np.mean([walk("", *cards) for cards in itertools.permutations(range(3), 2)])


def test_payoffs_of_kuhn_poker():
    assert [payoff(said, 2, 0) for said in ("pp", "pbp", "pbb", "bp", "bb")] == [1, -1, 2, 1, 2]
    assert [payoff(said, 0, 1) for said in ("pp", "pbp", "pbb", "bp", "bb")] == [-1, -1, -2, 1, -2]


@pytest.mark.parametrize("bluff", [0.0, 0.2, 1 / 3])
def test_equilibria_lose_an_eighteenth_and_nobody_exploits_them(bluff):
    strategy = equilibrium(bluff)
    assert exploitability(strategy) == pytest.approx(0)
    assert value_for_first(strategy, strategy) == pytest.approx(-1 / 18)
    assert solve(KuhnPoker(strategy, seat=0)).value == pytest.approx(-1 / 18)
    assert solve(KuhnPoker(strategy, seat=1)).value == pytest.approx(1 / 18)


@pytest.mark.parametrize("seed", range(3))
def test_exploitability_is_what_the_best_pure_strategy_wins(seed):
    rng = random.Random(seed)
    strategy = {place: rng.random() for place in PLACES}
    pure = [
        dict(zip(PLACES, plan, strict=True)) for plan in itertools.product([0.0, 1.0], repeat=12)
    ]
    firsts = {tuple(p[x] for x in PLACES[:6]): p for p in pure}.values()  # what the seat never
    seconds = {tuple(p[x] for x in PLACES[6:]): p for p in pure}.values()  # reaches is the same
    first = max(value_for_first(one, strategy) for one in firsts)
    second = max(-value_for_first(strategy, one) for one in seconds)
    assert exploitability(strategy) == pytest.approx((first + second) / 2)
    assert exploitability(dict.fromkeys(PLACES, 0.5)) == pytest.approx(11 / 24)


# ---------------------------------------------------------------------- any policy


def arbitrary(talk):
    """A policy that goes by the whole conversation, in whose every turn every word is likely."""

    def shares(conversations):
        rows = [
            np.random.default_rng([7, *ids]).random(len(talk.vocabulary)) for ids in conversations
        ]
        return np.stack([row / row.sum() for row in rows])

    return shares


def test_a_policys_value_is_that_of_all_that_can_be_said():
    talk = GuessTheNumber(3, max_turns=3, turn_cost=0.2)
    shares = arbitrary(talk)

    def worth(secret, tokens, turns):
        if turns == talk.max_turns:
            return 0.0
        value = 0.0
        for word, share in zip(talk.vocabulary, shares([tokens])[0], strict=True):
            if word not in talk.words:
                heard = (*tokens, *talk.ids(f"{word} void"))
                value += share * (worth(secret, heard, turns + 1) - 0.2)
            elif word == secret:
                value += share
            else:
                text = "more" if secret > word else "less"
                value += share * (
                    worth(secret, (*tokens, *talk.ids(f"{word} {text}")), turns + 1) - 0.2
                )
        return value

    exact = np.mean([worth(secret, talk.ids("guess"), 0) for secret in talk.secrets])
    found = evaluate_talk(talk, shares, least_reach=0.0)
    assert found.low == pytest.approx(exact)
    assert found.high == pytest.approx(exact)
    assert found.left_out == 0
    rough = evaluate_talk(talk, shares, least_reach=0.02)
    assert rough.left_out > 0.05
    assert rough.low < exact < rough.high
    assert rough.turns_low < found.turns_low < rough.turns_high
    assert rough.read < found.read


def test_a_model_is_asked_what_it_would_be_asked_in_the_environment(tmp_path):
    env = gym.make("llm_gym/KuhnPoker-v0")
    talk = env.unwrapped.talk
    tiny_model("llama", len(talk.vocabulary)).save_pretrained(tmp_path)
    policy = llm_gym.TransformerActorCriticPolicy(
        env.observation_space, env.action_space, lambda _: 0.0, model=str(tmp_path)
    )
    shares, seen = word_probabilities(policy, talk), set()
    for seed in range(12):
        observation, _ = env.reset(seed=seed)
        ended, generator = False, np.random.default_rng(seed)
        while not ended:
            ids = tuple(observation["input_ids"][observation["attention_mask"] == 1].tolist())
            seen.add(ids)
            batch = {k: torch.as_tensor(v)[None] for k, v in observation.items()}
            with torch.no_grad():
                asked = policy.get_distribution(batch).distribution.probs[0].double().numpy()
            np.testing.assert_allclose(shares([ids])[0], asked, atol=1e-6)
            observation, _, ended, _, _ = env.step(int(generator.integers(2)))
    assert seen <= {talk.conversation(*place) for place in PLACES}
    assert len(seen) > 6
    strategy = strategy_from(talk, shares)
    rows = shares([talk.conversation(*place) for place in PLACES])
    assert strategy[2, "pb"] == pytest.approx(rows[5, 1] / rows[5, :2].sum())


def test_what_is_no_word_is_a_lost_turn_or_a_lost_game():
    env = gym.make("llm_gym/Wordle-v0", secrets=["ab", "ba", "bb"], max_turns=2)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(3)
    assert (reward, terminated, info["world_text"]) == (-0.1, False, "void")
    assert env.step(3)[2]
    env = gym.make("llm_gym/KuhnPoker-v0")
    env.reset(seed=0)
    assert env.step(5)[1:3] == (-2.0, True)


def test_a_talk_of_ones_own():
    talk = GuessTheNumber(3)
    assert gym.make("llm_gym/GuessTheNumber-v0", talk=talk).unwrapped.talk is talk
    with pytest.raises(ValueError, match=r"talk= is given, so \['numbers'\]"):
        gym.make("llm_gym/GuessTheNumber-v0", talk=talk, numbers=4)
    with pytest.raises(TypeError, match="must be a GuessTheNumber"):
        gym.make("llm_gym/GuessTheNumber-v0", talk=Wordle())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GuessTheNumber(1), "numbers=1 must be"),
        (lambda: GuessTheNumber(5, max_turns=0), "max_turns=0"),
        (lambda: GuessTheNumber(5, turn_cost=-1), "turn_cost=-1 must be"),
        (lambda: Wordle(["ab", "abc"]), "words of one length"),
        (lambda: Wordle(["ab", "ab"]), "two different secrets"),
        (lambda: KuhnPoker(seat=2), "seat=2 must be"),
        (lambda: KuhnPoker({}), "every place needs"),
        (lambda: equilibrium(0.5), "bluff=0.5"),
        (lambda: word_probabilities(tiny_model("gpt2", 7), KuhnPoker()), "has 7 tokens"),
    ],
)
def test_bad_arguments_of_talks_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

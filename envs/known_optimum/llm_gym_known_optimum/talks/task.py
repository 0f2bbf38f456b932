"""The conversations as environments: one word of the agent is a token, a step and a turn."""

from __future__ import annotations

from typing import Any, ClassVar

from llm_gym.turns import TurnEnv, TurnVectorEnv
from llm_gym_known_optimum.talks.blackjack import Blackjack
from llm_gym_known_optimum.talks.kuhn import KuhnPoker
from llm_gym_known_optimum.talks.secrets import GuessTheNumber, TwentyQuestions, Wordle
from llm_gym_known_optimum.talks.talk import Talk, TalkWorld

__all__ = [
    "BlackjackEnv",
    "BlackjackVectorEnv",
    "GuessTheNumberEnv",
    "GuessTheNumberVectorEnv",
    "KuhnPokerEnv",
    "KuhnPokerVectorEnv",
    "TwentyQuestionsEnv",
    "TwentyQuestionsVectorEnv",
    "WordleEnv",
    "WordleVectorEnv",
]


def environment_kwargs(talk: Talk) -> dict[str, Any]:
    """Arguments of the turn environments (single and vector) that make them this game."""
    first, other = talk.longest
    return {
        "tokenizer": talk.tokenizer(),
        "world": lambda: TalkWorld(talk),
        "max_turn_tokens": 1,
        "max_turns": talk.max_turns,
        "context_length": first + talk.max_turns * (1 + other),
        "on_max_length": "terminate",
        "eos_token_id": (),
        "pad_token_id": 0,
        "world_time_limit": None,  # they never wait, and need no threads
    }


def _split(kind: type[Talk], arguments: dict[str, Any]) -> tuple[Talk, dict[str, Any]]:
    """The game, and all arguments of the turn environment."""
    talk = arguments.pop("talk", None)
    settings = {name: arguments.pop(name) for name in kind.options if name in arguments}
    if talk is None:
        talk = kind(**settings)
    elif settings:
        raise ValueError(
            f"talk= is given, so {sorted(settings)} have nothing to say: leave them out"
        )
    elif not isinstance(talk, kind):
        raise TypeError(f"talk={talk!r} must be a {kind.__name__}")
    return talk, {**environment_kwargs(talk), **arguments}


class _Single(TurnEnv):
    kind: ClassVar[type[Talk]]

    def __init__(self, **arguments: Any) -> None:
        self.talk, remaining = _split(self.kind, arguments)
        super().__init__(**remaining)


class _Vector(TurnVectorEnv):
    kind: ClassVar[type[Talk]]

    def __init__(self, **arguments: Any) -> None:
        self.talk, remaining = _split(self.kind, arguments)
        super().__init__(**remaining)


class GuessTheNumberEnv(_Single):
    """A number is guessed in as few turns as possible, and the fewest are known.

    ## Description
    The world thinks of a number from 1 to N and answers "more", "less" or "yes". Halving what is
    left takes 3.70 turns on average for N = 20, 4.86 for 50 and 5.80 for 100, and nothing takes
    fewer; `llm_gym_known_optimum.solve(env.unwrapped.talk)` has the optimum.

    ## Action Space
    `Discrete(N + 5)`: action k says the number k + 1. The last five are words of the world; each
    is a lost turn.

    ## Observation Space
    As of `llm_gym/Turns-v0`: "guess", then number and answer in turns.

    ## Rewards
    1 for the number, `-turn_cost` for every other guess. With `turn_cost=0` a slow
    agent is paid as much as a quick one, unless turns are discounted.

    ## Starting State
    A number, each equally likely.

    ## Episode End
    The number was said, or `max_turns` are over (an end, no truncation).

    ## Information
    As of `llm_gym/Turns-v0`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `numbers` | 20 | N |
    | `max_turns` | 10 | guesses |
    | `turn_cost` | 0.1 | what a wrong guess costs |
    | `talk` | | a `GuessTheNumber` of your own, in place of these |

    All others are those of `llm_gym/Turns-v0`.

    ## Version History
    - v0: first version.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed; the message says what to do.
    """

    kind = GuessTheNumber


class WordleEnv(_Single):
    """A small Wordle whose best play is known.

    ## Description
    The world thinks of one of 16 words of three letters, and marks each letter of a guess: `=` in
    its place, `+` elsewhere in the word, `.` not in it. The best play is found over all sets of
    words that can be left.

    ## Action Space
    `Discrete(V)`, V the words and all answers. The first 16 are words; another is a
    lost turn.

    ## Observation Space
    As of `llm_gym/Turns-v0`: "word?", then word and marks in turns.

    ## Rewards
    1 for the word, `-turn_cost` for every other guess.

    ## Starting State
    A word, each equally likely.

    ## Episode End
    The word was said, or `max_turns` are over (an end, no truncation).

    ## Information
    As of `llm_gym/Turns-v0`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `secrets` | `None` | words, all of one length; None: the 16 |
    | `max_turns` | 6 | guesses |
    | `turn_cost` | 0.1 | what a wrong guess costs |
    | `talk` | | a `Wordle` of your own, in place of these |

    All others are those of `llm_gym/Turns-v0`.

    ## Version History
    - v0: first version.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed; the message says what to do.
    """

    kind = Wordle


class TwentyQuestionsEnv(_Single):
    """Which animal is it? Questions about properties, and the fewest that find it are known.

    ## Description
    The world thinks of one of twelve animals. The agent asks about six properties ("fur?"), or
    names an animal. The best play is found over all sets of animals that can be left.

    ## Action Space
    `Discrete(23)`: six questions, then twelve names. A word of the world's is a
    lost turn.

    ## Observation Space
    As of `llm_gym/Turns-v0`: "ask", then question and answer in turns.

    ## Rewards
    1 for the name, `-turn_cost` for every other turn.

    ## Starting State
    An animal, each equally likely.

    ## Episode End
    The animal was named, or `max_turns` are over (an end, no truncation).

    ## Information
    As of `llm_gym/Turns-v0`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `max_turns` | 8 | questions and names; 20 as in the game, whose optimum takes longer to find |
    | `turn_cost` | 0.1 | what a question or a wrong name costs |
    | `talk` | | a `TwentyQuestions` of your own, in place of these |

    All others are those of `llm_gym/Turns-v0`.

    ## Version History
    - v0: first version.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed; the message says what to do.
    """

    kind = TwentyQuestions


class BlackjackEnv(_Single):
    """Blackjack with an infinite deck, in words.

    ## Description
    Rules of Sutton and Barto (example 5.1), as Gymnasium's `Blackjack-v1` has them with `sab=True`:
    the dealer stands on 17, and a natural wins against all but a natural. The best play loses
    0.0431 a game.

    ## Action Space
    `Discrete(V)`, V all words: 0 ("hit"), 1 ("stick"). Who says another forfeits.

    ## Observation Space
    As of `llm_gym/Turns-v0`: the dealer's card and the hand ("dealer6 soft14"),
    then what was said and the new hand in turns. "soft" has an ace that counts 11; "natural" is 21
    with two cards.

    ## Rewards
    1, 0 or -1 at the end. A forfeit pays -1.

    ## Starting State
    Two cards, and one of the dealer's. A natural is played, too.

    ## Episode End
    The agent sticks, or has more than 21.

    ## Information
    As of `llm_gym/Turns-v0`.

    ## Arguments
    Those of `llm_gym/Turns-v0`, and `talk`, a `Blackjack`.

    ## Version History
    - v0: first version.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed; the message says what to do.
    """

    kind = Blackjack


class KuhnPokerEnv(_Single):
    """Kuhn poker against a strategy.

    ## Description
    Three cards, an ante and one bet. The opponent plays `opponent`, by default an equilibrium,
    against which the first seat loses 1/18 a game and the second wins as much.
    `llm_gym_known_optimum.exploitability` says what a best response wins against a strategy.
    `env.unwrapped.talk.opponent` may be changed between conversations, for self-play.

    ## Action Space
    `Discrete(11)`: 0 ("pass"), 1 ("bet"), which answer a bet with a fold and a call. Who says
    another word forfeits.

    ## Observation Space
    As of `llm_gym/Turns-v0`: the seat and the card, in the second seat what the
    opponent has said ("second king passed"), then what was said in turns.

    ## Rewards
    What is won at the end, from -2 to 2. A forfeit pays -2.

    ## Starting State
    A seat and two cards, all equally likely.

    ## Episode End
    Both have passed, one has folded, or one has called.

    ## Information
    As of `llm_gym/Turns-v0`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `opponent` | `None` | probability of a bet at each of the places; None: an equilibrium |
    | `seat` | `None` | 0, 1, or None for either |
    | `talk` | | a `KuhnPoker` of your own, in place of these |

    All others are those of `llm_gym/Turns-v0`.

    ## Version History
    - v0: first version.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed; the message says what to do.
    """

    kind = KuhnPoker


class GuessTheNumberVectorEnv(_Vector):
    """N rows of `GuessTheNumberEnv`, stepped together.

    Args:
        **arguments: Those of `GuessTheNumberEnv` and of `llm_gym.TurnVectorEnv`.
    """

    kind = GuessTheNumber


class WordleVectorEnv(_Vector):
    """N rows of `WordleEnv`, stepped together.

    Args:
        **arguments: Those of `WordleEnv` and of `llm_gym.TurnVectorEnv`.
    """

    kind = Wordle


class TwentyQuestionsVectorEnv(_Vector):
    """N rows of `TwentyQuestionsEnv`, stepped together.

    Args:
        **arguments: Those of `TwentyQuestionsEnv` and of `llm_gym.TurnVectorEnv`.
    """

    kind = TwentyQuestions


class BlackjackVectorEnv(_Vector):
    """N rows of `BlackjackEnv`, stepped together.

    Args:
        **arguments: Those of `BlackjackEnv` and of `llm_gym.TurnVectorEnv`.
    """

    kind = Blackjack


class KuhnPokerVectorEnv(_Vector):
    """N rows of `KuhnPokerEnv`, stepped together.

    Args:
        **arguments: Those of `KuhnPokerEnv` and of `llm_gym.TurnVectorEnv`.
    """

    kind = KuhnPoker

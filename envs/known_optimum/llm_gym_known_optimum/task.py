"""`llm_gym/KnownOptimum-v0`: the text environment of a problem whose optimum is known."""

from __future__ import annotations

from typing import Any

from llm_gym.scorers.protocol import Columns, Scorer
from llm_gym.text import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym_known_optimum.problem import KnownOptimum

__all__ = ["KnownOptimumEnv", "KnownOptimumVectorEnv", "RewardTable"]

_OF_THE_PROBLEM = (
    "family",
    "vocab_size",
    "length",
    "num_prompts",
    "ends_early",
    "reference",
    "reference_spread",
    "beta",
    "problem_seed",
)


class RewardTable(Scorer):
    """Looks an answer's reward up.

    Args:
        problem: Whose rewards.
    """

    name = "known_optimum"

    def __init__(self, problem: KnownOptimum) -> None:
        self._reward_of = problem.reward_of

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> list[float]:
        """Rewards of a batch. See `Scorer.compute`."""
        return [self._reward_of(p, c) for p, c in zip(prompts, completions, strict=True)]


def environment_kwargs(problem: KnownOptimum) -> dict[str, Any]:
    """Arguments of the text environments (single and vector) that make them this problem."""
    tree = problem.tree
    return {
        "tokenizer": problem.tokenizer(),
        "prompts": problem.prompt_texts(),
        "scorer": RewardTable(problem),
        "max_new_tokens": tree.length,
        "eos_token_id": tree.n_words if tree.ends_early else (),
        "pad_token_id": 0,
    }


def _split(arguments: dict[str, Any]) -> tuple[KnownOptimum, dict[str, Any]]:
    """The problem, and what is left of the arguments for the text environment."""
    problem = arguments.pop("problem", None)
    settings = {name: arguments.pop(name) for name in _OF_THE_PROBLEM if name in arguments}
    if problem is None:
        problem = KnownOptimum.make(**settings)
    elif settings:
        names = sorted(settings)
        raise ValueError(f"problem= is given, so {names} have nothing to say: leave them out")
    elif not isinstance(problem, KnownOptimum):
        raise TypeError(f"problem={problem!r} must be a llm_gym_known_optimum.KnownOptimum")
    return problem, {**environment_kwargs(problem), **arguments}


class KnownOptimumEnv(TextGenerationEnv):
    """Text generation on which the best possible policy is known exactly.

    ## Description
    A few words, a few places, and a reward for every answer, drawn with a seed. There are so few
    answers that all of them can be listed, so what reinforcement learning with a penalty
    `beta KL(pi || pi_ref)` should find is a known number and a known distribution: `problem`
    (a `KnownOptimum`) has both, and the exact figures of any policy. The penalty itself is
    the learner's business, as always: pass `kl_coef=env.unwrapped.problem.beta`.

    ## Action Space
    `Discrete(V)`, the next word; `Discrete(V + 1)` where answers can end early: V ends them.

    ## Observation Space
    As of `llm_gym/TextGeneration-v0`: `input_ids`, `attention_mask`, `completion_mask`, each `(L,)`
    with L = words of a prompt + `length`.

    ## Rewards
    0 until the end of the episode, then the answer's reward, between 0 and 1, by `family`:

    | family | reward |
    |---|---|
    | "unique" | share of leading words that agree with the one best answer |
    | "additive" | sum over places of what the word is worth there |
    | "interaction" | sum over neighbours of what the pair is worth; single words tell nothing |
    | "length" | half mean worth of the words, half length; answers can end early |
    | "sparse" | 1 for one answer in twenty, else 0 |

    ## Starting State
    One of `num_prompts` prompts, as in `llm_gym/TextGeneration-v0`. Each has its own rewards.

    ## Episode End
    After `length` words, or where answers can end early with action V: scored, `terminated`.

    ## Information
    As of `llm_gym/TextGeneration-v0`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `family` | "additive" | see Rewards |
    | `vocab_size` | 4 | words V |
    | `length` | 4 | most words of an answer; `V ** length` answers must be listable |
    | `num_prompts` | 1 | prompts |
    | `ends_early` | `None` | action V ends an answer; None: in family "length" alone |
    | `reference` | "tabular" | reference model: "tabular" or "transformer" |
    | `reference_spread` | 1.0 | standard deviation of its logits |
    | `beta` | 0.1 | price of a nat of divergence from it |
    | `problem_seed` | 0 | of rewards and reference model |
    | `problem` | | a `KnownOptimum` of your own, in place of all of the above |

    All others are those of `llm_gym/TextGeneration-v0`.

    ```python
    env = gymnasium.make_vec(
        "llm_gym/KnownOptimum-v0", num_envs=64, autoreset_mode="SameStep", family="sparse"
    )
    problem = env.unwrapped.problem
    model = llm_gym.PPO(
        "TransformerPolicy",
        env,
        kl_coef=problem.beta,
        policy_kwargs=dict(model=problem.save_reference("reference")),
    )
    model.learn(20_000)
    problem.evaluate(model.policy).j_over_jstar
    ```

    ## Version History
    - v0: first version.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed; the message says what to do.
    """

    def __init__(self, **arguments: Any) -> None:
        self.problem, remaining = _split(arguments)
        super().__init__(**remaining)


class KnownOptimumVectorEnv(TextGenerationVectorEnv):
    """N rows of `KnownOptimumEnv`, stepped together.

    Args:
        **arguments: Those of `KnownOptimumEnv` and of `TextGenerationVectorEnv`.
    """

    def __init__(self, **arguments: Any) -> None:
        self.problem, remaining = _split(arguments)
        super().__init__(**remaining)

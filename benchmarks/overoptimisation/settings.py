"""Settings of the over-optimisation benchmark, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Settings:
    """What to do; the command line offers the number of seeds and a quick version."""

    # The world: small enough to list every answer to every prompt.
    words: int = 6
    answer_words: int = 6  # 6^6 = 46 656 answers to each of the 36 prompts of two words
    prompt_scale: float = 1.0  # of what a prompt wants of each word
    pair_scale: float = 0.3  # of what two neighbouring words are worth together
    enough: float = 1.0  # price of the square of a word's count: more is better until it is enough
    model_width: int = 64  # of the language model; narrower ones cannot tell the prompts apart
    model_spread: float = 0.18  # of the language model's weights: how far it is from uniform

    # The proxies.
    comparisons: tuple[int, ...] = (200, 2_000, 20_000)
    widths: tuple[int, ...] = (4, 16, 64)  # of the two hidden layers
    rater_slope: float = 1.0  # of the Bradley-Terry choice, per standard deviation of gold
    proxy_steps: int = 1_500
    proxy_patience: int = 300  # steps without a better validation loss
    proxy_learning_rate: float = 3e-3

    # The optimisation.
    seeds: int = 5  # each a world of its own
    first_seed: int = 10  # settings were chosen on seed 0
    largest_n: float = 1e6
    points: int = 40  # values of n, and of the temperature of the tilted policy
    sampled: int = 256  # answers a prompt for best-of-n by sampling
    iterations: int = 60  # of PPO
    episodes: int = 512  # an iteration
    learning_rate: float = 2e-4  # at the end; it rises from a tenth, for points near the start
    epochs: int = 2
    alarm_every: int = 6

    def quick(self) -> Settings:
        """A look at whether it works, in about a minute of CPU."""
        return replace(
            self,
            comparisons=(200, 4_000),
            widths=(32,),
            seeds=1,
            proxy_steps=400,
            iterations=30,
            episodes=256,
            learning_rate=4e-4,
        )

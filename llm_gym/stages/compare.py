"""Comparisons: a model answers prompts several times, and raters say which answer is better.

Everything is in one store (`llm_gym.feedback.preferences.PreferenceStore`), so people can vote with
`llm-gym label`, simulated raters here, and both can stop at any moment and go on.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.counting import counting
from llm_gym.files.ranges import check_choice
from llm_gym.files.settings import setting
from llm_gym.language_models.loading import DTYPES
from llm_gym.language_models.model_objects import ModelLike, named
from llm_gym.stages.by_name import (
    PromptsConfig,
    fitting_prompts,
    prompt_format_of,
    said_already,
    say_prompt_format,
)
from llm_gym.stages.environment import AnswerConfig
from llm_gym.stages.votes import met_biases, vote_figures, warn_of_unmet_biases

if TYPE_CHECKING:
    from llm_gym.feedback.preferences import Comparison, PreferenceStore, SimulatedRater
    from llm_gym.language_models.chat import PromptFormat
    from llm_gym.text.prompts import PromptRow

RATERS = ("people", "simulated")
SEED_COLUMN = "sampling_seed"
_MADE_BY = ("model", "temperature", "prompt_format")  # columns of every comparison
MAX_NEW_TOKENS = 80
"""Of an answer, where nobody says how many and the model's context holds them."""

_ROUNDS = 4  # tries to get two different answers to one prompt
_CHUNK = 64  # prompts whose answers are sampled, and written, at a time


@dataclass(frozen=True)
class CompareConfig(AnswerConfig):
    """What is compared, and by whom."""

    model: str = setting(
        "llm_gym/email-sft", "name or directory of the model whose answers are compared"
    )
    prompts: str | None = setting(
        None, "file of prompts: .txt, .jsonl, .json, .csv or .parquet; default: requests for emails"
    )
    max_prompts: int = setting(200, "only the first so many")
    pairs_per_prompt: int = setting(1, "comparisons of each prompt, of two answers each")
    prompt_template: str | None = setting(
        None, "text around {prompt}; default: the tokenizer's chat"
    )
    max_new_tokens: int | None = setting(
        None, f"most tokens of an answer; default: {MAX_NEW_TOKENS}, or what fits"
    )
    temperature: float = setting(1.0, "temperature at which answers are sampled")
    raters: str = setting("people", "who votes: people (with `llm-gym label`), or simulated")
    simulated_raters: int = setting(3, "how many of them there are")
    votes_per_comparison: int = setting(2, "raters who judge each comparison")
    true_rater: str = setting("politeness", "what simulated raters go by; named as scorers are")
    rater_noise: float = setting(10.0, "scale of their noise, in units of the true rater's score")
    rater_lapse: float = setting(0.0, "share of their votes that are cast without looking")
    length_bias: float = setting(
        0.0, "worth of each word to them, in units of the true rater's score"
    )
    flattery_bias: float = setting(
        0.0, "worth of each flattering word or phrase, in the same units"
    )
    dtype: str = setting(
        "float32", "type of the weights: float32, bfloat16, float16, float64 or auto (the file's)"
    )
    seed: int = setting(0, "seed of sampling and votes")
    device: str = setting("cpu", "where the model runs, and a rater that is one")

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", named(self.model))
        super().__post_init__()
        check_choice("raters", self.raters, RATERS)
        check_choice("dtype", self.dtype, DTYPES)
        if self.raters == "simulated" and self.votes_per_comparison > self.simulated_raters:
            raise ValueError(
                f"votes_per_comparison={self.votes_per_comparison} is more than there are raters; "
                f"raise simulated_raters={self.simulated_raters} or lower it"
            )

    @property
    def biases(self) -> dict[str, float]:
        """Weights of the biases of simulated raters, by name; 0 for one that they do not have."""
        from llm_gym.feedback.preferences.biases import BIASES

        return {name: getattr(self, f"{name}_bias") for name in BIASES}


def compare(
    store: str | Path,
    config: CompareConfig | None = None,
    *,
    prompts: Sequence[PromptRow] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fills a store with comparisons of a model's answers, and with votes if raters are simulated.

    Calling it again goes on where it stopped, and with the same settings gives the same comparisons
    and the same votes as if it had not been interrupted.

    Args:
        store: File of the comparisons; made if missing.
        config: Settings; None means the defaults.
        prompts: Instead of those of the settings, which are for the command line.
        quiet: No progress bar.

    Returns:
        See `vote_figures` and, of `biases`, `met_biases` in `llm_gym.stages.votes`. A bias of
        simulated raters that meets no case is warned of.

    Raises:
        ValueError: A setting does not fit, or the model gave no two different answers to any
            prompt.
    """
    from llm_gym.feedback.preferences import PreferenceStore, rate_store

    config = config or CompareConfig()
    if prompts is None:
        prompts = comparison_prompts(config.prompts, config.max_prompts, config)
    rows = list(prompts)
    raters = simulated_raters(config) if config.raters == "simulated" else []
    with PreferenceStore(store) as opened:
        sample_into(opened, rows, config, quiet=quiet)
        if raters:
            rate_store(opened, raters, votes_per_comparison=config.votes_per_comparison)
        figures = vote_figures(opened, config.votes_per_comparison)
        figures["biases"] = met_biases(list(opened.comparisons()), config.biases)
    if raters:
        warn_of_unmet_biases(figures["biases"])
    return figures


def sample_into(
    store: PreferenceStore,
    prompts: Sequence[PromptRow],
    config: CompareConfig,
    *,
    quiet: bool = False,
) -> None:
    """Samples answers into a store, a chunk of prompts at a time.

    The answers to a chunk depend on the seed and the chunk alone, and are added all or none: a
    chunk that is there is not sampled again.

    Args:
        store: To add the comparisons to.
        prompts: With different texts.
        config: Model and sampling.
        quiet: No progress bar.

    Raises:
        ValueError: Nothing in the store can be compared afterwards.
    """
    source = (config.model, config.seed)
    sampled = {
        row.prompt
        for row in store.comparisons()
        if (row.columns.get("model"), row.columns.get(SEED_COLUMN)) == source
    }
    shown = prompt_format_of(config.model, config.prompt_template, config.add_special_tokens)
    prompts, options = fitting_options(config.model, prompts, config, MAX_NEW_TOKENS, shown)
    if not quiet:
        say_prompt_format(shown)
    chunks = [prompts[start : start + _CHUNK] for start in range(0, len(prompts), _CHUNK)]
    with (
        said_already(),
        counting("sampling answers", len(prompts), "prompts", quiet=quiet) as advance,
    ):
        for number, chunk in enumerate(chunks):
            if not any(row.text in sampled for row in chunk):
                marked = [
                    row._replace(columns={**row.columns, SEED_COLUMN: source[1]}) for row in chunk
                ]
                comparisons = sample_comparisons(
                    config.model,
                    [row for row in marked for _ in range(config.pairs_per_prompt)],
                    temperature=config.temperature,
                    # Room for the further tries of a chunk, so that no two chunks share a seed.
                    seed=100_003 * config.seed + 16 * number,
                    device=config.device,
                    dtype=config.dtype,
                    **options,
                )
                store.add(comparisons)
            advance(len(chunk))
    if not store.progress().comparisons:
        raise ValueError(
            f"{config.model} gave no two different answers to any of {len(prompts)} prompts, so "
            f"there is nothing to compare; raise temperature={config.temperature} or take "
            "another model"
        )


def fitting_options(
    model: str,
    prompts: Sequence[PromptRow],
    config: AnswerConfig,
    max_new_tokens: int,
    shown: PromptFormat,
) -> tuple[list[PromptRow], dict[str, Any]]:
    """Prompts beside which a model's context has room, and how `sample_comparisons` is to ask.

    Args:
        model: Name or path of the language model.
        prompts: To be answered.
        config: How prompts are read and answers end.
        max_new_tokens: Of an answer, where the settings say none and the context holds them.
        shown: How the model is shown its prompts.
    """
    from llm_gym.text.prompts import storable

    own = storable(prompts, (*_MADE_BY, SEED_COLUMN))
    rows, most = fitting_prompts(model, own, config, config.max_new_tokens, max_new_tokens, shown)
    options = config.ending_options() | config.fitted_options()
    return rows, {**options, "prompt_template": shown, "max_new_tokens": most}


def sample_comparisons(
    model: ModelLike,
    prompts: Sequence[PromptRow],
    *,
    prompt_template: str | PromptFormat | None = None,
    max_new_tokens: int = 96,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    **options: Any,
) -> list[Comparison]:
    """Lets a model answer every prompt twice.

    Args:
        model: Name or directory of a causal language model, or a model.
        prompts: What to answer; their columns go with the comparison.
        prompt_template: Text around the prompt; None takes the tokenizer's chat template, if there
            is one. With a format that is ready the tokenizer is not loaded again.
        max_new_tokens: Most tokens of an answer.
        temperature: Temperature of the sampling.
        seed: Seed of the sampling.
        device: Where the model runs.
        dtype: Type of its weights, as for `load_causal_lm`.
        **options: Further arguments of the environment that asks; None means not given.

    Returns:
        One comparison for each prompt to which the model gave two different answers; it is asked
        again a few times where it gave the same twice, or nothing.
    """
    from llm_gym.feedback.preferences import Comparison
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs, no_score

    model = named(model)
    shown = prompt_format_of(model, prompt_template)
    kwargs = environment_kwargs(
        TEXT_GENERATION,
        model,
        prompt_template=shown,
        max_new_tokens=max_new_tokens,
        **options,
    )
    kwargs["scorer"] = no_score
    answers: list[dict[str, None]] = [{} for _ in prompts]  # of each prompt, in order, once each
    for round_ in range(_ROUNDS):
        open_ = [index for index, different in enumerate(answers) if len(different) < 2]
        if not open_:
            break
        twice = [index for index in open_ for _ in range(2)]
        with said_already() if round_ else nullcontext():
            sampled = evaluate(
                model,
                {**kwargs, "prompts": [prompts[index]._replace(columns={}) for index in twice]},
                policy_kwargs={"temperature": temperature, "dtype": dtype},
                seed=seed + round_,
                device=device,
            )
        for index, row in zip(twice, sampled.rows, strict=True):
            if row.completion.strip():
                answers[index][row.completion] = None
    made_by = dict(zip(_MADE_BY, (model, temperature, shown.shown), strict=True))
    return [
        Comparison(str(prompt.text), (first, second), {**prompt.columns, **made_by})
        for prompt, (first, second) in (
            (prompt, list(different)[:2])
            for prompt, different in zip(prompts, answers, strict=True)
            if len(different) >= 2
        )
    ]


def simulated_raters(config: CompareConfig) -> list[SimulatedRater]:
    """The raters that the settings describe: of one taste, each with a noise of its own."""
    from llm_gym.feedback.preferences import SimulatedRater
    from llm_gym.feedback.preferences.biases import BIASES
    from llm_gym.scorers.by_name import scorer_from_name

    quality = scorer_from_name(config.true_rater, config.device)
    biases = tuple(BIASES[name](weight) for name, weight in config.biases.items() if weight)
    return [
        SimulatedRater(
            quality,
            name=f"simulated-{number + 1}",
            temperature=config.rater_noise,
            biases=biases,
            lapse=config.rater_lapse,
            seed=config.seed,
        )
        for number in range(config.simulated_raters)
    ]


def how_to_label(store: str | Path, votes_per_comparison: int) -> str:
    """The command with which people vote."""
    more = f" --votes-per-comparison {votes_per_comparison}" if votes_per_comparison > 1 else ""
    return f"llm-gym label {shlex.quote(str(store))}{more}"


def comparison_prompts(
    path: str | None, max_prompts: int | None, config: PromptsConfig
) -> list[PromptRow]:
    """Different prompts to be compared on, as a store keeps them.

    Args:
        path: A file of prompts; None takes built-in requests for emails.
        max_prompts: Only the first so many; None takes all, of the built-in ones 100.
        config: How the file is read.
    """
    from llm_gym.polite_email import email_prompts
    from llm_gym.text.prompts import PromptRow, storable

    if path is None:
        return [PromptRow(text, {}) for text in email_prompts("train", max_prompts or 100)]
    rows = [_with_its_turns(row) for row in storable(config.read(path))]
    return list({row.text: row for row in rows}.values())[:max_prompts]


def _with_its_turns(row: PromptRow) -> PromptRow:
    """A conversation with its messages in a column that the store keeps."""
    from llm_gym.feedback.preferences.records import MESSAGES
    from llm_gym.scorers.texts import messages_of

    messages = messages_of(row.text)
    return row if messages is None else row._replace(columns={**row.columns, MESSAGES: messages})

"""Text generation as a Gymnasium environment."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from llm_gym.files.generators import generator_from, generator_state
from llm_gym.files.schema import record
from llm_gym.text.episodes import Episodes, Observation
from llm_gym.text.mdp import TextMDP, TextProperties, check_reset_options
from llm_gym.text.prompts import Prompt
from llm_gym.text.rendering import (
    RENDER_MODES,
    as_text,
    check_render_mode,
    frame_of,
    render,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack

    from llm_gym.text.options import OptionKeywords

    TokenizerLike: TypeAlias = "PreTrainedTokenizerBase | str | PathLike[str]"
    PromptsLike: TypeAlias = "Iterable[str | Mapping[str, Any]] | str | PathLike[str]"
    ScorerLike: TypeAlias = "Callable[..., Sequence[float | None]] | str"


class TextGenerationEnv(TextProperties, gym.Env[Observation, np.int64]):
    """Text generation, one token an action.

    ## Description
    An episode starts with a prompt. Each action is the next token of the completion; when the
    completion ends, a scorer judges it, and its score is the reward. The state is exactly the
    prompt's token ids followed by the actions: what the agent wrote is never re-tokenised. The
    environment holds no language model.

    ## Action Space
    `Discrete(V)`: the id of the next token. Special tokens count as any other.

    ## Observation Space
    `Dict`, right-padded to `L = max_prompt_tokens + max_new_tokens`:

    | key               | dtype | shape  | range           | meaning                              |
    |-------------------|-------|--------|-----------------|--------------------------------------|
    | `input_ids`       | int64 | `(L,)` | 0 .. max(V-1, pad) | prompt, completion, padding       |
    | `attention_mask`  | int8  | `(L,)` | 0 .. 1          | 1 where there is a token, 0 in padding |
    | `completion_mask` | int8  | `(L,)` | 0 .. 1          | 1 where the token is an action       |

    Step number, prompt length and remaining budget follow from the masks. Arrays are new at each
    step. Padding is told by the mask, never by the id: pad may equal EOS.

    ## Rewards
    0 until the end of the episode, then the score of the completion (see Episode End). With
    `scorer_scope="token"` the scorer is asked after every token, and the reward is what that token
    has changed in the score: the sum over the episode is the same.

    ## Starting State
    The next prompt: in shuffled order (each pass over the list newly shuffled with the
    environment's generator) or in sequential order. `reset(seed=...)` starts the walk anew. Reset
    options: `{"prompt": text}` (or the messages of a conversation, or a dict with either under
    "prompt" and columns for the scorer) and `{"prompt_index": i}` choose the prompt and leave the
    walk where it is.

    ## Episode End
    - An EOS token or a stop string: scored, `terminated`.
    - The length budget: by `on_max_length`, "terminate" (scored, `terminated`), "truncate" (not
      scored, reward 0, `truncated`: a learner bootstraps) or "penalise" (not scored, reward
      `missing_eos_penalty`, `terminated`). An episode is never both scored and truncated.

    ## Information
    At reset: `prompt` and `prompt_index` (-1 for a prompt from the options). At the last step:
    `prompt` again, `completion` (text without EOS, special tokens and stop string, with the space
    that may stand between prompt and completion), `stop_reason` ("eos",
    "stop_string" or "length"), `score` if it was scored, `score_parts` if the scorer has named
    parts, `scorer_error` if it failed. At every step, if actions are masked: `action_mask`, int8
    `(V,)`, all ones once the episode has ended. Nothing else.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `tokenizer` | | Hugging Face tokenizer, or path or hub name of one; never changed |
    | `prompts` | | a path, a list of str, of conversations (lists of messages, shown by the chat template with all their turns) or of dicts (other keys are columns, which the scorer gets by name), a `datasets.Dataset`, a DataFrame, or an iterator (one pulled a reset); all that is read: `docs/data.md` |
    | `scorer` | | `scorer(prompts, completions, **columns) -> floats`, batched; TRL reward functions fit; or the name of a scorer, such as "politeness" or "length:20" |
    | `render_mode` | `None` | "ansi": `render()` returns text; "rgb_array": a picture (needs Pillow); "human": printed at every step |
    | `max_new_tokens` | 64 | length budget of the completion |
    | `max_prompt_tokens` | `None` | None: the longest prompt of the list; required for a stream |
    | `context_length` | `None` | tokens that the model can read: a prompt must leave room for `max_new_tokens` in it |
    | `too_long` | "error" | what becomes of longer prompts; or "drop" them, or "truncate" them to their last tokens, with a warning |
    | `prompt_column` | `None` | the column with the prompt; None: the first of "prompt", "messages", "conversations" and "instruction" |
    | `bad_rows` | "error" | or "skip": prompts that cannot be read are left out, with a warning |
    | `prompt_template` | `None` | None: the tokenizer's chat template, or the bare prompt if it has none; else a format string, filled with the prompt's columns ("{prompt}" is the bare prompt). The scorer gets the raw prompt. `env.unwrapped.prompt_format` says what is used |
    | `add_special_tokens` | `None` | let the tokenizer add its BOS to prompts (never a second one, never an EOS); None: unless the chat template is used, which writes it |
    | `prompt_order` | "shuffled" | or "sequential" |
    | `shard` | (0, 1) | (index, number): use every n-th prompt only, starting at the index |
    | `eos_token_id` | `None` | id or ids that end an episode; None: the tokenizer's EOS, those of the model's `generation_config.json` (of the directory or hub's name that the tokenizer is from; `evaluate` and the commands ask the model itself) and the end of a turn in the chat template; (): none |
    | `pad_token_id` | `None` | None: the tokenizer's |
    | `vocab_size` | `None` | V; None: `len(tokenizer)`; pass the model's if that is larger |
    | `stop_strings` | () | strings that end an episode, wherever token boundaries fall |
    | `on_max_length` | "terminate" | or "truncate", "penalise": see Episode End |
    | `missing_eos_penalty` | -1.0 | reward of "penalise" |
    | `forbidden_token_ids` | () | ids that are masked |
    | `min_new_tokens` | 0 | EOS is masked before this many tokens |
    | `allowed_token_ids` | `None` | ids that alone are allowed, or `f(prompt_ids, completion_ids)` returning them |
    | `scorer_scope` | "episode" | or "token": the scorer is asked after every token, see Rewards |
    | `scorer_time_limit` | `None` | seconds that a call of the scorer may take; it then runs in a process of its own, which is killed: a scorer error of the row at fault |
    | `on_scorer_error` | "raise" | or "penalise": the reward is then `scorer_error_penalty` |
    | `scorer_error_penalty` | 0.0 | see above |

    A masked action raises `ValueError`. `action_masks()` follows sb3-contrib's MaskablePPO.

    ```python
    env = gymnasium.make(
        "llm_gym/TextGeneration-v0",
        tokenizer="gpt2",
        prompts=["Once upon a time"],
        scorer=lambda prompts, completions: [float(len(c)) for c in completions],
        max_new_tokens=20,
    )
    ```

    ## Version History
    - v0: first version.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed; the message says what to do.
    """  # noqa: E501 -- a table row cannot be broken

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 10}  # type: ignore[misc]

    def __init__(
        self,
        tokenizer: TokenizerLike,
        prompts: PromptsLike,
        scorer: ScorerLike,
        *,
        render_mode: str | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._mdp = TextMDP(tokenizer, prompts, scorer, options)
        self._episodes = Episodes(self._mdp, num_rows=1)
        self.observation_space = self._mdp.observation_space  # type: ignore[assignment]
        self.action_space = self._mdp.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode.

        Args:
            seed: Seeds the generator that shuffles the prompts and starts the walk anew.
            options: `{"prompt": ...}` or `{"prompt_index": ...}`.

        Returns:
            Observation and info.

        Raises:
            ValueError: An option is unknown, or its prompt is empty, too long or does not exist.
        """
        prompt = self._chosen_prompt(options)
        super().reset(seed=seed)
        if seed is not None:
            self._episodes.restart_cursor(0)
        info = self._episodes.begin(0, self.np_random, prompt)
        self._add_mask(info)
        self._draw()
        return self._episodes.row_observation(0), info

    def _chosen_prompt(self, options: Mapping[str, Any] | None) -> Prompt | None:
        options = check_reset_options(options, ("prompt", "prompt_index"))
        if "prompt" in options:
            return self._mdp.prompt_at_reset(options["prompt"])
        if "prompt_index" in options:
            index = options["prompt_index"]
            if isinstance(index, bool) or not isinstance(index, numbers.Integral):
                raise TypeError(f"prompt_index={index!r} must be a whole number")
            return self._mdp.source.get(int(index))
        return None

    def step(
        self, action: int | np.integer | np.ndarray
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Appends a token.

        Args:
            action: Id of the next token.

        Returns:
            Observation, reward, terminated, truncated and info.

        Raises:
            ResetNeeded: There is no running episode.
            ValueError: The action is not in the action space, or masked.
            ScorerError: The scorer failed and `on_scorer_error` is "raise".
        """
        if not self._episodes.running[0]:
            raise ResetNeeded("step() needs a running episode: call reset() first")
        token = np.asarray(action)
        if token.size != 1 or token.dtype.kind not in "iu":
            raise ValueError(f"action {action!r} is not a token id: pass one integer")
        step = self._episodes.step(token.reshape(1))
        outcome = step.outcomes.get(0)
        info = dict(outcome.info) if outcome else {}
        self._add_mask(info)
        self._draw()
        return (
            self._episodes.row_observation(0),
            float(step.rewards[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            info,
        )

    def _add_mask(self, info: dict[str, Any]) -> None:
        masks = self._episodes.update_masks()
        if masks is not None:
            info["action_mask"] = masks[0].copy()

    def action_masks(self) -> np.ndarray:
        """Which actions are allowed now: bool `(V,)`, as MaskablePPO asks for."""
        return self._episodes.action_masks()[0]

    def render(self) -> Any:
        """The episode now, as the render mode says.

        Returns:
            Text ("ansi"); uint8 `(540, 960, 3)` ("rgb_array"); None
            ("human", which has printed it).

        Raises:
            gymnasium.error.DependencyNotInstalled: "rgb_array" without Pillow.
            ResetNeeded: There was no episode yet.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() needs a render mode: make the environment with render_mode='ansi' for "
                "text or 'rgb_array' for pictures"
            )
            return None
        return render(frame_of(self._episodes, 0), self.render_mode)

    def _draw(self) -> None:
        if self.render_mode == "human":
            show(as_text(frame_of(self._episodes, 0)) + "\n")

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue exactly: JSON-able, as far as the prompts' columns are.

        Returns:
            State for `set_state`: generator, place in the prompts, tokens of the episode.
        """
        return {
            "rng": self.np_random.bit_generator.state,
            "episodes": self._episodes.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> Observation:
        """Continues from a state of `get_state`, of an environment made with the same arguments.

        Args:
            state: The state.

        Returns:
            The observation at that moment.

        Raises:
            ValueError: The state does not fit, or the prompts are a stream that is past it.
        """
        self.check_state("the state", state)
        self._episodes.set_state(state["episodes"])
        self.np_random = generator_from(state["rng"])
        return self._episodes.row_observation(0)

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state.

        Args:
            name: Of the state, for messages.
            state: The state.
        """
        record({"episodes": self._episodes.check_state, "rng": generator_state})(name, state)

"""Text generation as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from llm_gym.text.episodes import Episodes
from llm_gym.text.mdp import TextMDP, TextProperties
from llm_gym.text.token_env import TokenEnv

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack

    from llm_gym.text.options import OptionKeywords

    TokenizerLike: TypeAlias = "PreTrainedTokenizerBase | str | PathLike[str]"
    PromptsLike: TypeAlias = "Iterable[str | Mapping[str, Any]] | str | PathLike[str]"
    ScorerLike: TypeAlias = "Callable[..., Sequence[float | None]] | str"


class TextGenerationEnv(TextProperties, TokenEnv):
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

    def __init__(
        self,
        tokenizer: TokenizerLike,
        prompts: PromptsLike,
        scorer: ScorerLike,
        *,
        render_mode: str | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        mdp = TextMDP(tokenizer, prompts, scorer, options)
        super().__init__(mdp, Episodes(mdp, num_rows=1), render_mode)

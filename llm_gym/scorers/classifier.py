"""A Hugging Face sequence classifier or reward model as a scorer."""

from __future__ import annotations

import copy
import inspect
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.files.ranges import COUNT, check_choice, check_device, check_numbers, shown
from llm_gym.language_models.adapter_files import is_adapter
from llm_gym.language_models.chat import by_chat_template, plain_text
from llm_gym.language_models.classifier_adapters import load_classifier
from llm_gym.language_models.embedded import fetch
from llm_gym.language_models.loading import (
    check_safetensors,
    load_tokenizer,
    model_source,
    refuse_diverged,
    refuse_oversized,
)
from llm_gym.language_models.memory import check_loading
from llm_gym.language_models.packing import by_length, pad_inputs
from llm_gym.scorers.protocol import Columns, Scorer
from llm_gym.scorers.texts import conversation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LONGEST_TEMPLATE = 100_000
_NO_TEMPLATE = "pass another template=, such as '{prompt} {completion}', or that of a pair"
OUTPUTS = ("score", "logit", "probability")
Row = dict[str, list[int]]  # what the tokenizer makes of one text: input_ids, token_type_ids, ...


class SequenceClassifierScorer(Scorer):
    """Scores with a sequence classifier: sentiment, toxicity, a reward model with one logit.

    What does not fit into `max_length` is cut off from the left: first the prompt's beginning, and
    the completion's only when no prompt is left.

    Args:
        model: Local directory, hub name, or a loaded model (which is put into evaluation mode).
            Code from the hub is never run.
        tokenizer: The model's tokenizer (copied, never changed); None loads the one saved with the
            model, and is only possible if `model` is a directory or name.
        label: The label whose figure is the score, by name or index. May be None if there is but
            one.
        output: "logit": the label's logit. "probability": the sigmoid of it if the model is
            multi-label or has one label, else the label's share of the softmax. "score": the
            logit if the model has one label, else the probability.
        template: How prompt and completion become the model's input. None: as a pair, the
            tokenizer's own way (`[CLS] prompt [SEP] completion [SEP]`). "chat": the tokenizer's
            chat template, as one turn of the user and one of the assistant, or with all turns that
            a prompt made of messages has. Anything else: a format string with `{completion}` and,
            if wanted, `{prompt}`. Without a chat template the turns of messages are written out,
            "role: content".
        max_length: Tokens the model may be given; None takes what model and tokenizer allow.
        batch_size: Texts per forward pass.
        device: Where to run; None leaves a loaded model where it is and puts a new one on the CPU.
        dtype: Weights' type of a model loaded here, e.g. "bfloat16" or "auto" (as saved).
        name: Name in messages; None takes the last part of the model's name.

    Raises:
        ValueError: The model cannot be loaded or has no trained classification head, the label is
            unknown or missing, or an option has an unknown value.
        TypeError: A loaded model without a tokenizer.
        FileNotFoundError: The directory, or its weights in safetensors, are missing.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        label: str | int | None = None,
        output: str = "score",
        template: str | None = None,
        max_length: int | None = None,
        batch_size: int = 16,
        device: str | torch.device | None = None,
        dtype: str = "float32",
        name: str | None = None,
    ) -> None:
        check_choice("output", output, OUTPUTS)
        check_numbers(batch_size=batch_size)
        if max_length is not None:
            COUNT.check("max_length", max_length)
        if device is not None:
            check_device("device", device)
        if isinstance(model, (str, Path)):
            loaded, own_tokenizer = _load(model, dtype, with_tokenizer=tokenizer is None)
            self.model, tokenizer = loaded, tokenizer or own_tokenizer
        else:
            self.model = model
        if tokenizer is None:
            raise TypeError("tokenizer is None; a loaded model needs its tokenizer passed as well")
        if device is not None:
            self.model.to(device)
        self.model.eval()
        self.tokenizer = copy.deepcopy(tokenizer)
        self.tokenizer.truncation_side = "left"
        check_template(template, self.tokenizer)
        self.template = template
        self.output = output
        self.label = _find_label(self.model.config, label)
        self.max_length = max_length or _longest_input(self.model.config, self.tokenizer)
        self.pad_token_id: int | None = self.model.config.get_text_config().pad_token_id
        # Without a pad token a model of the GPT kind cannot tell where a padded text ends.
        self.batch_size = 1 if self.pad_token_id is None else batch_size
        self.name = name or Path(self.model.config.name_or_path or "classifier").name
        self._inputs = set(inspect.signature(self.model.forward).parameters)

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> np.ndarray:
        """Classifies in batches of texts of similar length. See `Scorer.compute`."""
        rows = [self._encode(*pair) for pair in zip(prompts, completions, strict=True)]
        self.check_ends(rows)
        values = np.empty(len(rows))
        for numbers in by_length([len(row["input_ids"]) for row in rows], self.batch_size):
            values[numbers] = self._classify([rows[number] for number in numbers])
        return values

    def _classify(self, rows: list[Row]) -> np.ndarray:
        import torch

        inputs = pad_inputs(rows, self.pad_token_id or 0, device=self.model.device)
        with torch.inference_mode():
            logits = self.model(**inputs).logits.float()  # (B, labels)
        return self._figure(logits).cpu().numpy()

    def _figure(self, logits: torch.Tensor) -> torch.Tensor:
        chosen = logits[:, self.label]
        alone = logits.shape[1] == 1
        if self.output == "logit" or (self.output == "score" and alone):
            return chosen
        if alone or self.model.config.problem_type == "multi_label_classification":
            return chosen.sigmoid()
        return logits.softmax(dim=-1)[:, self.label]

    def _encode(self, prompt: str, completion: str) -> Row:
        if self.template is None:
            row = self._encode_pair(plain_text(prompt), completion)
        elif self.template == "chat":
            messages = conversation(prompt, completion)
            chat = by_chat_template(self.tokenizer, messages, ask=False, instead=_NO_TEMPLATE)
            row = self._tokenize(chat, truncation=True, add_special_tokens=False)
        else:
            text = self.template.format(prompt=plain_text(prompt), completion=completion)
            row = self._with_one_bos(self._tokenize(text, truncation=True))
        return {key: ids for key, ids in row.items() if key in self._inputs}

    def check_ends(self, rows: Sequence[Row]) -> None:
        """Refuses texts of which an encoder with a decoder could not tell where they end.

        Args:
            rows: What the tokenizer made of them.

        Raises:
            ValueError: The model reads its score at the EOS token, and a text has none, or more of
                them than others.
        """
        config: Any = self.model.config
        if not getattr(config, "is_encoder_decoder", False):
            return
        numbers = sorted({row["input_ids"].count(config.eos_token_id) for row in rows})
        if numbers[1:] or numbers == [0]:
            raise ValueError(
                f"{self.name!r} is an encoder with a decoder ({config.model_type}), which reads a "
                "score at the token that ends a text, and by its tokenizer and "
                f"template={self.template!r} texts have {' or '.join(map(str, numbers))} of it: "
                "take a tokenizer that adds one, another template, an encoder or a decoder"
            )

    def _with_one_bos(self, row: Row) -> Row:
        """Takes the tokenizer's BOS away where the template has written one."""
        bos, ids = self.tokenizer.bos_token_id, row["input_ids"]
        if bos is None or ids[:2] != [bos, bos]:
            return row
        return {key: values[1:] for key, values in row.items()}

    def _encode_pair(self, prompt: str, completion: str) -> Row:
        row = self._tokenize(prompt, completion, truncation=False)
        if self.max_length is None or len(row["input_ids"]) <= self.max_length:
            return row
        without_prompt = self._tokenize("", completion, truncation=False)
        if len(without_prompt["input_ids"]) < self.max_length:
            return self._tokenize(prompt, completion, truncation="only_first")
        return self._tokenize("", completion, truncation="only_second")

    def _tokenize(self, *texts: str, truncation: bool | str, **options: Any) -> Row:
        if self.max_length is None or truncation is False:
            limit: dict[str, Any] = {"truncation": False}
        else:
            limit = {"truncation": truncation, "max_length": self.max_length}
        # Not verbose: it would warn of every text that `_encode_pair` only measures.
        return self.tokenizer(*texts, return_attention_mask=True, verbose=False, **limit, **options)

    def __repr__(self) -> str:
        return f"SequenceClassifierScorer({self.name!r}, label={self.label}, {self.output!r})"


def _load(
    name_or_path: str | Path, dtype: str, *, with_tokenizer: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if is_adapter(fetch(name_or_path)):
        model = load_classifier(name_or_path, dtype=dtype)
        return model, load_tokenizer(name_or_path) if with_tokenizer else None
    source = model_source(name_or_path)
    check_safetensors(source)
    refuse_oversized(source)
    check_loading(source, dtype, name_or_path)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
        tokenizer = (
            AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            if with_tokenizer
            else None
        )
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ...
        raise ValueError(
            f"model={str(name_or_path)!r} cannot be loaded as a sequence classifier: {error}"
        ) from error
    if info["missing_keys"]:
        raise ValueError(
            f"model={str(name_or_path)!r} is not a complete sequence classifier: its checkpoint "
            f"lacks {sorted(info['missing_keys'])}, so the scores would be random"
        )
    refuse_diverged(model, name_or_path)
    return model, tokenizer


def check_template(template: str | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises `ValueError` unless texts can be put into a template.

    Args:
        template: As for `SequenceClassifierScorer`.
        tokenizer: The model's own.
    """
    if template == "chat":
        if not tokenizer.chat_template:
            raise ValueError("template='chat', but the tokenizer has no chat template")
    elif template is not None and not _is_format_string(template):
        raise ValueError(
            "template must be None, 'chat' or a format string with {completion} and perhaps "
            f"{{prompt}}, and with nothing else in braces, got {shown(template)}"
        )


def _is_format_string(template: Any) -> bool:
    """Whether the parts in braces are the two names, without widths, which may be of any size."""
    if not isinstance(template, str) or len(template) > _LONGEST_TEMPLATE:
        return False
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError:  # a brace too many
        return False
    plain = all(not spec and not conversion for _, _, spec, conversion in parts)
    names = [name for _, name, _, _ in parts]
    return plain and "completion" in names and {*names} <= {"prompt", "completion"}


def _find_label(config: Any, label: str | int | None) -> int:
    names: dict[int, str] = config.id2label
    listing = ", ".join(f"{index}: {name!r}" for index, name in sorted(names.items()))
    if label is None:
        if len(names) == 1:
            return 0
        raise ValueError(f"label is None, but the model has several; choose one of {listing}")
    if isinstance(label, int) and not isinstance(label, bool) and label in names:
        return label
    matches = [index for index, name in names.items() if name == label]
    if len(matches) != 1:
        raise ValueError(f"label={label!r} is not one of the model's labels {listing}")
    return matches[0]


def _longest_input(config: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    # Without a limit a tokenizer says 1e30, and XLNet's configuration -1.
    limits = [getattr(config.get_text_config(), "max_position_embeddings", None)]
    limits.append(tokenizer.model_max_length if tokenizer.model_max_length < 1e12 else None)
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)

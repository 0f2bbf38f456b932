"""A reward model that reads pooled hidden states: any trunk, some of its layers, a linear head.

The trunk is an ordinary Hugging Face encoder or decoder, kept as its own directory's `config.json`
and `model.safetensors`; the head stands beside it in `reward_head.json` and
`reward_head.safetensors`. Layer 0 is the embeddings, layer n the output of the n-th block.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModel
from transformers.modeling_outputs import SequenceClassifierOutput

from llm_gym.feedback.reward_model.scorer import HEAD
from llm_gym.files import schema
from llm_gym.files.atomic import write_json
from llm_gym.files.ranges import check_choice
from llm_gym.language_models import load_causal_lm, load_tokenizer, resolve
from llm_gym.language_models.adapters import is_adapter, without_adapter
from llm_gym.language_models.loading import (
    check_safetensors,
    only_errors_logged,
    refuse_diverged,
    refuse_oversized,
)
from llm_gym.language_models.memory import check_loading
from llm_gym.policy.sampling import widened

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = "reward_head.safetensors"
POOLINGS = ("mean", "answer", "last", "first")
_PROBE = ((3, 5, 4, 6, 3, 7, 5), (4, 3, 6))  # token ids: two short texts


class PooledRewardModel(torch.nn.Module):
    """One number for a text: a linear function of pooled hidden states.

    Args:
        trunk: An encoder or a decoder without a head; its configuration becomes this model's.
        layers: Which hidden states are read, from 0; their vectors stand one after the other.
        pooling: "mean" over a text's tokens, over those of the "answer" (the second segment, where
            a tokenizer marks segments, else all), its "last" token or its "first".

    Raises:
        ValueError: A layer that the trunk has not, an unknown pooling, or a trunk without hidden
            states.
    """

    base_model_prefix = "trunk"

    def __init__(self, trunk: PreTrainedModel, layers: Sequence[int], pooling: str) -> None:
        super().__init__()
        check_choice("pooling", pooling, POOLINGS)
        deepest = depth(trunk.config)
        wrong = [layer for layer in layers if not 0 <= layer <= deepest]
        if wrong or not layers:
            raise ValueError(
                f"hidden_layers={list(layers)}: the model has layers 0 (its embeddings) to "
                f"{deepest}"
            )
        self.trunk = trunk
        self.layers = list(layers)
        self.pooling = pooling
        self.score = torch.nn.Linear(len(self.layers) * width(trunk.config), 1)
        self._inputs = set(inspect.signature(trunk.forward).parameters)

    @property
    def config(self) -> PreTrainedConfig:
        """The trunk's configuration."""
        return self.trunk.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.score.weight.device

    @property
    def base_model(self) -> PreTrainedModel:
        """The trunk."""
        return self.trunk

    @property
    def reads_nothing(self) -> bool:
        """Whether the head's weights are all 0, so that no text needs to be read."""
        return not self.score.weight.any()

    def num_parameters(self) -> int:
        """Parameters of trunk and head."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """The rewards of B texts as `logits` float `(B, 1)`.

        Args:
            input_ids: int64 `(B, S)`, padded on the right.
            attention_mask: int64 `(B, S)`, 0 on padding; None if there is none.
            token_type_ids: int64 `(B, S)`, given to trunks that take it.
        """
        pooled = self.pooled(input_ids, attention_mask, token_type_ids)  # (L, B, D)
        features = pooled.transpose(0, 1).flatten(1)  # (B, L * D)
        return SequenceClassifierOutput(logits=self.score(features.to(self.score.weight.dtype)))

    def pooled(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        poolings: Sequence[str] | None = None,
    ) -> torch.Tensor:
        """Pooled hidden states, float `(P * L, B, D)` of P poolings, one after the other.

        Args:
            input_ids: See `forward`.
            attention_mask: See `forward`.
            token_type_ids: See `forward`.
            poolings: Some of `POOLINGS`; None for the model's own.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        given = {"attention_mask": mask, "token_type_ids": token_type_ids, "use_cache": False}
        inputs = {
            name: value
            for name, value in given.items()
            if value is not None and (name in self._inputs or name == "attention_mask")
        }
        names = [self.pooling] if poolings is None else poolings
        if not input_ids.shape[1]:  # nothing to read
            shape = (len(names) * len(self.layers), len(input_ids), width(self.config))
            return torch.zeros(shape, device=input_ids.device)
        states = self.trunk(input_ids=input_ids, output_hidden_states=True, **inputs).hidden_states
        masks = dict.fromkeys(names, mask) | {"answer": _answers(mask, token_type_ids)}
        return torch.stack(
            [pool(states[layer], masks[name], name) for name in names for layer in self.layers]
        )

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes trunk and head; `load_pooled` reads them."""
        self.trunk.save_pretrained(directory)
        self.save_head(directory)

    def save_head(self, directory: str | Path) -> None:
        """Writes the head beside a trunk, in float32 whatever the trunk is stored as."""
        from safetensors.torch import save_file

        directory = Path(directory)
        write_json(directory / HEAD, {"format": 1, "pooling": self.pooling, "layers": self.layers})
        head = {name: value.float().contiguous() for name, value in self.score.state_dict().items()}
        save_file(head, directory / WEIGHTS, metadata={"format": "pt"})


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector of each text, float `(B, D)`.

    Args:
        states: float `(B, S, D)`, padded on the right.
        mask: int64 `(B, S)`, 0 on padding, and for "answer" on what is none.
        pooling: One of `POOLINGS`.
    """
    states, lengths = widened(states), mask.sum(dim=1)
    if pooling in ("mean", "answer"):
        weights = mask / lengths.clamp(min=1)[:, None]
        return (states * weights[..., None].to(states.dtype)).sum(dim=1)
    places = (lengths - 1).clamp(min=0) if pooling == "last" else torch.zeros_like(lengths)
    return states[torch.arange(len(states), device=states.device), places]


def _answers(mask: torch.Tensor, token_type_ids: torch.Tensor | None) -> torch.Tensor:
    """1 on the tokens of the second segment; on all of a text that has but one."""
    if token_type_ids is None:
        return mask
    second = mask * (token_type_ids == 1)
    return torch.where(second.any(dim=1, keepdim=True), second, mask)


def load_trunk(
    name_or_path: str | Path, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads any encoder or decoder without its head, in evaluation mode, and its tokenizer.

    Args:
        name_or_path: Embedded name, directory or hub name. Code from the hub is never run, and
            weights are read from safetensors only. The adapter of a language model is merged.
        dtype: Type of the weights in memory.

    Returns:
        The trunk, on the CPU, and its tokenizer.

    Raises:
        ValueError: It cannot be loaded, does not fit into memory, lacks weights, or has no hidden
            states of its own to read (an encoder with a decoder).
        FileNotFoundError, OSError: It is not there; see `llm_gym.language_models.load_tokenizer`.
    """
    tokenizer = load_tokenizer(name_or_path)
    source = resolve(name_or_path)
    if is_adapter(source):  # the trunk is read, trained and saved as a plain one
        whole = without_adapter(load_causal_lm(source, dtype=dtype), merged=True)
        trunk = whole.base_model.requires_grad_(True)
    else:
        trunk = _plain_trunk(name_or_path, source, dtype)
    config = trunk.config
    if config.is_encoder_decoder or not hasattr(config.get_text_config(), "num_hidden_layers"):
        raise ValueError(
            f"model={str(name_or_path)!r} ({type(trunk).__name__}) has no hidden states that can "
            "be pooled: take an encoder (BERT and its like) or a decoder (GPT-2, LLaMA), or "
            "head='finetune'"
        )
    if tokenizer.pad_token_id is not None:  # else any id will do, since padding is masked
        config.pad_token_id = tokenizer.pad_token_id
    elif config.pad_token_id is None:
        config.pad_token_id = tokenizer.eos_token_id or 0
    config.num_labels = 1
    return trunk.eval(), tokenizer


def _plain_trunk(name_or_path: str | Path, source: str, dtype: str) -> PreTrainedModel:
    check_safetensors(source)
    refuse_oversized(source)
    check_loading(source, dtype, name_or_path)
    with torch.random.fork_rng(devices=[]), only_errors_logged():
        torch.manual_seed(0)  # a pooler that nobody reads may be missing, and is drawn
        try:
            trunk, info = AutoModel.from_pretrained(
                source,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, ...
            raise ValueError(
                f"model={str(name_or_path)!r} cannot be loaded as an encoder or a decoder: {error}"
            ) from error
    lost = sorted(name for name in info["missing_keys"] if "pooler." not in name)
    if lost:
        raise ValueError(
            f"model={str(name_or_path)!r} is incomplete: {len(lost)} tensors are missing, the "
            f"first is {lost[0]!r}; they would be random"
        )
    refuse_diverged(trunk, name_or_path)
    return trunk


def load_pooled(directory: str | Path, dtype: str = "float32") -> PooledRewardModel:
    """Loads what `PooledRewardModel.save_pretrained` wrote, in evaluation mode.

    Args:
        directory: With the trunk and `HEAD`.
        dtype: Type of the trunk's weights in memory; the head's are float32.

    Raises:
        ValueError: A file is damaged, or head and trunk do not fit.
        FileNotFoundError: A file is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = Path(directory)
    content = schema.read_json(directory / HEAD)
    check = schema.record(
        {
            "format": schema.one_of(1),
            "pooling": schema.one_of(*POOLINGS),
            "layers": schema.list_of(schema.whole(), longest=10_000),
        }
    )
    schema.check_file(directory / HEAD, check, content)
    trunk, _ = load_trunk(directory, dtype)
    try:
        model = PooledRewardModel(trunk, content["layers"], content["pooling"])
        model.score.load_state_dict(load_file(directory / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"the head of {str(directory)!r} does not fit: {error}") from error
    if not all(parameter.isfinite().all() for parameter in model.score.parameters()):
        raise ValueError(f"{directory / WEIGHTS} has weights that are no finite numbers")
    return model.eval()


def new_head(model: PooledRewardModel, seed: int) -> None:
    """Draws the head's weights from N(0, 1 / (d + 1)) for d inputs, as `load_backbone` does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        spread = 1 / math.sqrt(model.score.in_features + 1)
        model.score.weight.normal_(std=spread, generator=generator)
        model.score.bias.zero_()


def is_causal(trunk: PreTrainedModel) -> bool:
    """Whether a token is read without those behind it: by trying."""
    ids = torch.tensor([_PROBE[0]]) % trunk.config.get_text_config().vocab_size
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % trunk.config.get_text_config().vocab_size
    with torch.inference_mode():
        both = [
            trunk(input_ids=tokens.to(trunk.device), output_hidden_states=True).hidden_states[-1]
            for tokens in (ids, other)
        ]
    return bool(torch.allclose(both[0][:, 0], both[1][:, 0], atol=1e-5))


def without_unread_blocks(trunk: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A copy of the trunk without the blocks behind the last layer that is read.

    Where a norm follows the last block one more is kept, so that the layers read are as they were.
    That they are is seen from two short texts; where they are not, the trunk stays whole.
    """
    total = depth(trunk.config)
    for kept in range(max(1, max(layers)), min(total, max(layers) + 2)):
        shorter = _shortened(trunk, total, kept)
        if shorter is not None and _reads_alike(trunk, shorter, layers):
            return shorter
    return trunk


def depth(config: PreTrainedConfig) -> int:
    """Number of a model's blocks."""
    return int(config.get_text_config().num_hidden_layers)


def width(config: PreTrainedConfig) -> int:
    """Length of a model's hidden states."""
    return int(config.get_text_config().hidden_size)


def _shortened(trunk: PreTrainedModel, total: int, kept: int) -> PreTrainedModel | None:
    """A copy with the first so many blocks; None where it is not plain which these are."""
    names = [
        name
        for name, module in trunk.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == total
    ]
    if not names:
        return None
    outermost = min(names, key=lambda name: name.count("."))
    shorter = copy.deepcopy(trunk)
    parent, _, name = outermost.rpartition(".")
    blocks = shorter.get_submodule(outermost)
    setattr(shorter.get_submodule(parent), name, blocks[:kept])
    config = shorter.config.get_text_config()
    for key, value in list(vars(config).items()):  # such as `layer_types`
        if isinstance(value, list) and len(value) == total:
            setattr(config, key, value[:kept])
    config.num_hidden_layers = kept
    return shorter


def _reads_alike(first: PreTrainedModel, second: PreTrainedModel, layers: Sequence[int]) -> bool:
    vocabulary = first.config.get_text_config().vocab_size
    with torch.inference_mode(), suppress(IndexError, AttributeError, TypeError):
        for ids in _PROBE:
            tokens = torch.tensor([ids], device=first.device) % vocabulary
            both = [
                model(input_ids=tokens, output_hidden_states=True).hidden_states
                for model in (first, second)
            ]
            if not all(torch.equal(both[0][layer], both[1][layer]) for layer in layers):
                return False
        return True
    return False

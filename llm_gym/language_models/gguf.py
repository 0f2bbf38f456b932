"""Models in llama.cpp's format, GGUF, made into plain ones.

`transformers` reads the format and undoes its quantisation; a model that it has read so cannot be
trained or saved as it is, and its tokenizer splits text as GPT-2's does, whatever the file says.
Here both become what `save_pretrained` writes.
"""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.gguf_header import GGUFHeader, read_header
from llm_gym.language_models.loading import refuse_diverged
from llm_gym.language_models.memory import check_fits

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Types that the weights of a converted model may have.
WEIGHTS = ("float32", "bfloat16", "float16")

_PLAIN_KINDS = {0: 4, 1: 2, 30: 2}  # float32, float16, bfloat16: bytes of a number
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_LAYER = re.compile(r"blk\.(\d{1,9})\.")
_AGAIN = "download it again, or convert it again with llama.cpp"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
# How text is split before pairs of bytes are merged, by the file's `tokenizer.ggml.pre`: a regular
# expression, None for GPT-2's own, and "digits" for GPT-2's after every digit stands alone.
_SPLITS: dict[str, str | None] = {
    "gpt-2": None,
    "smollm": "digits",
    "starcoder": "digits",
    "refact": "digits",
    "command-r": "digits",
    "exaone": "digits",
    "llama-bpe": _ENDINGS + _WORD + r"\p{N}{1,3}" + _REST,
    "qwen2": _ENDINGS + _WORD + r"\p{N}" + _REST,
}


class WeightsWarning(UserWarning):
    """A converted model does not have all that the file holds."""


class TokenizerWarning(UserWarning):
    """A converted tokenizer may split some texts otherwise than the original."""


def load_gguf(
    path: str | Path, *, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a GGUF file as a plain model and its tokenizer, which can be trained and saved.

    Nothing of the file is run; its chat template is a text, rendered in `transformers`' sandbox
    when prompts are shown.

    Args:
        path: A whole model in one file. Quantised weights become numbers again.
        dtype: Type of the weights in memory, one of `WEIGHTS`.

    Returns:
        The model, on the CPU, with dropout off, whose generation config ends answers where the
        file says and where the chat template ends a turn; the tokenizer, with a token for padding.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: `gguf` or `accelerate` is missing.
        ValueError: It is no GGUF file, or a part of one; it is cut off, of an architecture or
            quantisation that cannot be read, lacks weights, says sizes that its weights do not
            have, or is more than this machine's memory can hold.
    """
    if dtype not in WEIGHTS:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(map(repr, WEIGHTS))}")
    header = read_header(path)
    check_whole(header)
    _check_libraries()
    _check_kinds(header)
    config = _config_of(header)
    _check_sizes(header, config, dtype)
    model = _plain_model(header, config, dtype)
    _check_numbers(header, model)
    tokenizer = _tokenizer_of(header, model)
    _end_answers(header, model, tokenizer)
    return model.eval(), tokenizer


def check_whole(header: GGUFHeader) -> None:
    """Raises `ValueError` unless a file holds a whole language model.

    Args:
        header: Of the file.
    """
    path, metadata = header.path, header.metadata
    if metadata.get("split.count", 1) > 1 or _PART.search(path.name):
        raise ValueError(
            f"{path} is one part of a model that is split into several files; merge them first "
            "with llama.cpp: llama-gguf-split --merge FIRST_PART whole.gguf"
        )
    if not isinstance(metadata.get("general.architecture"), str):
        raise ValueError(f"{path} does not say its architecture, so it holds no language model")
    if not header.tensors:
        raise ValueError(f"{path} has no weights, only a vocabulary; give the file of a model")
    for tensor in header.tensors:
        size = tensor.numbers * _PLAIN_KINDS.get(tensor.kind, 0)
        # Blocks have at least 32 numbers, and at most 256 numbers 50 bytes.
        size = size or tensor.numbers // 8
        if header.data_start + tensor.offset + size > header.size:
            raise ValueError(
                f"{path} is cut off or damaged: tensor {tensor.name!r} of shape "
                f"{list(tensor.shape)} would end behind the file's {header.size:,} bytes; "
                "download or copy it again"
            )


def _check_libraries() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"GGUF files need {' and '.join(missing)}: pip install {' '.join(missing)}, or "
            "pip install 'llm-gym[real]'"
        )


def _check_kinds(header: GGUFHeader) -> None:
    """Refuses a file that is cut off, or quantised in a way that nobody here can undo."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    names: dict[int, tuple[str, int, int]] = {}
    for kind in {tensor.kind for tensor in header.tensors}:
        try:
            named = GGMLQuantizationType(kind)
            block, size = GGML_QUANT_SIZES[named]
            dequantize(np.zeros((1, size), dtype=np.uint8), named)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ValueError(
                f"{header.path} is quantised as {_kind_name(kind)}, which gguf cannot undo "
                f"({error}); take another quantisation of the model, such as Q4_1, Q8_0 or F16"
            ) from error
        names[kind] = (named.name, block, size)
    for tensor in header.tensors:
        name, block, size = names[tensor.kind]
        if tensor.shape[0] % block:
            raise ValueError(
                f"{header.path} is damaged: tensor {tensor.name!r} has rows of {tensor.shape[0]} "
                f"numbers, which blocks of {name} do not fill"
            )
        end = header.data_start + tensor.offset + tensor.numbers // block * size
        if end > header.size:
            raise ValueError(
                f"{header.path} is cut off: tensor {tensor.name!r} ends at byte {end:,}, and the "
                f"file has {header.size:,}; download or copy it again"
            )


def _kind_name(kind: int) -> str:
    from gguf import GGMLQuantizationType

    try:
        return GGMLQuantizationType(kind).name
    except ValueError:
        return f"type {kind}"


def _config_of(header: GGUFHeader) -> Any:
    from transformers import AutoConfig

    architecture = header.metadata["general.architecture"]
    try:
        config = AutoConfig.from_pretrained(header.path.parent, gguf_file=header.path.name)
    except Exception as error:  # of a stranger's file: KeyError, IndexError and others
        import transformers

        raise ValueError(
            f"{header.path}: of what it says of itself, a model of the architecture "
            f"{architecture!r}, transformers {transformers.__version__} makes no configuration "
            f"({_cause(error)}); get the model in safetensors instead"
        ) from error
    vars(config).pop("_model_name_or_path", None)  # the file's name for itself
    return config


def _check_sizes(header: GGUFHeader, config: Any, dtype: str) -> None:
    """Refuses a configuration that would make a larger model than the file has weights for."""
    import torch
    from transformers import AutoModelForCausalLM

    layers = max((v for k, v in header.metadata.items() if k.endswith(".block_count")), default=0)
    named = (_LAYER.match(tensor.name) for tensor in header.tensors)
    there = max((int(match.group(1)) + 1 for match in named if match), default=layers)
    if layers > len(header.tensors) or there > layers:
        what = f"{len(header.tensors):,} tensors" if there <= layers else f"weights of {there:,}"
        raise ValueError(
            f"{header.path} is damaged: it says {layers:,} layers and has {what}; {_AGAIN}"
        )
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever a wrong size does to an architecture's code
        raise ValueError(
            f"{header.path} holds no causal language model that can be made from what it says "
            f"({_cause(error)}); {_AGAIN}"
        ) from error
    numbers = sum(parameter.numel() for parameter in model.parameters())
    if numbers > 2 * header.numbers:  # tensors that are there once and used twice
        raise ValueError(
            f"{header.path} is damaged: what it says of itself makes a model of {numbers:,} "
            f"numbers, and it holds {header.numbers:,}; {_AGAIN}"
        )
    size = 4 if dtype == "float32" else 2
    check_fits(
        {f"weights in {dtype}": size * numbers},
        "cpu",
        str(header.path),
        "take --dtype bfloat16, or a smaller model",
    )
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if buffers > 8 * header.numbers + 2**28:
        raise ValueError(
            f"{header.path} is damaged: its sizes make tables of {buffers:,} bytes beside "
            f"{header.numbers:,} weights; {_AGAIN}"
        )


def _plain_model(header: GGUFHeader, config: Any, dtype: str) -> PreTrainedModel:
    import torch
    import transformers

    # Newer releases may keep weights in their blocks, which cannot be trained.
    keep = getattr(transformers, "GgufConfig", None)
    options = {} if keep is None else {"quantization_config": keep(dequantize=True)}
    number_type = getattr(torch, dtype)
    try:
        loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
            header.path.parent,
            gguf_file=header.path.name,
            config=copy.deepcopy(config),
            dtype=number_type,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # of a stranger's file, by way of several libraries
        raise ValueError(
            f"the weights of {header.path} cannot be read ({_cause(error)}): their shapes are not "
            f"those that it says, or they are damaged; {_AGAIN}"
        ) from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise ValueError(
            f"the weights of {header.path} are incomplete: {len(absent)} tensors are missing, the "
            f"first is {absent[0]!r}; they would be random. {_AGAIN.capitalize()}"
        )
    plain: PreTrainedModel = type(loaded).from_pretrained(
        None, config=config, state_dict=loaded.state_dict(), dtype=number_type
    )
    return plain


def _check_numbers(header: GGUFHeader, model: PreTrainedModel) -> None:
    """Refuses weights that are no numbers, and says how many of the file's have found no place."""
    try:
        refuse_diverged(model, header.path)
    except ValueError as error:
        wider = "take --dtype bfloat16, " if model.dtype.itemsize == 2 else ""
        raise ValueError(
            f"the weights of {header.path} are not numbers in {str(model.dtype)[6:]} (NaN or "
            f"infinity, or close to it); {wider}{_AGAIN}"
        ) from error
    stored = model.state_dict().values()
    used = sum({each.data_ptr(): each.numel() for each in stored}.values())
    twice = sum(tensor.numbers for tensor in header.tensors if tensor.name == "output.weight")
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    left = header.numbers - used - (twice if tied else 0)
    if left > 0:
        warnings.warn(
            f"{header.path} holds {left:,} numbers, {left / header.numbers:.2%} of all, for which "
            f"{type(model).__name__} of transformers has no place: without them the model may say "
            "something else than in llama.cpp",
            WeightsWarning,
            stacklevel=4,
        )


def _cause(error: Exception) -> str:
    """What another library says of a stranger's file, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


# ------------------------------------------------------------------ the tokenizer


def _tokenizer_of(header: GGUFHeader, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    from llm_gym.language_models.architecture import context_length

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            header.path.parent, gguf_file=header.path.name, trust_remote_code=False
        )
    except Exception as error:  # of a stranger's file, by way of Rust
        raise ValueError(
            f"the tokenizer of {header.path} cannot be read ({_cause(error)}); {_AGAIN}, or get "
            "the model in safetensors"
        ) from error
    _split_as_said(header, tokenizer)
    tokenizer.name_or_path = ""  # the directory of the file is no model's
    context = context_length(model)
    if context is not None:
        tokenizer.model_max_length = context
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{header.path} names no token that ends an answer; {_AGAIN}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _split_as_said(header: GGUFHeader, tokenizer: Any) -> None:
    """Has a byte-level tokenizer split text as the file says, which transformers does not heed."""
    if header.metadata.get("tokenizer.ggml.model") != "gpt2":
        return
    said = header.metadata.get("tokenizer.ggml.pre", "gpt-2")
    if said in _SPLITS:
        tokenizer.backend_tokenizer.pre_tokenizer = _pre_tokenizer(_SPLITS[said])
        return
    warnings.warn(
        f"{header.path} splits text in a way of its own (tokenizer.ggml.pre={said!r:.60}), for "
        "which transformers' reader of GGUF has none: some texts, above all numbers, may become "
        "other tokens than in llama.cpp; take tokenizer.json from the original model if there is "
        "one",
        TokenizerWarning,
        stacklevel=4,
    )


def _pre_tokenizer(split: str | None) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    if split is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split == "digits":
        first: PreTokenizer = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    first = pre_tokenizers.Split(Regex(split), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([first, bytes_only])


def _end_answers(header: GGUFHeader, model: PreTrainedModel, tokenizer: Any) -> None:
    """Has the generation config end answers where the file says, and where turns end."""
    from llm_gym.language_models.chat import PromptFormat
    from llm_gym.language_models.generation import end_with

    ends = [tokenizer.eos_token_id, header.metadata.get("tokenizer.ggml.eot_token_id")]
    try:
        ends.append(PromptFormat(tokenizer).end_token_id)
    except ValueError as error:  # a template that shows no prompt
        tokenizer.chat_template = None
        warnings.warn(
            f"the chat template of {header.path} is left out: {error}",
            TokenizerWarning,
            stacklevel=3,
        )
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    end_with(model, [token for token in ends if token is None or isinstance(token, int)])

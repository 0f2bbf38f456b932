"""Load a causal language model or a tokenizer by embedded name, directory or hub name.

The work is done by `transformers`; this module decides what is asked for and says clearly what
is wrong when it cannot be had. Code from a checkpoint is never run (`trust_remote_code` stays
off) and weights are read from safetensors only, so loading a model never unpickles anything.
"""

from __future__ import annotations

import difflib
import json
import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.adapter_files import base_of, is_adapter
from llm_gym.language_models.embedded import embedded_names, fetch, resolve
from llm_gym.language_models.hub import cached_file, is_path
from llm_gym.language_models.memory import check_loading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


# Of a configuration: what every layer needs a tensor for, and what every unit needs a number for.
_LAYERS = {"n_layer", "n_layers", "num_layers", "num_hidden_layers", "encoder_layers"}
_LAYERS |= {"decoder_layers", "num_decoder_layers", "num_encoder_layers"}
_SIZES = {"n_embd", "hidden_size", "vocab_size", "n_inner", "intermediate_size", "d_model", "d_ff"}

_LARGEST = 1e19  # its square is the largest float32

#: Names of types that weights may have in memory; "auto" is the file's own.
DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")
#: Of the arithmetic: as the weights, or of mixed precision.
PRECISIONS = ("no", "bf16", "auto")


def load_causal_lm(
    name_or_path: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """Loads a causal language model in evaluation mode.

    Args:
        name_or_path: An embedded name (`"llm_gym/email-sft"`), a directory written by
            `save_pretrained`, that of a LoRA adapter (see
            `llm_gym.language_models.adapters.load_adapter`), or a name on the Hugging Face hub.
        dtype: Type of the weights in memory, one of `DTYPES` or of PyTorch's; `None` means
            float32, whatever the file holds, `"auto"` the file's own.
        attn_implementation: As in `transformers`, e.g. `"eager"`; `None` leaves it the choice.

    Returns:
        The model, on the CPU, with dropout off (`model.eval()`).

    Raises:
        FileNotFoundError: If the directory, its `config.json` or its weights are missing.
        ValueError: If the files are there but cannot be read as a causal language model, lack
            weights that the architecture needs, or hold weights that are no numbers; or if the
            weights are more than memory can hold.
        OSError: If the name is not a directory and the hub does not have it or cannot be reached.
        ImportError: If it is an adapter and PEFT is not installed.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if isinstance(dtype, str) and dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(map(repr, DTYPES))}")
    source = model_source(name_or_path, needs="config.json")
    if is_adapter(resolve(name_or_path)):
        from llm_gym.language_models.adapters import load_adapter

        return load_adapter(name_or_path, dtype=dtype, attn_implementation=attn_implementation)
    check_safetensors(source)
    refuse_oversized(source)
    refuse_encoder_decoder(source, name_or_path)
    check_loading(source, dtype, name_or_path)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.float32 if dtype is None else dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise ValueError(
            f"the weights of {str(name_or_path)!r} are corrupt ({error}); copy or save them again"
        ) from error
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _explained("language model", name_or_path, source, error) from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise ValueError(
            f"the weights of {str(name_or_path)!r} are incomplete: {len(absent)} tensors are "
            f"missing, the first is {absent[0]!r}; they would be random. Is it a causal language "
            f"model ({type(model).__name__})?"
        )
    refuse_diverged(model, name_or_path)
    _refuse_encoder(model.eval(), name_or_path)
    return model


def check_safetensors(source: str) -> None:
    """Raises `FileNotFoundError` for a directory whose weights are pickled (`.bin`), or absent.

    Args:
        source: As `model_source` gives it; of a name on the hub nothing is known yet.
    """
    directory = Path(source)
    if directory.is_dir() and not list(directory.glob("*.safetensors")):
        raise FileNotFoundError(
            f"no *.safetensors file in {source!r}: the directory holds {_listing(directory)}, and "
            "nothing is unpickled here. Load the model with transformers and save it with "
            "model.save_pretrained(directory)."
        )


def refuse_oversized(source: str | Path) -> None:
    """Refuses a directory whose configuration asks for more than its weights can fill.

    A model is built before its weights are read, so a number in `config.json` alone would otherwise
    take all time and memory.

    Args:
        source: A directory with `config.json`; a name on the hub is left alone.

    Raises:
        ValueError: The configuration says more layers than the weights have tensors, or a size
            beyond all their numbers; or a file is corrupt.
    """
    from safetensors import SafetensorError, safe_open

    directory = Path(source)
    if not directory.is_dir():
        return
    files = sorted(directory.glob("*.safetensors"))
    tensors = numbers = 0
    for file in files:
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118 - it is no dict
                    tensors += 1
                    numbers += math.prod(weights.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is corrupt ({error}); copy or save it again") from error
    path = directory / "config.json"
    try:
        found = list(_whole_numbers(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for key, value in found:
        limit = tensors if key in _LAYERS else numbers if key in _SIZES else value
        if value > limit:
            raise ValueError(f"{path}: {key}={value} is more than the weights beside it can fill")


def _whole_numbers(content: Any) -> Iterator[tuple[str, int]]:
    """All whole numbers of a configuration and its parts, by their own key."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield key, value
        yield from _whole_numbers(value)


def refuse_encoder_decoder(source: str, name_or_path: str | Path) -> None:
    """Refuses an encoder with a decoder, whose classes transformers would half fill.

    Args:
        source: As `model_source` gives it; what cannot be read is said where it is loaded.
        name_or_path: As it was asked for, for the message.

    Raises:
        ValueError: It is one.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception:  # whatever is wrong with it, its loader says so
        return
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"{str(name_or_path)!r} is an encoder with a decoder ({config.model_type}), and no "
            "causal language model: prompt and answer are read by two transformers there, which is "
            "not supported; take a decoder, such as GPT-2 or LLaMA, or for a reward model an "
            "encoder, such as BERT"
        )


def _refuse_encoder(model: PreTrainedModel, name_or_path: str | Path) -> None:
    """Refuses an encoder (BERT), which transformers loads as a language model all the same.

    Of the architectures that also are encoders the model is asked whether a token is read with
    those behind it.
    """
    import torch
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING:
        return
    with torch.no_grad():
        logits = model(torch.tensor([[2, 2], [2, 3]], device=model.device)).logits  # (2, 2, V)
    if not torch.allclose(logits[0, 0], logits[1, 0], rtol=1e-4, atol=1e-5):
        raise ValueError(
            f"{str(name_or_path)!r} is an encoder ({type(model).__name__}), which reads a text in "
            "both directions and writes none: take a decoder, such as GPT-2 or LLaMA; for a reward "
            "model it will do"
        )


def refuse_diverged(model: PreTrainedModel, name_or_path: str | Path) -> None:
    """Refuses a model whose weights are not finite.

    Args:
        model: As it was loaded.
        name_or_path: From where, for the message.

    Raises:
        ValueError: A weight is NaN, infinite or so large that its square is, by name.
    """
    from torch.nn.utils import get_total_norm

    parameters = dict(model.named_parameters())
    if get_total_norm(list(parameters.values())).isfinite():
        return
    for name, parameter in parameters.items():
        largest = float(parameter.detach().abs().max()) if parameter.numel() else 0.0
        if not largest < _LARGEST:
            raise ValueError(
                f"the weights of {str(name_or_path)!r} are not numbers any more (NaN or infinity, "
                f"or close to it): {name!r} has {largest:g} among them. The run that wrote them "
                "diverged; go back to an earlier checkpoint, with a lower learning rate"
            )


def load_config(name_or_path: str | Path) -> PreTrainedConfig:
    """Loads a language model's configuration, without its weights.

    Raises:
        FileNotFoundError: If the directory or its `config.json` is missing.
        ValueError: If the file is there but cannot be read.
        OSError: If the name is not a directory and the hub does not have it or cannot be reached.
    """
    from transformers import AutoConfig

    source = model_source(name_or_path, needs="config.json")
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _explained("configuration", name_or_path, source, error) from error


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """Loads a tokenizer.

    Args:
        name_or_path: An embedded name, a directory or a name on the Hugging Face hub.

    Returns:
        The tokenizer.

    Raises:
        FileNotFoundError: If the directory or its `tokenizer_config.json` is missing.
        ValueError: If the files are there but cannot be read.
        OSError: If the name is not a directory and the hub does not have it or cannot be reached.
    """
    from transformers import AutoTokenizer

    source = model_source(name_or_path, needs="tokenizer_config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the Rust tokenizer raises a bare Exception on a corrupt file
        raise _explained("tokenizer", name_or_path, source, error) from error
    limit = tokenizer.model_max_length  # which a tokenizer compares with when it has encoded
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise ValueError(
            f"cannot read a tokenizer from {str(name_or_path)!r}: model_max_length={limit!r:.80} "
            "in its tokenizer_config.json must be a number"
        )
    return tokenizer


def model_source(name_or_path: str | Path, *, needs: str = "config.json") -> str:
    """Where a model is, for `from_pretrained`: a directory, or a name to ask the hub for.

    Args:
        name_or_path: An embedded name, a directory or a name on the Hugging Face hub.
        needs: A file that a directory must hold.

    Returns:
        The directory of an embedded name, or of an adapter from the hub; of an adapter that has not
        the file, where its base is; everything else as it is.

    Raises:
        TypeError: It is no text and no path.
        FileNotFoundError: It can only be a path, and there is no such directory or the directory
            lacks the file; the message has the nearest name that exists. The hub is not asked.
        ValueError: There is no embedded model of that name, it is an adapter whose base is missing,
            or a GGUF file.
    """
    if not isinstance(name_or_path, (str, Path)):
        raise TypeError(
            f"name_or_path must be a non-empty str or Path, got one of type "
            f"{type(name_or_path).__name__}; save a model with save_pretrained and pass its "
            f"directory (the embedded models are {', '.join(embedded_names())})"
        )
    if not str(name_or_path):
        raise TypeError(
            f"name_or_path must be a non-empty str or Path, got {name_or_path!r}; "
            f"the embedded models are {', '.join(embedded_names())}"
        )
    source = fetch(name_or_path)
    directory = Path(source)
    if directory.is_dir():
        if not (directory / needs).is_file():
            if is_adapter(directory):
                return model_source(base_of(directory), needs=needs)
            raise FileNotFoundError(
                f"{source!r} has no {needs}: the directory holds {_listing(directory)}"
                f"{_hint(directory, needs)}"
            )
        return source
    if directory.suffix.lower() == ".gguf":
        if not directory.is_file():
            raise FileNotFoundError(f"there is no GGUF file {source!r}{_nearest(directory.parent)}")
        raise ValueError(f"{source!r} is a GGUF file; {_make_a_model(directory)}")
    if directory.is_file():
        raise FileNotFoundError(f"{source!r} is a file; pass the directory that contains it")
    if isinstance(name_or_path, Path) or not _may_be_hub_name(source):
        raise FileNotFoundError(
            f"there is no directory {source!r} to load a model from{_nearest(directory)}"
        )
    return source


def _hint(directory: Path, needs: str) -> str:
    """What may have been meant by a directory that lacks a model's file."""
    inside = directory / "model"  # of a run of ours
    if (inside / needs).is_file():
        return f"; did you mean {str(inside)!r}?"
    packed = sorted(directory.glob("*.[gG][gG][uU][fF]"))
    return f"; {_make_a_model(packed[0])}" if packed else ""


def _make_a_model(file: Path) -> str:
    """What to do with a GGUF file."""
    return (
        f"make a model of it first: llm-gym fetch {shlex.quote(str(file))} --output DIR, and pass "
        "that directory"
    )


def _may_be_hub_name(name: str) -> bool:
    """Hub names are `name` or `owner/name`; anything else can only be a path.

    `runs/sft` has the form of one, and is none where there is a directory `runs`, unless the hub's
    cache says otherwise.
    """
    if is_path(name):
        return False
    owner, separator, _ = name.partition("/")
    if not separator or not Path(owner).is_dir():
        return True
    return cached_file(name, "config.json") is not None


def _nearest(directory: Path) -> str:
    """What exists of a path, and the name in there that is most like the next part of it."""
    there = directory
    while not there.is_dir() and there != there.parent:
        there, part = there.parent, there.name
    if there == directory or not there.is_dir():
        return ""
    names = [entry.name for entry in there.iterdir() if entry.is_dir()]
    near = difflib.get_close_matches(part, names, n=1)
    if near:
        return f"; did you mean {str(there / near[0])!r}?"
    return "" if there == Path() else f"; {str(there)!r} has no directory {part!r}"


def _listing(directory: Path) -> str:
    names = sorted(entry.name for entry in directory.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _explained(
    kind: str, name_or_path: str | Path, source: str, error: Exception
) -> OSError | ValueError:
    """The same failure, said in terms of what the user asked for."""
    cause, other_kind, _ = str(error).partition(" for this kind of AutoModel")
    if other_kind:  # the message goes on with the names of all classes that would do
        return ValueError(
            f"{str(name_or_path)!r} is no causal language model ({cause}); pass one that writes "
            "token after token, such as GPT-2 or LLaMA"
        )
    if Path(source).is_dir():
        return ValueError(f"cannot read a {kind} from {str(name_or_path)!r}: {error}")
    if is_adapter(str(name_or_path)):
        return OSError(
            f"{str(name_or_path)!r} is an adapter of {source!r}, and the {kind} of that base is "
            f"neither in a directory here nor to be had from the hub. Cause: {error}"
        )
    return OSError(
        f"cannot get the {kind} {str(name_or_path)!r}: it is not a directory here and the Hugging "
        f"Face hub did not provide it (offline, misspelt, private, or without safetensors?)"
        f"{_nearest(Path(source))}. "
        f"The embedded models need no network: {', '.join(embedded_names())}. Cause: {error}"
    )


def torch_device(device: str) -> str:
    """A device by its name on the command line: "auto" is CUDA where there is one, else the CPU."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def quiet_libraries() -> None:
    """Stops transformers' progress bars and advice, which would break a live display."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def only_errors_logged() -> Iterator[None]:
    """Keeps transformers from listing what is new in a model, as if it were news, for a while."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)

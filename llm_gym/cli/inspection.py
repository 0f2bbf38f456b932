"""The commands that look and change nothing: `evaluate`, `generate`, `envs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.untrusted import printable, shortened

if TYPE_CHECKING:
    from llm_gym.runs.evaluation import Evaluation

__all__ = ["run_envs", "run_evaluate", "run_generate"]

_NAMESPACE = "llm_gym"  # of our environments, and by convention of plug-ins'


def run_evaluate(
    models: Sequence[str],
    env: str,
    *,
    scorer: str | None,
    prompts: str | None,
    prompt_template: str | None,
    max_new_tokens: int | None,
    max_prompts: int | None,
    num_envs: int,
    temperature: float,
    deterministic: bool,
    seed: int,
    json_path: Path | None,
    device: str,
) -> None:
    """Behind `llm-gym evaluate`: a table on standard output, and JSON if wished."""
    from llm_gym.files import atomic
    from llm_gym.files.provenance import commit, machine, versions
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.names import check_task, environment_kwargs

    quiet_libraries()
    found: dict[str, Evaluation] = {}
    for model in models:
        kwargs = environment_kwargs(
            env,
            model,
            scorer=scorer,
            device=device,
            prompts=prompts,
            prompt_template=prompt_template,
            max_new_tokens=max_new_tokens,
        )
        check_task(env, kwargs)
        found[model] = evaluate(
            model,
            env,
            env_kwargs=kwargs,
            policy_kwargs={"temperature": temperature},
            max_prompts=max_prompts,
            num_envs=num_envs,
            deterministic=deterministic,
            seed=seed,
            device=device,
        )
    if json_path is not None:
        atomic.write_json(
            json_path,
            {
                "env": env,
                "seed": seed,
                "temperature": temperature,
                "deterministic": deterministic,
                "versions": versions(),
                "commit": commit(),
                "machine": machine(),
                "models": {model: one.to_dict() for model, one in found.items()},
            },
        )
    _print_table(found)


def _print_table(found: dict[str, Evaluation]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "score", "95 % interval", "tokens", "ended", "prompts"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model, one in found.items():
        table.add_row(
            Text(printable(model), overflow="fold"),
            f"{one.mean_score:.2f}",
            f"{one.low:.2f} to {one.high:.2f}",
            f"{one.mean_length:.1f}",
            f"{100 * one.share_ended:.0f} %",
            str(len(one.rows)),
        )
    Console().print(table)


def run_generate(
    texts: Sequence[str],
    model: str,
    *,
    prompts: str | None,
    scorer: str | None,
    prompt_template: str | None,
    max_new_tokens: int,
    samples: int,
    temperature: float,
    deterministic: bool,
    seed: int,
    as_json: bool,
    device: str,
) -> None:
    """Behind `llm-gym generate`: answers on standard output."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.names import TEXT_GENERATION, environment_kwargs
    from llm_gym.text.prompts import read_prompts

    quiet_libraries()
    if samples < 1:
        raise ValueError(f"--samples must be at least 1, got {samples}")
    rows: list[dict[str, Any]] = [{"prompt": text} for text in texts]
    if prompts is not None:
        rows += [{"prompt": row.text, **row.columns} for row in read_prompts(prompts)]
    if not rows:
        raise ValueError('there is nothing to answer: give prompts, e.g. llm-gym generate "Write"')
    kwargs = environment_kwargs(
        TEXT_GENERATION,
        model,
        scorer=scorer,
        device=device,
        prompt_template=prompt_template,
        max_new_tokens=max_new_tokens,
    )
    if scorer is None:
        kwargs["scorer"] = _no_score
    answers = evaluate(
        model,
        {**kwargs, "prompts": [row for row in rows for _ in range(samples)]},
        policy_kwargs={"temperature": temperature},
        deterministic=deterministic,
        seed=seed,
        device=device,
    )
    for row in answers.rows:
        if as_json:
            score = {} if scorer is None else {"score": row.score}
            print(json.dumps({"prompt": row.prompt, "completion": row.completion, **score}))
        else:
            verdict = "" if scorer is None else f"  (score {row.score:.4g})"
            print(f"> {shortened(row.prompt, 200)}{verdict}\n{_for(sys.stdout, row.completion)}\n")


def _no_score(prompts: list[str], completions: list[str]) -> list[float]:
    return [0.0] * len(completions)


def _for(stream: Any, text: str) -> str:
    """Model text for a stream: safe in a terminal, and in whatever encoding the stream has."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, errors="backslashreplace").decode(encoding)


def run_envs() -> None:
    """Behind `llm-gym envs`: one line an environment."""
    import gymnasium as gym

    import llm_gym  # noqa: F401 - registers

    specs = [spec for spec in gym.registry.values() if spec.namespace == _NAMESPACE]
    width = max(len(spec.id) for spec in specs)
    for spec in sorted(specs, key=lambda spec: spec.id):
        print(f"{spec.id:<{width}}  {_one_line(spec.entry_point)}")


def _one_line(entry_point: Any) -> str:
    """First line of the docstring behind an entry point."""
    from gymnasium.envs.registration import load_env_creator

    try:
        target = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    except (ImportError, AttributeError) as error:
        return f"(cannot be imported: {shortened(str(error), 60)})"
    doc = (getattr(target, "__doc__", None) or "").strip()
    return doc.split("\n")[0] if doc else "(no description)"

"""Fingerprints of what training does, to hold a rebuilding against: the same seeds, the same bits.

    python benchmarks/house/behaviour.py --output before.json          # on the old commit
    python benchmarks/house/behaviour.py --output after.json --against before.json

One thread, fixed seeds, public names and commands only, so that the same file runs on any commit.
Weights are hashed tensor by tensor: names, dtypes, shapes and bytes. Of JSON files, what is
measured in seconds or says where and when it ran is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ALGORITHMS = [
    "A2C",
    "DAPO",
    "DPO",
    "GRPO",
    "NLPO",
    "PPO",
    "REINFORCE",
    "RLOO",
    "DrGRPO",
    "ExpertIteration",
    "ReMax",
    "ReinforcePlusPlus",
    "SFTOnBest",
    "StockPPO",
    "StockA2C",
]
ITERATIONS, NUM_ENVS, GROUP_SIZE, MAX_NEW_TOKENS = 3, 16, 4, 24
COMMANDS = {
    "train": "train --env llm_gym/PoliteEmail-v0 --num-envs 16 --max-new-tokens 24 "
    "--total-tokens 1152 --kl-target 6 --device cpu --output {output}",
    "rlhf": "rlhf --quick --output {output}",
    "dpo": "dpo {rlhf}/comparisons.db --model {rlhf}/sft --epochs 1 --output {output}",
    "demo": "demo --seed 0 --output {output}",
}
VOLATILE = {"seconds", "versions", "commit", "machine", "settings", "time", "when", "llm_gym"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file of fingerprints")
    parser.add_argument("--against", type=Path, help="fingerprints to compare with")
    parser.add_argument("--only", nargs="*", help="algorithms and commands (default: all)")
    options = parser.parse_args()
    _one_thread()
    jobs = options.only or [*ALGORITHMS, *COMMANDS]
    prints: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as work:
        for job in jobs:
            prints |= _run(job, Path(work))
            print(*(f"{key}  {value}" for key, value in prints.items() if key.startswith(job)))
    options.output.write_text(json.dumps(prints, indent=2) + "\n", encoding="utf-8")
    if options.against is None:
        return 0
    expected = json.loads(options.against.read_text(encoding="utf-8"))
    differing = [key for key in prints if prints[key] != expected.get(key)]
    print(f"{len(prints) - len(differing)} of {len(prints)} fingerprints are the same", *differing)
    return 1 if differing else 0


def _one_thread() -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"


def _run(job: str, work: Path) -> dict[str, str]:
    if job in ALGORITHMS:
        code = "import sys; from benchmarks.house.behaviour import learn; print(learn(sys.argv[1]))"
        done = _python("-c", code, job)
        return {job: done.splitlines()[-1]}
    output = work / job
    arguments = COMMANDS[job].format(output=output, rlhf=work / "rlhf").split()
    _python("-c", "from llm_gym.cli import main; main()", *arguments)
    return {f"{job}/{name}": value for name, value in _fingerprints(output).items()}


def _python(*arguments: str) -> str:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *_plugins(root)])}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, text=True, capture_output=True
    )
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _plugins(root: str) -> list[str]:
    return [str(folder.parent) for folder in Path(root).glob("envs/*/pyproject.toml")]


def learn(name: str) -> str:
    """Three iterations of an algorithm on emails; the hash of the policy's weights."""
    import gymnasium as gym
    import stable_baselines3

    import llm_gym

    grouped = name in {"RLOO", "GRPO", "DrGRPO", "DAPO", "ReMax", "DPO"} | {
        "ExpertIteration",
        "SFTOnBest",
    }
    env: Any = gym.make_vec(
        "llm_gym/PoliteEmail-v0",
        num_envs=NUM_ENVS,
        autoreset_mode="SameStep",
        max_new_tokens=MAX_NEW_TOKENS,
        **({"group_size": GROUP_SIZE} if grouped else {}),
    )
    settings: dict[str, Any] = {
        "seed": 5,
        "device": "cpu",
        "learning_rate": 1e-4,
        "policy_kwargs": {"model": "llm_gym/email-sft"},
    }
    total = ITERATIONS * NUM_ENVS * MAX_NEW_TOKENS
    if name.startswith("Stock"):
        maker = getattr(stable_baselines3, name.removeprefix("Stock"))
        settings |= {"n_steps": MAX_NEW_TOKENS, "rollout_buffer_class": llm_gym.EpisodeBuffer}
        agent = maker(llm_gym.TransformerActorCriticPolicy, llm_gym.GymVecEnv(env), **settings)
    else:
        agent = getattr(llm_gym, name)("TransformerPolicy", env, **settings)
    agent.learn(total)
    return _hash_of_tensors(agent.policy.state_dict())


def _hash_of_tensors(tensors: dict[str, Any]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _fingerprints(output: Path) -> dict[str, str]:
    """Of every model below a directory, and of its summary."""
    from safetensors.torch import load_file

    prints = {
        path.relative_to(output).as_posix(): _hash_of_tensors(load_file(path))
        for path in sorted(output.rglob("*.safetensors"))
        if "checkpoints" not in path.parts or path.name == "model.safetensors"
    }
    summary = output / "summary.json"
    if summary.exists():
        values = _steady(json.loads(summary.read_text(encoding="utf-8")))
        text = json.dumps(values, sort_keys=True)
        prints["summary.json"] = hashlib.sha256(text.encode()).hexdigest()
    assert prints, f"nothing to take a fingerprint of in {output}"
    return prints


def _steady(value: Any) -> Any:
    """A JSON value without what changes from run to run."""
    if isinstance(value, dict):
        return {key: _steady(item) for key, item in value.items() if key not in VOLATILE}
    return [_steady(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())

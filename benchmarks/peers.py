"""The peers that are measured beside llm_gym, and where their environments are.

`benchmarks/throughput/install_peers.py` makes the environments.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.common import ROOT

VENVS = ROOT / ".benchmark-venvs"

# PPO left TRL after its last releases with `trl.experimental.ppo`; GRPO and RLOO went on.
PEERS = {"trl-ppo": "trl==1.12.*", "trl-group": "trl==1.16.*"}


def peer_python(peer: str) -> Path:
    """Path of the interpreter of `peer`; it exists once the peer is installed."""
    folder, name = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return VENVS / peer / folder / name


def is_installed(peer: str) -> bool:
    """Whether `peer` was installed to the end (a half-made environment does not count)."""
    return (VENVS / peer / "installed.txt").is_file() and peer_python(peer).is_file()

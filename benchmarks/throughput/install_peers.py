"""Make the virtual environments of the peers: TRL's last PPO, and TRL's present GRPO and RLOO.

Each peer lives in its own environment below `.benchmark-venvs/` (which git ignores), with the
same torch and transformers as the interpreter that runs this script, so that a comparison is one of
systems and not of versions. Gymnasium is there for llm_gym's scorers, which are imported from this
tree. Run it once, from the environment in which llm_gym is installed:

    python benchmarks/throughput/install_peers.py            # all peers
    python benchmarks/throughput/install_peers.py trl-ppo    # one of them
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.peers import PEERS, VENVS, is_installed, peer_python


def install(peer: str, pip_arguments: list[str]) -> None:
    """Makes the environment of `peer` and install it there; what is there already is kept.

    Raises:
        subprocess.CalledProcessError: Pip failed; its own message stands above.
    """
    if is_installed(peer):
        print(f"{peer}: already there ({VENVS / peer})")
        return
    venv.create(VENVS / peer, with_pip=True, clear=True)
    same_as_here = [
        f"{name}=={importlib.metadata.version(name).split('+')[0]}"
        for name in ("torch", "transformers", "tokenizers", "numpy", "gymnasium")
    ]
    command = [str(peer_python(peer)), "-m", "pip", "install", *pip_arguments]
    command += [*same_as_here, PEERS[peer]]
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True)
    frozen = subprocess.run(
        [str(peer_python(peer)), "-m", "pip", "freeze"], check=True, capture_output=True, text=True
    )
    (VENVS / peer / "installed.txt").write_text(frozen.stdout, encoding="utf-8")


def main() -> None:
    """Installs the peers named on the command line, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}")
    parser.add_argument(
        "--pip-argument",
        action="append",
        default=[],
        metavar="ARG",
        help="handed to pip install, for instance "
        "--pip-argument=--extra-index-url=https://download.pytorch.org/whl/cpu",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.peers) - set(PEERS))
    if unknown:
        parser.error(f"unknown peer {unknown[0]!r}; choose from {', '.join(PEERS)}")
    for peer in arguments.peers or PEERS:
        install(peer, arguments.pip_argument)


if __name__ == "__main__":
    main()

"""Checks a built wheel without the source tree: `python tests/check_wheel.py dist/llm_gym-*.whl`.

Its only top-level name is `llm_gym`, every module imports, the environments register, and the
embedded models are inside, in at most 4 MB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MAX_ASSET_BYTES = 4 * 1024 * 1024

INSIDE = """
import importlib, pkgutil, sys
import gymnasium, llm_gym
assert llm_gym.__file__.startswith(sys.argv[1]), llm_gym.__file__
names = [m.name for m in pkgutil.walk_packages(llm_gym.__path__, "llm_gym.")]
for name in names:
    if not name.endswith(".__main__"):
        importlib.import_module(name)
for name in llm_gym.__all__:
    getattr(llm_gym, name)
env = gymnasium.make("llm_gym/PoliteEmail-v0")
env.reset(seed=0)
print(f"imported {len(names)} modules from the wheel")
"""


def main(wheel: str) -> None:
    """Runs all checks; raises SystemExit with a message where one fails."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as directory:
        entries = archive.infolist()
        top_level = {entry.filename.split("/")[0] for entry in entries}
        stray = {name for name in top_level if name != "llm_gym" and ".dist-info" not in name}
        if stray:
            raise SystemExit(f"{wheel} installs top-level names besides llm_gym: {sorted(stray)}")
        assets = sum(entry.file_size for entry in entries if "/assets/" in entry.filename)
        if not 0 < assets <= MAX_ASSET_BYTES:
            raise SystemExit(f"{wheel} has {assets} bytes of assets; allowed are 1 to 4 MB")
        if not any(entry.filename == "llm_gym/py.typed" for entry in entries):
            raise SystemExit(f"{wheel} has no llm_gym/py.typed")
        pages = [
            entry for entry in entries if "llm_gym/feedback/labelling/pages/" in entry.filename
        ]
        if {Path(entry.filename).suffix for entry in pages} < {".html", ".css", ".js"}:
            raise SystemExit(f"{wheel} lacks files of the labelling page: it has {pages}")
        archive.extractall(directory)
        subprocess.run(
            [sys.executable, "-c", INSIDE, directory],
            check=True,
            cwd=Path(directory).anchor,
            env={**os.environ, "PYTHONPATH": directory},
        )


if __name__ == "__main__":
    main(sys.argv[1])

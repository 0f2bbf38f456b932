from __future__ import annotations

import re
import subprocess

from llm_gym.files import commit, machine, provenance, versions


def test_versions_are_those_of_the_installed_libraries():
    import gymnasium
    import torch

    found = versions()
    assert found["gymnasium"] == gymnasium.__version__
    assert found["torch"] == torch.__version__
    assert {"python", "llm-gym", "transformers", "stable-baselines3"} <= found.keys()


def test_commit_is_a_full_hash_or_unknown(monkeypatch, tmp_path):
    found = commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found)
    module = tmp_path / "llm_gym" / "report" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert commit() is None  # not a source tree
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert commit() is None  # nothing committed


def test_machine_says_how_many_cores():
    assert machine()["cores"] >= 1

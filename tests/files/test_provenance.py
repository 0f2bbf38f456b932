from __future__ import annotations

import json
import re
import subprocess

import torch

from llm_gym.files import commit, machine, provenance, versions


def test_versions_are_those_of_the_installed_libraries():
    import gymnasium
    import torch
    from packaging.version import Version

    recorded = versions()
    assert recorded["gymnasium"] == gymnasium.__version__
    # The metadata of a build may leave out its local version: "2.13.0" for "2.13.0+cu130".
    assert Version(recorded["torch"]).public == Version(torch.__version__).public
    assert {"python", "llm-gym", "transformers", "stable-baselines3"} <= recorded.keys()


def test_commit_is_a_full_hash_or_unknown(monkeypatch, tmp_path):
    recorded = commit()
    assert recorded is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", recorded)
    module = tmp_path / "llm_gym" / "report" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert commit() is None  # not a source tree
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert commit() is None  # nothing committed


def test_a_machine_says_what_it_computes_with():
    described = machine()
    assert described["cores"] >= 1
    assert described["system"]
    assert described["processor"]
    assert json.loads(json.dumps(described, allow_nan=False)) == described


def test_the_number_of_threads_is_named():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert machine()["threads"] == threads
    finally:
        torch.set_num_threads(before)

"""Models whose files say what no training wrote are refused, before anything is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llm_gym.feedback.dpo.progress import TENSORS, Progress
from llm_gym.feedback.reward_model import RewardModelScorer
from llm_gym.feedback.reward_model.backbone import load_backbone
from llm_gym.feedback.reward_model.fitting import save, scorer_for
from llm_gym.feedback.reward_model.scorer import RECORD
from llm_gym.files import owned
from llm_gym.language_models import load_causal_lm
from llm_gym.scorers import SequenceClassifierScorer
from llm_gym.testing.tiny import tiny_model


@pytest.fixture(scope="module")
def reward(tmp_path_factory, tiny_dir):
    path = tmp_path_factory.mktemp("reward") / "model"
    save(scorer_for(*load_backbone(tiny_dir()), "{prompt} {completion}", None), path, "float32", {})
    return path


def change_config(path, change):
    config = path / "config.json"
    before = config.read_text()
    content = json.loads(before)
    change(content)
    config.write_text(json.dumps(content))
    return before


@pytest.mark.parametrize(
    "template",
    [
        "hello",
        "{completion:>9999999999}",
        "{completion!r}",
        "{completion.__class__}",
        "{completion[0]}",
        "{completion}{",
        "{completion}{rater}",
        "{completion}" * 10_000,
        7,
        ["{completion}"],
    ],
)
def test_a_recorded_template_is_checked_like_one_that_is_passed(template, reward):
    before = change_config(reward, lambda c: c[RECORD].__setitem__("template", template))
    with pytest.raises(ValueError, match=r"reward model .*template must be None, 'chat' or"):
        RewardModelScorer(reward)
    (reward / "config.json").write_text(before)
    RewardModelScorer(reward)


def test_a_record_that_lacks_something_is_named(reward):
    before = change_config(reward, lambda c: c[RECORD].pop("tokenizer"))
    with pytest.raises(ValueError, match=f"{RECORD}.tokenizer is missing"):
        RewardModelScorer(reward)
    (reward / "config.json").write_text(before)


@pytest.mark.parametrize("load", [load_causal_lm, load_backbone, SequenceClassifierScorer])
@pytest.mark.parametrize(("key", "value"), [("n_layer", 10**6), ("n_embd", 10**12)])
def test_a_configuration_beyond_its_weights_is_refused_before_a_model_is_built(
    load, key, value, tiny_dir
):
    path = tiny_dir()
    before = change_config(Path(path), lambda c: c.__setitem__(key, value))
    with pytest.raises(ValueError, match=f"config.json: {key}={value} is more than the weights"):
        load(path)
    (Path(path) / "config.json").write_text(before)


@pytest.mark.parametrize("load", [load_causal_lm, load_backbone, SequenceClassifierScorer])
def test_a_pickle_of_weights_is_not_read(load, tiny_dir, tmp_path):
    from llm_gym.testing.tiny import save_tiny_model

    path = save_tiny_model(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "model" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"no \*\.safetensors file in"):
        load(path)


def test_the_rest_of_a_run_of_dpo_must_fit_the_model(tmp_path):
    def started():
        model = tiny_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return model, optimizer

    model, optimizer = started()
    progress = Progress.beside(tmp_path / "out", {"a": 1})
    progress.note(loss=1.0)
    progress.save(model, optimizer)
    again = Progress.beside(tmp_path / "out", {"a": 1})
    again.restore(*started())
    moment = next(name for name in again.tensors if name.endswith("exp_avg"))
    for lie in (torch.zeros(1), again.tensors[moment].double(), again.tensors[moment] * torch.nan):
        lying = Progress.beside(tmp_path / "out", {"a": 1})
        lying.tensors[moment] = lie
        fresh, untouched = started()
        before = [p.clone() for p in fresh.parameters()]
        with pytest.raises(ValueError, match=f"{TENSORS} does not fit: optimizer"):
            lying.restore(fresh, untouched)
        assert all(torch.equal(a, b) for a, b in zip(before, fresh.parameters(), strict=True))
    record = progress.directory / "progress.json"
    record.write_text(record.read_text().replace("1.0", "2.0"))
    with pytest.raises(ValueError, match=r"progress\.json is corrupt"):
        Progress.beside(tmp_path / "out", {"a": 1})
    record.write_text("[" * 100_000)
    owned.write_marker(
        progress.directory, "unfinished run of DPO", files=owned.manifest(progress.directory)
    )
    with pytest.raises(ValueError, match=r"progress\.json cannot be read"):
        Progress.beside(tmp_path / "out", {"a": 1})

"""Gradients of a tied matrix whose embedding gives the rows that were read, against dense ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llm_gym.language_models.packing import pack
from llm_gym.policy import tied_gradients
from llm_gym.policy.chunked_likelihood import answer_token_log_probs
from llm_gym.policy.tied_gradients import rows_alone
from llm_gym.testing.tiny import tiny_model
from tests.learning.online_worlds import MODEL, make, small_env

BATCH = pack([[3, 4, 5, 6, 7, 3], [8, 9, 3], [8, 9, 9, 9]], [2, 1, 1])


@pytest.fixture(autouse=True)
def every_table_is_worth_it(monkeypatch):
    monkeypatch.setattr(tied_gradients, "LEAST_BYTES", 0)


def tied_model(dtype=torch.float64):
    torch.manual_seed(0)
    model = tiny_model("gpt2", 32).to(dtype)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return model


def reads_rows(model):
    return "forward" in vars(model.get_input_embeddings())


def backward(model, n_times=1):
    model.zero_grad(set_to_none=True)
    for factor in range(1, n_times + 1):
        (factor * answer_token_log_probs(model, BATCH).sum()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("n_times", [1, 3])
def test_gradients_are_the_same(n_times):
    """Tokens that are read several times, and backward passes that add up."""
    model = tied_model()
    expected = backward(model, n_times)
    with rows_alone(model):
        assert reads_rows(model)
        found = backward(model, n_times)
    assert not reads_rows(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-12, rtol=0)


def test_a_loss_without_the_head_has_them_too():
    model = tied_model()

    def run():
        model.zero_grad(set_to_none=True)
        model.transformer(BATCH.input_ids).last_hidden_state.sum().backward()
        return model.get_input_embeddings().weight.grad

    expected = run()
    with rows_alone(model):
        found = run()
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_padding_is_not_learnt():
    model = tied_model()
    model.get_input_embeddings().padding_idx = 9
    expected = backward(model)
    with rows_alone(model):
        found = backward(model)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-12, rtol=0)


def test_nothing_of_the_table_s_size_is_made_but_the_head_s_share():
    """With a width of its own the table has a size that nothing else has."""
    model = tied_model()
    weight = model.get_input_embeddings().weight

    class Made(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            made = isinstance(result, torch.Tensor) and result.shape == weight.shape
            given = {id(a) for a in args} | {id(a) for a in (kwargs or {}).values()}
            self.count += made and id(result) not in given and result._base is None
            return result

    def made():
        model.zero_grad(set_to_none=True)
        loss = answer_token_log_probs(model, BATCH).sum()
        with Made() as mode:
            loss.backward()
        return mode.count

    plainly = made()
    with rows_alone(model):
        assert made() == plainly - 2  # a table of zeros, and the sum


def test_an_error_leaves_the_model_as_it_was():
    model = tied_model()
    with pytest.raises(ZeroDivisionError), rows_alone(model):
        raise ZeroDivisionError
    assert not reads_rows(model)


def changed(model, **options):
    for name, value in options.items():
        setattr(model.get_input_embeddings(), name, value)
    return model


def watched(model, register):
    getattr(model.get_input_embeddings().weight, register)(lambda _: None)
    return model


class Scaling(torch.nn.Embedding):
    def forward(self, ids):
        return 2 * super().forward(ids)


def of_another_kind(model):
    weight = model.get_input_embeddings().weight
    model.set_input_embeddings(Scaling(*weight.shape, _weight=weight))
    model.get_input_embeddings().weight = weight
    return model


def read_twice(model):
    model.another = torch.nn.Embedding(1, 1)
    model.another.weight = model.get_input_embeddings().weight
    return model


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: tiny_model("llama", 32), id="not tied"),
        pytest.param(lambda: tied_model().requires_grad_(False), id="not learnt"),
        pytest.param(lambda: tied_model(torch.bfloat16), id="16 bits"),
        pytest.param(lambda: changed(tied_model(), scale_grad_by_freq=True), id="scaled"),
        pytest.param(lambda: changed(tied_model(), sparse=True), id="sparse"),
        pytest.param(lambda: changed(tied_model(), max_norm=1.0), id="renormed"),
        pytest.param(lambda: watched(tied_model(), "register_hook"), id="a hook"),
        pytest.param(
            lambda: watched(tied_model(), "register_post_accumulate_grad_hook"), id="a later hook"
        ),
        pytest.param(lambda: read_twice(tied_model()), id="two embeddings"),
        pytest.param(lambda: of_another_kind(tied_model()), id="another embedding"),
    ],
)
def test_others_are_left_alone(model):
    model = model()
    with rows_alone(model):
        assert not reads_rows(model)


def test_a_model_without_a_head_is_left_alone():
    with rows_alone(Headless()):
        pass


class Headless(torch.nn.Module):
    def get_output_embeddings(self):
        return None


def test_small_tables_are_left_alone(monkeypatch):
    model = tied_model()
    size = model.get_input_embeddings().weight.nbytes
    for limit, expected in ((size, True), (size + 1, False)):
        monkeypatch.setattr(tied_gradients, "LEAST_BYTES", limit)
        with rows_alone(model):
            assert reads_rows(model) == expected


@pytest.mark.parametrize("algorithm", ["PPO", "RLOO", "GRPO", "ExpertIteration"])
def test_algorithms_learn_the_same_with_it(tiny_dir, monkeypatch, algorithm):
    """Rows are added in updates, and the weights end up the same."""
    added = []
    add = tied_gradients._add_rows
    monkeypatch.setattr(tied_gradients, "_add_rows", lambda *rows: added.append(1) or add(*rows))
    model, ends = tiny_dir("gpt2", **MODEL), []
    for limit in (0, 2**40):
        monkeypatch.setattr(tied_gradients, "LEAST_BYTES", limit)
        env = small_env(model, group_size=4)
        learner = make(algorithm, model, env, policy_kwargs={"dtype": "float64"})
        learner.learn(1)
        ends.append(copy.deepcopy(learner.policy.state_dict()))
        assert bool(added) == (limit == 0)
        added.clear()
    for name, ours in ends[0].items():
        torch.testing.assert_close(ours, ends[1][name], atol=1e-8, rtol=0)

from __future__ import annotations

import io
import json
import pickle
import zipfile

import gymnasium as gym
import llm_gym_autopilot  # noqa: F401 -- registers the environments
import numpy as np
import pytest
from llm_gym_autopilot.evaluation import evaluate_pilot
from llm_gym_autopilot.movement import positions
from llm_gym_autopilot.pilots import load_pilot
from llm_gym_autopilot.pilots.network import NetworkPilot, save_network

OBSERVATIONS = np.random.default_rng(0).normal(0, 2, (50, 11)).astype(np.float32)
KINDS = ("PPO", "PPO-discrete", "SAC", "DQN")


def make_model(kind, **policy):
    sb3 = pytest.importorskip("stable_baselines3")
    import torch

    discrete = kind in ("PPO-discrete", "DQN")
    env = gym.make("llm_gym/AutopilotDiscrete-v0" if discrete else "llm_gym/Autopilot-v0")
    policy = {"net_arch": [16, 8], **policy}
    kwargs = {"buffer_size": 10} if kind in ("SAC", "DQN") else {"n_steps": 8, "batch_size": 8}
    model = getattr(sb3, kind.partition("-")[0])(
        "MlpPolicy", env, policy_kwargs=policy, seed=0, device="cpu", **kwargs
    )
    with torch.no_grad():  # at the start PPO's outputs and all biases are too small to tell apart
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def saved(tmp_path):
    def save(kind):
        model = make_model(kind)
        save_network(model, tmp_path / f"{kind}.npz", steps=5, seed=0)
        return model, tmp_path / f"{kind}.npz"

    return save


@pytest.mark.parametrize("kind", KINDS)
def test_flies_as_the_model_it_was_saved_from(kind, saved):
    model, path = saved(kind)
    pilot = NetworkPilot.load(path)
    expected, _ = model.predict(OBSERVATIONS, deterministic=True)
    actions, _ = pilot.predict(OBSERVATIONS)
    assert actions.shape == expected.shape
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert len(np.unique(expected, axis=0)) > 1
    single, state = pilot.predict(OBSERVATIONS[0])
    np.testing.assert_allclose(single, expected[0], atol=1e-5)
    assert state is None
    assert pilot.discrete == (kind in ("PPO-discrete", "DQN"))


def test_relu_and_other_widths(tmp_path):
    import torch

    model = make_model("PPO", activation_fn=torch.nn.ReLU, net_arch={"pi": [5], "vf": [9, 9]})
    pilot = save_network(model, tmp_path / "relu.npz")
    np.testing.assert_allclose(
        pilot.predict(OBSERVATIONS)[0],
        model.predict(OBSERVATIONS, deterministic=True)[0],
        atol=1e-5,
    )
    assert pilot.layers == [11, 5, 2]


@pytest.mark.parametrize("kind", ["PPO", "SAC"])
def test_explores_with_the_spread_of_the_model(kind, saved):
    """Mean and deviation of many draws for one observation agree with Stable-Baselines3's."""
    model, path = saved(kind)
    many = np.repeat(OBSERVATIONS[:1] * 0.1, 20_000, axis=0)
    actions = NetworkPilot.load(path, seed=1).predict(many, deterministic=False)[0]
    expected = model.predict(many, deterministic=False)[0]
    assert expected.std(0).min() > 0.05
    np.testing.assert_allclose(actions.mean(0), expected.mean(0), atol=0.03)
    np.testing.assert_allclose(actions.std(0), expected.std(0), atol=0.03)
    assert np.abs(actions).max() <= 1.0


def test_explores_clicks_by_their_probabilities(saved):
    model, path = saved("PPO-discrete")
    many = np.repeat(OBSERVATIONS[:1], 20_000, axis=0)
    clicks = NetworkPilot.load(path, seed=1).predict(many, deterministic=False)[0]
    expected = model.policy.get_distribution(model.policy.obs_to_tensor(many[:1])[0]).distribution
    shares = np.bincount(clicks, minlength=9) / len(many)
    np.testing.assert_allclose(shares, expected.probs[0].detach().numpy(), atol=0.02)


def test_a_value_network_does_not_explore(saved):
    _, path = saved("DQN")
    pilot = NetworkPilot.load(path)
    np.testing.assert_array_equal(
        pilot.predict(OBSERVATIONS, deterministic=False)[0], pilot.predict(OBSERVATIONS)[0]
    )


def test_movements_are_added_to_what_the_observation_shows(tmp_path):
    """The network of a model trained behind MovementActions flies as model and wrapper together."""
    model = make_model("PPO")
    save_network(model, tmp_path / "moves.npz", moves=(0.5, 0.6))
    pilot = NetworkPilot.load(tmp_path / "moves.npz")
    seen = np.clip(OBSERVATIONS, -1, 1)
    moves, _ = model.predict(seen, deterministic=True)
    np.testing.assert_allclose(
        pilot.predict(seen)[0], positions(seen, moves, (0.5, 0.6)), atol=1e-5
    )
    np.testing.assert_allclose(
        pilot.predict(seen[0])[0], positions(seen[0], moves[0], (0.5, 0.6)), atol=1e-5
    )
    assert pilot.metadata["moves"] == [0.5, 0.6]


def test_provenance_is_kept_and_bytes_repeat(saved, tmp_path):
    _, path = saved("PPO")
    pilot = NetworkPilot.load(path)
    assert pilot.metadata["provenance"] == {"steps": 5, "seed": 0}
    assert pilot.metadata["algorithm"] == "PPO"
    assert pilot.metadata["layers"] == pilot.layers == [11, 16, 8, 2]
    again = pilot.save(tmp_path / "deep" / "again.npz")
    assert again.read_bytes() == path.read_bytes()
    assert [file.name for file in again.parent.iterdir()] == ["again.npz"]


def test_flies_an_episode(saved):
    _, path = saved("PPO-discrete")
    pilot = NetworkPilot.load(path)
    env = gym.make("llm_gym/AutopilotDiscrete-v0")
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        action, _ = pilot.predict(observation)
        observation, *_ = env.step(action)
    assert env.observation_space.contains(observation)


# ---------------------------------------------------------------------- mistakes and hostile files


def content(pilot_path):
    with np.load(pilot_path) as archive:
        return {name: archive[name] for name in archive.files}


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


def with_metadata(arrays, **changes):
    metadata = {**json.loads(str(arrays["metadata"])), **changes}
    return {**arrays, "metadata": np.array(json.dumps(metadata))}


HOSTILE = {
    "pickled": lambda a: {**a, "weight_0": np.array([Bomb()], dtype=object)},
    "pickled metadata": lambda a: {**a, "metadata": np.array(Bomb(), dtype=object)},
    "no metadata": lambda a: without(a, "metadata"),
    "no bias": lambda a: without(a, "bias_1"),
    "no first weight": lambda a: without(a, "weight_0"),
    "no last weight": lambda a: without(a, "weight_2"),
    "no spread": lambda a: without(a, "log_std"),
    "no arrays": lambda a: {"metadata": a["metadata"]},
    "shapes do not fit": lambda a: {**a, "weight_1": a["weight_1"][:, :-1]},
    "a vector": lambda a: {**a, "weight_1": a["weight_1"][0]},
    "wrong inputs": lambda a: {**a, "weight_0": a["weight_0"][:, :5]},
    "wrong bias": lambda a: {**a, "bias_0": a["bias_0"][:3]},
    "wrong spread": lambda a: {**a, "log_std": np.zeros(3)},
    "not finite": lambda a: {**a, "bias_0": np.full(16, np.nan)},
    "overflow": lambda a: {**a, "bias_0": np.full(16, 1e300)},
    "texts": lambda a: {**a, "bias_0": np.array(["x"] * 16)},
    "integers": lambda a: {**a, "bias_0": np.ones(16, dtype=np.int64)},
    "many layers": lambda a: {
        **a,
        **{f"weight_{i}": np.eye(8) for i in range(3, 40)},
        **{f"bias_{i}": np.zeros(8) for i in range(3, 40)},
    },
    "not JSON": lambda a: {**a, "metadata": np.array("{")},
    "deep JSON": lambda a: {**a, "metadata": np.array("[" * 100_000)},
    "a list": lambda a: {**a, "metadata": np.array("[]")},
    "numbers as metadata": lambda a: {**a, "metadata": np.zeros(4)},
    "other format": lambda a: with_metadata(a, format="something else"),
    "unknown head": lambda a: with_metadata(a, head="softmax"),
    "a list as head": lambda a: with_metadata(a, head=["clip"]),
    "head of another size": lambda a: with_metadata(a, head="argmax"),
    "unknown activation": lambda a: with_metadata(a, activation="__import__"),
    "one move": lambda a: with_metadata(a, moves=[0.5]),
    "a huge move": lambda a: with_metadata(a, moves=[0.5, 1e9]),
    "moves of texts": lambda a: with_metadata(a, moves=["a", "b"]),
    "moves that are a text": lambda a: with_metadata(a, moves="ab"),
    "no truth": lambda a: with_metadata(a, spread="yes"),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_one_clear_error(name, saved, tmp_path):
    _, path = saved("PPO")
    broken = tmp_path / "broken.npz"
    np.savez(broken, allow_pickle=True, **HOSTILE[name](content(path)))
    with pytest.raises(ValueError, match=r"broken\.npz is no network: .+"):
        NetworkPilot.load(broken)


def damaged(data):
    middle = len(data) // 2
    return data[:middle] + bytes(200) + data[middle + 200 :]


def huge(data):
    """A header that promises far more numbers than there are."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 16)}
    )
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("weight_9.npy", header.getvalue())
    return out.getvalue()


def bomb(data):
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight_9.npy", bytes(80 * 2**20))
    return out.getvalue()


FILES = {
    "empty": lambda data: b"",
    "text": lambda data: b"not an archive",
    "pickle": lambda data: pickle.dumps(Bomb()),
    "cut off": lambda data: data[: len(data) // 2],
    "damaged": damaged,
    "huge": huge,
    "bomb": bomb,
}


@pytest.mark.parametrize("name", FILES)
def test_any_other_file_is_one_clear_error(name, saved, tmp_path):
    _, path = saved("PPO")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(FILES[name](path.read_bytes()))
    with pytest.raises(ValueError, match=r"broken\.npz is no network: .+"):
        NetworkPilot.load(broken)


def test_mistakes_are_named(saved, tmp_path):
    model, path = saved("PPO")
    with pytest.raises(FileNotFoundError):
        NetworkPilot.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"observation must have shape \(11,\) or \(N, 11\), got"):
        NetworkPilot.load(path).predict(np.zeros((2, 10), np.float32))
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        save_network(model, tmp_path / "pilot.zip")
    with pytest.raises(TypeError, match="model must be PPO, SAC or DQN"):
        save_network(object(), tmp_path / "pilot.npz")


def test_unknown_activations_are_not_saved(tmp_path):
    import torch

    model = make_model("PPO", activation_fn=torch.nn.ELU)
    with pytest.raises(ValueError, match="activations are elu; it must have one of tanh, relu"):
        save_network(model, tmp_path / "pilot.npz")


def test_the_shipped_network_flies():
    """Calm air is where every flight has to succeed."""
    pilot = load_pilot("ppo")
    assert isinstance(pilot, NetworkPilot)
    assert pilot.metadata["provenance"]["script"] == "agents/ppo_autopilot.py"
    evaluation = evaluate_pilot(pilot, turbulence="none", episodes=50)
    assert evaluation.mean_return > 270
    assert evaluation.success_rate == 1.0

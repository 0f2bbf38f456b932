"""Our worlds in other libraries: those libraries themselves call them."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import gymnasium as gym
import numpy as np
import pytest

import llm_gym
from llm_gym.testing.tiny import tiny_model, tiny_tokenizer
from llm_gym.turns.hosts.gem import GemEnv
from llm_gym.turns.hosts.trl import TRLEnvironment, trl_reward, trl_rollout
from llm_gym.turns.hosts.verifiers import verifiers_classes
from llm_gym.turns.worlds import world_maker
from tests.chat_tokenizers import byte_tokenizer
from tests.turns.worlds import Scripted, hanging


class Echo:
    """Says one of four words, three times; the agent should say it, too."""

    def reset(self, *, seed):
        self.random, self.turns = random.Random(seed), 0
        return self.say()

    def say(self):
        self.word = f"w{self.random.randrange(4)}"
        return self.word

    def step(self, text):
        self.turns += 1
        reward = float(text == self.word)
        return self.say(), reward, self.turns == 3, False, {}


class Uneven(Echo):
    """Ends after three turns, or after one if its seed is even."""

    def reset(self, *, seed):
        self.is_short = seed % 2 == 0
        return super().reset(seed=seed)

    def step(self, text):
        said, reward, ended, *rest = super().step(text)
        return said, reward, ended or self.is_short, *rest


class CutOff(Uneven):
    """Is cut off where the other ends; who goes on all the same comes to an end later."""

    def step(self, text):
        said, reward, ended, _, info = super().step(text)
        return said, reward, self.turns > 3, ended, info


def heard(world, seed, says):
    """First text and answers, up to the end."""
    first = world.reset(seed=seed)
    told = [first[0] if isinstance(first, tuple) else first]
    for word in says:
        told.append(world.step(word)[:4])
        if told[-1][2]:
            break
    return told


def test_gem_makes_a_world_of_ours_and_plays_it_side_by_side():
    gem = pytest.importorskip("gem", reason="an optional library")
    from gem.envs.registration import ENV_REGISTRY

    name = "llm_gym:echo"
    gem.register(name, lambda seed=None: GemEnv(Echo))
    try:
        several = gem.make_vec([name, name], seed=3)
        texts, _ = several.reset(seed=3)
        assert list(texts) == [Echo().reset(seed=3), Echo().reset(seed=4)]
        assert several.step(list(texts))[1].tolist() == [1.0, 1.0]
        world = world_maker(f"gem:{name}", 1, {})()  # and back
    finally:
        del ENV_REGISTRY[name]
    assert heard(world, 5, ["w1", "w2", "w3"]) == heard(Echo(), 5, ["w1", "w2", "w3"])


def test_a_task_of_tokens_is_the_same_to_gem():
    env = gym.make("llm_gym/PoliteEmail-v0")
    hosted = GemEnv(lambda: llm_gym.as_turns(env))
    prompt, _ = hosted.reset(seed=1)
    email = (
        "Dear Ben, could I please work in the quiet room on Friday? "
        "Thank you very much for your help. Kind regards, Kim"
    )
    _, score, terminated, _, info = hosted.step(email)
    assert info["prompt"] == prompt
    assert info["completion"] == email
    assert info["score"] == score > 0
    assert terminated
    with pytest.raises(ValueError, match="cannot be copied"):
        hosted.spawn(same_state=True)
    assert hosted.spawn().world is not hosted.world


def grpo(**kwargs):
    trl = pytest.importorskip("trl", reason="an optional library")
    from datasets import Dataset

    settings, rows = kwargs.pop("settings"), kwargs.pop("rows")
    config = trl.GRPOConfig(
        use_cpu=True,
        bf16=False,
        seed=0,
        beta=0.0,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        **settings,
    )
    return trl.GRPOTrainer(args=config, train_dataset=Dataset.from_list(rows), **kwargs)


def echo_env(num_envs=16, **kwargs):
    settings = {"autoreset_mode": "Disabled", "world": Echo} | kwargs
    return gym.make_vec(
        "llm_gym/Turns-v0",
        num_envs=num_envs,
        tokenizer=tiny_tokenizer(5),
        max_turn_tokens=1,
        context_length=12,
        **settings,
    ).unwrapped


def test_grpo_of_trl_plays_and_learns_from_conversations(tmp_path):
    model = tiny_model("llama", 8, initializer_range=0.02)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    paid = []

    def reward(**told):
        paid.append(trl_reward(**told))
        return paid[-1]

    trainer = grpo(
        settings={
            "output_dir": str(tmp_path),
            "per_device_train_batch_size": 32,
            "num_generations": 8,
            "max_steps": 1,
        },
        rows=[{"prompt": str(seed)} for seed in range(8)],
        model=model,
        processing_class=tiny_tokenizer(5),
        rollout_func=trl_rollout(echo_env()),
        reward_funcs=reward,
    )
    trainer.train()
    assert len(paid[0]) == 32
    assert trainer.state.log_history[0]["reward"] == pytest.approx(np.mean(paid[0]), rel=1e-6)
    assert any(not weight.equal(before[name]) for name, weight in model.state_dict().items())


class Always:
    """A model of TRL's trainer that says one word."""

    temperature = 1.0

    def __init__(self, word):
        self.word = word

    def parameters(self):
        import torch

        return iter([torch.zeros(1)])

    @property
    def model(self):
        return self

    def __call__(self, input_ids):
        import torch

        logits = torch.full((*input_ids.shape, 8), -50.0)
        logits[..., tiny_tokenizer(5).convert_tokens_to_ids(self.word)] = 50.0
        return type("Output", (), {"logits": logits})


def test_what_a_rollout_hands_to_trl():
    env = echo_env(num_envs=2, world=Uneven)
    seeds = [5, 4, 6, 7, 4]
    told = trl_rollout(env)([str(seed) for seed in seeds], Always("w1"))
    tokenizer = tiny_tokenizer(5)
    for place, seed in enumerate(seeds):
        first, *rest = heard(Uneven(), seed, ["w1"] * 3)
        said = ["w1", *(word for answer in rest[:-1] for word in (answer[0], "w1"))]
        assert tokenizer.decode(told["prompt_ids"][place]) == first
        assert tokenizer.decode(told["completion_ids"][place]) == " ".join(said)
        assert told["env_mask"][place] == [1, *[0, 1] * (len(rest) - 1)]
        assert told["episode_return"][place] == sum(answer[1] for answer in rest)
        assert told["logprobs"][place] == [0.0] * len(said)
    with pytest.raises(ValueError, match='autoreset_mode="Disabled"'):
        trl_rollout(echo_env(num_envs=2, autoreset_mode="SameStep"))


@pytest.mark.parametrize("ends", [(True, False), (False, True)])
def test_a_world_of_trl_is_paid_for_one_conversation_to_its_end(ends):
    world = TRLEnvironment(
        lambda: Scripted("w1", [("w2", 0.5, False, False, {}), ("w3", 2.0, *ends, {})])
    )
    for _ in range(2):
        assert world.reset(seed=1) == "w1"
        assert world.get_reward() == 0.0
        assert [world.answer("w5") for _ in range(2)] == ["w2", "w3"]
        assert world.answer("w6") == "The conversation is over."
        assert world.get_reward() == 2.5


def test_trl_lets_a_model_speak_to_a_world_by_a_tool(tmp_path):
    templates = pytest.importorskip("trl.chat_template_utils", reason="an optional library")
    tokenizer = byte_tokenizer(templates.qwen3_chat_template, adds_bos=False)
    tokenizer.eos_token = "<|im_end|>"
    trainer = grpo(
        settings={
            "output_dir": str(tmp_path),
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "max_steps": 1,
            "max_completion_length": 600,
        },
        rows=[{"prompt": [{"role": "user", "content": "Say it: "}], "seed": 3}] * 4,
        model=tiny_model("llama", len(tokenizer), max_position_embeddings=2048),
        processing_class=tokenizer,
        environment_factory=lambda: TRLEnvironment(Echo),
    )
    prompts = []

    def scripted(prompt_ids, *_, **__):
        """Row i says the word wi, four times, of which the last is after the end."""
        prompts.append(tokenizer.decode(prompt_ids[0]))
        call = '<tool_call>\n{{"name": "answer", "arguments": {{"text": "w{}"}}}}\n</tool_call>'
        says = [call.format(i) if len(prompts) <= 4 else "Done." for i in range(len(prompt_ids))]
        return [tokenizer.encode(f"{s}<|im_end|>", add_special_tokens=False) for s in says], None

    trainer._generate_single_turn = scripted
    trainer.train()
    first, *rest = heard(Echo(), 3, ["w0"] * 3)
    assert f"Say it: {first}<|im_end|>" in prompts[0]
    answers = prompts[-1].split("<tool_response>\n")[1:]
    assert [text.partition("\n")[0] for text in answers] == [
        *(answer[0] for answer in rest),
        "The conversation is over.",
    ]
    expected = [sum(answer[1] for answer in heard(Echo(), 3, [f"w{i}"] * 3)[1:]) for i in range(4)]
    assert [world.get_reward() for world in trainer.environments] == expected
    assert sum(expected) > 0


class Parrot(BaseHTTPRequestHandler):
    """A server of chats that says the last word it heard."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        last = body["messages"][-1]["content"]
        text = last if isinstance(last, str) else last[0]["text"]
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": text},
        }
        told = {
            "id": "0",
            "object": "chat.completion",
            "created": 0,
            "model": "parrot",
            "choices": [choice],
        }
        answer = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def parrot():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def by_verifiers(monkeypatch, parrot):
    """Plays a world's first tasks, as `vf-eval` does, with the parrot in the seat."""
    vf = pytest.importorskip("verifiers.v1", reason="an optional library")
    import httpx

    class InProcess(vf.Harness[vf.HarnessConfig]):
        """Asks the model once a turn, without a process of its own."""

        SUPPORTS_RESUME, NEEDS_CONTAINER, EXECUTES_CODE = True, False, False

        async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
            said = [{"role": m.role, "content": m.content} for m in data.prompt]
            async with httpx.AsyncClient() as client:
                answer = await client.post(
                    f"{endpoint}/chat/completions",
                    json={"model": ctx.model, "messages": said},
                    headers={"Authorization": f"Bearer {secret}"},
                )
            return vf.ProgramResult(exit_code=answer.is_error, stdout="", stderr=answer.text)

    def play(make, number, **kwargs):
        taskset, environment = verifiers_classes(make, **kwargs)
        world = types.ModuleType("a_world")
        world.__dict__.update(T=taskset, E=environment, __all__=["T", "E"])
        harness = types.ModuleType("in_process")
        harness.__dict__.update(H=InProcess, __all__=["H"])
        monkeypatch.setitem(sys.modules, "a_world", world)
        monkeypatch.setitem(sys.modules, "in_process", harness)
        seat = {"harness": {"id": "in_process"}, "runtime": {"type": "subprocess"}}
        config = vf.resolve_env_config({"taskset": {"id": "a_world"}, "player": seat})
        env = vf.load_environment(config)
        context = vf.ModelContext(
            client=vf.EvalClientConfig(base_url=parrot, api_key_var="NO_SUCH_KEY"),
            model="parrot",
            sampling=vf.SamplingConfig(),
        )

        async def episodes():
            async with env.serving():
                slots = [slot for task in env.taskset.take(number) for slot in env.slots(task)]
                return await asyncio.gather(*(env.run_slot(slot, context) for slot in slots))

        return asyncio.run(episodes())

    return play


@pytest.mark.parametrize("world", [Uneven, CutOff])
def test_verifiers_plays_a_world_of_ours(by_verifiers, world):
    for seed, episode in enumerate(by_verifiers(world, 4)):
        assert episode.ok, episode.errors
        (trace,) = episode.traces
        first = Uneven().reset(seed=seed)
        expected = [first] if seed % 2 == 0 else [first, *_echoed(seed)]
        assert [m.content for m in trace.branches[-1].messages[::2]] == expected
        assert trace.reward == len(expected)
        assert trace.rewards["return"].score == len(expected)


def test_verifiers_scores_a_task_of_ours(by_verifiers):
    def email():
        return llm_gym.as_turns(gym.make("llm_gym/PoliteEmail-v0"))

    (episode,) = by_verifiers(email, 1)
    task = email()
    prompt, _ = task.reset(seed=0)
    (trace,) = episode.traces
    assert [m.content for m in trace.branches[-1].messages] == [prompt, prompt]
    assert trace.reward == task.step(prompt)[1]


def _echoed(seed):
    """What the world says to a player who says what it hears, after the first text."""
    world = Echo()
    text, said = world.reset(seed=seed), []
    for _ in range(2):
        text = world.step(text)[0]
        said.append(text)
    return said


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Scripted(answers=[("w1", float("nan"), False, False, {})]), "the reward nan"),
        (lambda: Scripted(answers=[hanging]), "took longer than world_time_limit=0.2 s"),
        (lambda: Scripted(hanging), "took longer than world_time_limit=0.2 s"),
    ],
)
def test_a_world_that_fails_is_an_error_of_its_episode_in_verifiers(by_verifiers, make, match):
    (episode,) = by_verifiers(make, 1, time_limit=0.2)
    assert not episode.ok
    assert match in episode.errors[-1].message


def test_without_verifiers_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "verifiers", None)
    monkeypatch.delitem(sys.modules, "verifiers.v1", raising=False)
    with pytest.raises(ImportError, match=r"needs verifiers: pip install 'llm-gym\[verifiers\]'"):
        verifiers_classes(Echo)

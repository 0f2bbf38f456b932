# %% [markdown]
# # 3 · Trial and error in a cockpit
#
# **The question.** How can something learn when nobody shows it what to do, and all it ever hears
# is "better" or "worse"?
#
# We leave text for one lesson. In an aeroplane you can see what is going on. Four words carry the
# rest of the course:
#
# | word | what it is | in the cockpit |
# |---|---|---|
# | **state** | what is known now | the instruments |
# | **action** | what can be done | stick and throttle, five times a second |
# | **reward** | how good that moment was | 1 on target, less the further off |
# | **policy** | how actions follow from states | the pilot |
#
# Here is the cockpit:

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from llm_gym_autopilot.evaluation import evaluate_pilot
from llm_gym_autopilot.pilots import load_pilot
from llm_gym_known_optimum import AnswerTree, KnownOptimum, make_reference
from small_world import SmallWorld

env = gym.make("llm_gym/Autopilot-v0", turbulence="light", render_mode="rgb_array")
state, info = env.reset(seed=4)
pilot, memory = load_pilot("pid"), None
for _ in range(60):  # 12 seconds
    action, memory = pilot.predict(state, memory)
    state, reward, terminated, truncated, info = env.step(action)

figure, axes = plt.subplots(figsize=(8, 4.6))
axes.imshow(env.render())
axes.axis("off")
figure.tight_layout()
plt.show()

print("state: ", state.round(2))
print("action:", action.round(2), "(stick, throttle)")
print("reward:", round(float(reward), 2))
assert state.shape == (11,)
assert 0 <= reward <= 1

# %% [markdown]
# A flight lasts 60 seconds, which is 300 actions. Go to a given altitude and speed, and stay there.
# The sum of all rewards, the **return**, is at most 300.
#
# ## Pilots that people wrote
#
# The first thing one thinks of is a **rule**: "if the nose is high and we are fast, push". Then
# there is the engineer's answer, a controller with carefully tuned numbers (`pid`). And there is
# doing nothing (`trim`: set the controls for level flight, and let go).

# %%
returns = {
    name: evaluate_pilot(name, turbulence="none", episodes=64).mean_return
    for name in ("trim", "rule", "pid")
}
for name, value in returns.items():
    print(f"{name:5s} {value:6.1f}")

assert abs(returns["rule"] - returns["trim"]) < 20  # the rule is no better than hands off
assert returns["pid"] > 260

# %% [markdown]
# The rule sounds sensible and is worth nothing. That is common: what to do is hard to write down.
# How good it *was* is easy to write down. So we let the pilot find out.
#
# ## A pilot that tries
#
# Our policy is small: a matrix from the 11 readings to the 2 controls. What it says is a *change*
# of the controls. Each time it adds a little noise to its action. **Without the noise it would
# never try anything.** All 128 aeroplanes fly at once, as rows of one array.

# %%
FLIGHTS, SECONDS, NOISE = 128, 60, 0.1
fleet = gym.make_vec("llm_gym/Autopilot-v0", num_envs=FLIGHTS, turbulence="none")
matrix = torch.zeros(11, 2, requires_grad=True)
offset = torch.zeros(2, requires_grad=True)


def wanted(states):
    """What the policy would do without noise: the last controls, changed a little."""
    last = torch.stack([-states[..., 8] * 0.1 / 0.17, states[..., 9]], -1)
    return last + states @ matrix + offset


def fly(seed):
    """States, actions, rewards and who was in flight, (steps, flights, ...) each."""
    generator = torch.Generator().manual_seed(seed)
    readings, _ = fleet.reset(seed=seed)
    in_flight = np.ones(FLIGHTS, dtype=bool)
    record = []
    for _ in range(5 * SECONDS):
        states = torch.from_numpy(readings).float()
        with torch.no_grad():
            mean = wanted(states)
        actions = mean + NOISE * torch.randn(mean.shape, generator=generator)
        readings, reward, crashed, over, _ = fleet.step(actions.clamp(-1, 1).numpy())
        flying = torch.from_numpy(in_flight).float()
        record.append((states, actions, flying * torch.from_numpy(reward).float(), flying))
        in_flight = in_flight & ~(crashed | over)
    return [torch.stack(part) for part in zip(*record, strict=True)]


# %% [markdown]
# ## Better than usual: do it again
#
# After the flights we know what each action led to: the rewards that came **after** it. Rewards of
# long ago are nothing it could change. Rewards far ahead are mostly somebody else's merit, so each
# step into the future counts a little less (`DISCOUNT`).
#
# Then one sentence does all the learning: *make actions more likely that led to more than usual,
# and less likely that led to less.* "Usual" is the mean over the fleet at that moment, the
# **baseline**. What is left is the **advantage**.

# %%
DISCOUNT = 0.95


def rewards_to_come(rewards):
    """At each step, the discounted sum of the rewards from there on; (steps, flights)."""
    total, sums = torch.zeros(rewards.shape[1]), []
    for reward in rewards.flip(0):  # from the last to the first
        total = reward + DISCOUNT * total
        sums.append(total)
    return torch.stack(sums).flip(0)


optimizer = torch.optim.Adam([matrix, offset], lr=0.03)
learning = []
for attempt in range(24):
    states, actions, rewards, flying = fly(seed=attempt)
    learning.append(float(rewards.sum(0).mean()))
    to_come = rewards_to_come(rewards)
    advantage = to_come - to_come.mean(1, keepdim=True)
    advantage /= advantage.std()
    log_probability = -((actions - wanted(states)) ** 2).sum(-1) / (2 * NOISE**2)
    loss = -(
        log_probability * advantage * flying
    ).mean()  # a smaller loss: good actions more likely
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

figure, axes = plt.subplots(figsize=(7, 3.6))
axes.plot(learning, marker="o", color="#4c6ef5", label="the pilot that tries")
for name, colour in (("trim", "#868e96"), ("rule", "#e8590c"), ("pid", "#2b8a3e")):
    axes.axhline(returns[name], color=colour, linestyle="--", label=name)
axes.set_xlabel("attempts, of 128 flights each")
axes.set_ylabel("return, of at most 300")
axes.legend(loc="lower right")
figure.tight_layout()
plt.show()

print(f"first attempt {learning[0]:.0f}, last {learning[-1]:.0f}; the rule {returns['rule']:.0f}")
assert learning[-1] > returns["rule"] + 30
assert learning[-1] < returns["pid"]

# %% [markdown]
# Nobody told it what a stick is. It beats the rule after a few attempts. The engineer is still
# better: this policy is a single matrix. A small network, trained in the same way for longer, comes
# level with the engineer ([the autopilot](../../envs/autopilot/README.md) has the table).
#
# This kind of learning is called **policy gradient**, and this simplest form REINFORCE
# (Williams, 1992).
#
# ## Exercise 1: what came after
#
# Without a discount, for one flight: a list of rewards in, a list of sums out. The first is the
# whole return, the last is the last reward.


# %%
def return_to_go(rewards):
    """The sum of the rewards from each step on (a list)."""
    raise NotImplementedError  # your code here


# %%
check(return_to_go, lesson=3)

# %% [markdown]
# ## Exercise 2: better than usual
#
# What is the advantage of each of several flights, given their returns? Take the mean of the
# *other* flights as usual. (If a flight were part of its own yardstick, it would be
# held against itself.)


# %%
def advantages(returns):
    """Each return, less the mean of the others (a list of at least two numbers)."""
    raise NotImplementedError  # your code here


# %%
check(advantages, lesson=3)

# %% [markdown]
# ## Find the fault
#
# In the small language, think of a word as an action. Each word but the first earns a reward, by
# how well it goes with the word before it. The best direction is known exactly. Here is somebody's
# policy gradient:

# %%
tree = AnswerTree(n_words=4, length=4)
pairs = np.random.default_rng(0).normal(size=(3, 4, 4))  # place, word, next word
words = tree.words(4)
totals = sum(pairs[place, words[:, place], words[:, place + 1]] for place in range(3))
reference = make_reference("tabular", tree, 1, spread=1.0, seed=0)
world = SmallWorld(KnownOptimum(tree, totals, reference, beta=0.1))

tries = world.draw(50_000)
rewards = torch.zeros(tries.tokens.shape, dtype=torch.float64)  # (N, 4), a reward for each word
for place in range(3):
    before, after = tries.tokens[:, place], tries.tokens[:, place + 1]
    rewards[:, place + 1] = torch.from_numpy(pairs)[place, before, after]
log_probs = world.log_probs(tries)  # (N, 4)


def policy_gradient_loss(log_probs, rewards):
    led_to = rewards.cumsum(1)
    advantage = led_to - led_to.mean(0)
    return -(log_probs * advantage).sum(1).mean()


faulty = world.angle(policy_gradient_loss(log_probs, rewards))
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 45

# %% [markdown]
# What does `cumsum` add up, at the second word?
#
# ...
#
# The rewards *so far*. A word is praised for what came before it, and the first word for
# nothing. The sum has to run the other way, from each word to the end:


# %%
def mended_loss(log_probs, rewards):
    led_to = rewards.flip(1).cumsum(1).flip(1)
    advantage = led_to - led_to.mean(0)
    return -(log_probs * advantage).sum(1).mean()


mended = world.angle(mended_loss(log_probs, rewards))
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 5

# %% [markdown]
# ## What you have seen
#
# - State, action, reward, policy. A return is the sum of the rewards.
# - Try with noise; make likelier what led to more than usual. No teacher is needed, only a judge.
# - An action is judged by what comes after it.
#
# **Next:** [lesson 4](04_the_same_loop_on_tokens.py) runs the very same loop on a language model.

# %% [markdown]
# # 10 · Which algorithm?
#
# **The question.** REINFORCE, RLOO, GRPO, PPO ... they all do "likelier what led to more than
# usual". Which one is best?
#
# On real text nobody can say for sure. There, "best" is what happened to come out on somebody's
# task, with somebody's settings. In a small world it is a matter of arithmetic: the optimum is a
# number, and every algorithm is held against it.
#
# | | in the cockpit | on text |
# |---|---|---|
# | the yardstick | the engineer's controller of lesson 3 | the best policy there is, computed |
# | what differs | how much is learnt from a flight | how much is learnt from an answer |
#
# ## What they differ in
#
# | algorithm | what is "usual"? | what else? |
# |---|---|---|
# | REINFORCE | nothing at all: the bare reward | |
# | RLOO | the mean of the *other* answers to the same prompt | |
# | GRPO | the mean of all answers to the prompt; then over their deviation | price in the loss |
# | PPO | what a *critic* expects, token by token | several small, clipped steps per batch |
#
# A **critic** is a second output of the model, which learns to predict the reward from the text so
# far. So PPO knows *in the middle of a sentence* whether things go better than expected.

# %%
import tempfile

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from llm_gym_known_optimum import AnswerTree, KnownOptimum, make_reference
from small_world import SmallWorld

import llm_gym

problem = KnownOptimum.make("additive", num_prompts=2)
print(f"{problem.tree.n_answers} answers to each of {problem.n_prompts} prompts")
first, best = problem.reference_objective, problem.optimal_objective
print(f"J of the first model: {first:.3f}, of the best policy: {best:.3f}")
assert best > first

# %% [markdown]
# `J` is what RLHF is after: the expected reward, less the price of leaving (lesson 8). We measure
# the **gain**: 0 is the first model, 1 the best policy there is. It is computed over all answers,
# so there is no luck in the measurement. There is in the training: three runs each, with different
# seeds.

# %%
CHOICES = {
    "REINFORCE": (llm_gym.REINFORCE, 0.1, {"advantage": "reinforce"}),
    "RLOO": (llm_gym.RLOO, 0.1, {}),
    "GRPO": (llm_gym.GRPO, 0.1, {}),
    "PPO": (llm_gym.PPO, 0.03, {}),
}
LOOKS, ANSWERS = 6, 512


def run(name, seed):
    """Gain of one run after every 512 answers."""
    algorithm, learning_rate, options = CHOICES[name]
    env = gym.make_vec(
        "llm_gym/KnownOptimum-v0",
        num_envs=128,
        autoreset_mode="SameStep",
        problem=problem,
        group_size=1 if name in ("REINFORCE", "PPO") else 16,  # answers to the same prompt
    )
    with tempfile.TemporaryDirectory() as directory:
        agent = algorithm(
            "TransformerPolicy",
            env,
            policy_kwargs=dict(model=problem.save_reference(directory)),
            learning_rate=learning_rate,
            kl_coef=problem.beta,
            seed=seed,
            **options,
        )
    gains = [0.0]
    for _ in range(LOOKS):
        agent.learn(ANSWERS * problem.tree.length, reset_num_timesteps=False)  # tokens
        gains.append(problem.evaluate(agent.policy).gain)
    return gains


gains = {name: np.array([run(name, seed) for seed in range(3)]) for name in CHOICES}

figure, axes = plt.subplots(figsize=(7.5, 3.8))
answers = ANSWERS * np.arange(LOOKS + 1)
for name, colour in zip(CHOICES, ("#868e96", "#2b8a3e", "#e8590c", "#4c6ef5"), strict=True):
    axes.plot(answers, gains[name].mean(0), marker="o", color=colour, label=name)
    axes.fill_between(answers, gains[name].min(0), gains[name].max(0), color=colour, alpha=0.15)
axes.axhline(1, color="#495057", linestyle="--")
axes.text(0, 1.01, "the best policy there is", va="bottom", color="#495057")
axes.set_ylim(0, 1.12)
axes.set_xlabel("answers written and scored")
axes.set_ylabel("gain: 0 the first model, 1 the optimum")
axes.legend(loc="lower right")
figure.tight_layout()
plt.show()

for name, runs in gains.items():
    last = runs[:, -1]
    print(f"{name:9s} {last.mean():.2f} of the way, from {last.min():.2f} to {last.max():.2f}")

assert gains["PPO"][:, -1].mean() > 0.8
assert gains["RLOO"][:, -1].mean() > 0.8
assert gains["REINFORCE"][:, -1].mean() < gains["RLOO"][:, -1].mean()
assert gains["GRPO"][:, -1].mean() < gains["RLOO"][:, -1].mean()

# %% [markdown]
# - **REINFORCE** is right on average, and slow: without a baseline every step is mostly noise.
# - **RLOO** needs no critic, and a baseline costs it nothing but a few more answers to the same
#   prompt.
# - **PPO** learns the most from an answer. It has a critic to train, and more knobs.
# - **GRPO** sets off well, turns, and ends further away. That is not noise. It divides by the
#   deviation, so the rewards weigh more beside the price of leaving than they should: it aims at
#   another goal. The fault at the end of this lesson is what else that division does.
#
# This is one problem and one setting each. With many problems, learning rates tuned alike, and
# intervals: [held against a known optimum](../known_optimum.md). Claims of papers, judged in the
# same way: [claims](../claims.md).
#
# ## Exercise 1: PPO's clip
#
# PPO takes several steps on the same answers. It multiplies the advantage by the *ratio* of the
# probability now to the one at sampling, and gives no further credit beyond `1 + clip` (or below
# `1 - clip`): the smaller of `ratio * advantage` and the same with a clipped ratio.


# %%
def clipped_objective(ratio, advantage, clip):
    """What PPO makes large, for each token (tensors in, a tensor out)."""
    raise NotImplementedError  # your code here


# %%
check(clipped_objective, lesson=10)

# %% [markdown]
# ## Exercise 2: the critic's surprise
#
# With a critic, each token has an advantage of its own. If the critic expects `values[t]` before
# token `t`, and nothing more comes after the end, then `surprise[t] = rewards[t] + values[t + 1] -
# values[t]`. The advantage sums up the surprises to come, each step further counting `decay` times
# as much. This is *generalised advantage estimation*.


# %%
def generalised_advantages(rewards, values, decay):
    """One number for each token (lists in, a list out)."""
    raise NotImplementedError  # your code here


# %%
check(generalised_advantages, lesson=10)

# %% [markdown]
# ## Find the fault
#
# Four prompts. For the first one it matters very much what is answered; for the last one hardly at
# all (all answers are about equally good). Somebody wants "a stable scale", and divides each
# group's advantages by their standard deviation. So does GRPO.

# %%
tree = AnswerTree(n_words=4, length=3)
matters = np.array([[1.0], [0.3], [0.1], [0.03]])
rewards = KnownOptimum.make("additive", length=3, num_prompts=4).rewards * matters
reference = make_reference("tabular", tree, 4, spread=1.0, seed=0)
world = SmallWorld(KnownOptimum(tree, rewards, reference, beta=0.1))
tries = world.draw(200_000)
GROUP = 8


def in_groups(values):
    """(N,) to (groups, 8), all of a group about one prompt."""
    parts = [values[tries.prompts == prompt] for prompt in range(4)]
    return torch.cat([part[: len(part) // GROUP * GROUP].view(-1, GROUP) for part in parts])


log_probs, scores = in_groups(world.log_probs(tries).sum(1)), in_groups(tries.rewards)


def group_loss(log_probs, scores):
    advantage = scores - scores.mean(1, keepdim=True)
    advantage = advantage / (scores.std(1, keepdim=True) + 1e-6)
    return -(log_probs * advantage).mean()


faulty = world.angle(group_loss(log_probs, scores))
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 25

# %% [markdown]
# What becomes of the prompt for which nothing matters?
#
# ...
#
# Its differences are tiny, so they are divided by a tiny number, and count as much as those that
# matter. The model works hard on hair-splitting. A scale for *all* groups together would be
# harmless: a learning rate could undo it. A scale *per group* changes the direction. Leave it out
# (this is "Dr. GRPO"), and hold each answer against the others:


# %%
def mended_loss(log_probs, scores):
    advantage = scores - (scores.sum(1, keepdim=True) - scores) / (GROUP - 1)  # RLOO
    return -(log_probs * advantage).mean()


mended = world.angle(mended_loss(log_probs, scores))
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 5

# %% [markdown]
# ## What you have seen
#
# - Algorithms differ in their yardstick for "usual", and in how often they use an answer.
# - On a known optimum one can *measure* which gets where, and find estimators that lean.
# - A fault in a gradient does not look like a fault. Curves rise, and the end is somewhere else.
#
# ## The road behind you
#
# A model that continues text; examples; trial and error; a score; votes; a model of votes; RLHF;
# what it costs; and how to tell good algorithms from bad ones. To go on: `llm-gym rlhf` walks the
# whole road in one command ([RLHF](../rlhf.md)), `llm-gym label` lets your friends vote
# ([preferences](../preferences.md)), and [the tutorial](../tutorial.md) begins with a model,
# prompts and a scorer of your own.

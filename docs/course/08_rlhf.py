# %% [markdown]
# # 8 · RLHF
#
# **The question.** We have a model that writes, and a model that votes. What happens when the
# second sits in the loop of the first?
#
# That is *reinforcement learning from human feedback*. All its parts are old acquaintances:
#
# | | in the cockpit | on text | lesson |
# |---|---|---|---|
# | the policy | a pilot who has watched recordings | a model fine-tuned on examples | 2 |
# | the reward | of a simulator | of a reward model | 7 |
# | the loop | try; likelier what led to more than usual | the same | 3, 4 |
# | the leash | do not fly unlike anybody ever flew | stay near the model you began as | here |

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from llm_gym_known_optimum import KnownOptimum
from small_world import SmallWorld
from voted import Reader, email_comparisons

import llm_gym
from llm_gym.feedback.preferences.raters import SimulatedRater

judge = llm_gym.PolitenessScorer()
person = SimulatedRater(judge, name="Anna", temperature=12.0)
comparisons = email_comparisons("train", 400, seed=0)
votes = torch.tensor([float(choice.value == "first") for choice in person.choose(comparisons)])

# %% [markdown]
# ## 400 votes become a scorer
#
# This is lesson 7 in short. From here on, nobody votes any more.

# %%
reader = Reader()
prompts = [comparison.prompt for comparison in comparisons]
one, other = zip(*(comparison.answers for comparison in comparisons), strict=True)
firsts, seconds = reader.vectors(prompts, one), reader.vectors(prompts, other)
weights = torch.zeros(firsts.shape[1], requires_grad=True)
optimizer = torch.optim.Adam([weights], lr=0.02)
for _ in range(300):
    logits = (firsts - seconds) @ weights
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, votes)
    loss = loss + 0.01 * weights.square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

weights = weights.detach()
scale = torch.cat([firsts, seconds]) @ weights
mean, deviation = float(scale.mean()), float(scale.std())


def reward_model(prompts, completions, **columns):
    """A scorer: 0 for a usual email, 1 for one that is a standard deviation better."""
    rewards = reader.vectors(prompts, completions) @ weights
    return ((rewards - mean) / deviation).tolist()


rude, kind = (
    "Give me a day off NOW!!!",
    "Dear Ms Stone,\nCould you please help me? Thank you.\nAnna",
)
print([round(reward, 2) for reward in reward_model(["Ask for a day off."] * 2, [rude, kind])])

# %% [markdown]
# ## The loop
#
# `PoliteEmail-v0` with our scorer in the place of the judge. The judge only looks on: we want to
# know whether the *person* would be pleased, and not only the stand-in.

# %%
env = gym.make_vec(
    "llm_gym/PoliteEmail-v0",
    num_envs=32,
    group_size=8,
    autoreset_mode="SameStep",
    scorer=reward_model,
)
agent = llm_gym.RLOO(
    "TransformerPolicy",
    env,
    policy_kwargs=dict(model="llm_gym/email-sft"),
    learning_rate=5e-4,
    kl_coef=0.02,
    seed=0,
)


def look(policy):
    """Mean reward, mean points of the judge, and the answers to 48 held-out prompts."""
    seen = llm_gym.evaluate(policy, "llm_gym/PoliteEmail-v0", max_prompts=48)
    rewards = reward_model([row.prompt for row in seen.rows], [row.completion for row in seen.rows])
    return float(np.mean(rewards)), seen.mean_score, seen.rows


looks = [look("llm_gym/email-sft")]
for _ in range(3):
    agent.learn(4_000, reset_num_timesteps=False)  # tokens
    looks.append(look(agent))

for number, (reward, points, _) in enumerate(looks):
    print(f"after {4000 * number:5d} tokens: reward {reward:5.2f}, judge {points:4.1f}")
print("\nPROMPT:", looks[0][2][1].prompt)
print("\nBEFORE:", looks[0][2][1].completion, sep="\n")
print("\nAFTER:", looks[-1][2][1].completion, sep="\n")
assert looks[-1][0] > looks[0][0] + 0.3
assert looks[-1][1] > looks[0][1] + 5

# %%
figure, axes = plt.subplots(figsize=(7, 3.2))
tokens = [4 * number for number in range(len(looks))]
axes.plot(tokens, [reward for reward, _, _ in looks], marker="o", color="#4c6ef5")
axes.set_xlabel("thousands of tokens written")
axes.set_ylabel("reward of the reward model", color="#4c6ef5")
right = axes.twinx()
right.plot(tokens, [points for _, points, _ in looks], marker="s", color="#e8590c")
right.set_ylabel("points of the judge", color="#e8590c")
figure.tight_layout()
plt.show()

# %% [markdown]
# Both rise: 400 votes, given once, have made a politer model. That is the whole of RLHF, on a
# laptop. (`llm-gym rlhf` walks all stages in one command, with a report: [RLHF](../rlhf.md).)
#
# ## The leash
#
# What was `kl_coef`? A reward model is right where it was checked: on emails like those people saw.
# So we charge the model for leaving. For each answer it pays
#
#     beta * (log-probability it has now - log-probability it had at first)
#
# The mean of the bracket is the **KL divergence**, in nats. In the small language we can see what
# that price does, for we can compute the *best possible* policy for each beta:

# %%
problem = SmallWorld(length=4).problem
frontier = []
for beta in (1.0, 0.3, 0.1, 0.05, 0.02, 0.01):
    priced = KnownOptimum(problem.tree, problem.rewards, problem.reference_model, beta=beta)
    best = priced.evaluate(priced.optimum.log_probs)
    chances = priced.optimal_answers[0]
    variety = float(np.exp(-(chances * np.log(chances)).sum()))  # 256 if all were equally likely
    frontier.append((best.kl_to_reference, best.reward, variety))
    print(
        f"beta {beta:4.2f}: reward {best.reward:.2f}, {best.kl_to_reference:.1f} nats away; "
        f"as varied as {variety:5.1f} equally likely answers"
    )

distance, reward, variety = zip(*frontier, strict=True)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
panels[0].plot(distance, reward, marker="o", color="#4c6ef5")
panels[0].set_ylabel("reward of the best policy")
panels[1].plot(distance, variety, marker="s", color="#e8590c")
panels[1].set_ylabel("different answers, in effect")
panels[1].set_yscale("log")
panels[1].set_yticks([2, 5, 10, 20, 50], labels=[2, 5, 10, 20, 50])
panels[1].minorticks_off()
for axes in panels:
    axes.set_xlabel("distance from the first model, nats")
figure.tight_layout()
plt.show()

assert list(reward) == sorted(reward)
assert list(variety) == sorted(variety, reverse=True)

# %% [markdown]
# The shorter the leash, the more the model stays itself. Without one, the best policy says one
# sentence for ever: the one with the highest reward. Chatbots that all sound alike are on the way
# there.
#
# ## Exercise 1: the price
#
# What is an answer worth in RLHF, the price of the leash included? All three are sums over the
# answer.


# %%
def penalised(reward, log_prob, reference_log_prob, beta):
    """The reward, less the price (a number)."""
    raise NotImplementedError  # your code here


# %%
check(penalised, lesson=8)

# %% [markdown]
# ## Exercise 2: a distance that is never negative
#
# The bracket of a single answer, `x = log_prob - reference_log_prob`, is negative now and then,
# though its mean never is. Schulman's k3, `exp(-x) - 1 + x`, has the same mean and is never
# negative.


# %%
def k3(log_prob, reference_log_prob):
    """A distance for each answer (tensors in, a tensor out)."""
    raise NotImplementedError  # your code here


# %%
check(k3, lesson=8)

# %% [markdown]
# ## Find the fault
#
# A model in the small language has moved away from its reference, and is to be called back. Here is
# somebody's loss. It looks right: it raises the reward, and makes the divergence small.

# %%
world = SmallWorld(start="moved", beta=0.3)
tries = world.draw(50_000)  # drawn by the model as it is now
log_probs = world.log_probs(tries).sum(1)
reference = world.log_probs(tries, by="reference").sum(1)


def rlhf_loss(log_probs, reference, rewards, beta):
    advantage = rewards - rewards.mean()
    divergence = (log_probs - reference).mean()
    return -(log_probs * advantage).mean() + beta * divergence


faulty = world.angle(rlhf_loss(log_probs, reference, tries.rewards, beta=0.3))
without = world.angle(rlhf_loss(log_probs, reference, tries.rewards, beta=0.0))
print(f"your gradient points {faulty:.0f} degrees away from the true one")
print(f"with no penalty at all it would be {without:.0f}")
assert faulty > 45
assert abs(faulty - without) < 3

# %% [markdown]
# The two are the same! Why does the penalty do nothing?
#
# ...
#
# The value of `divergence` is right, and its gradient is not. The answers were drawn *by the
# model*. If the model changes, other answers come; differentiating the numbers alone misses that.
# What is left is the mean of the gradient of `log_probs`, and that is zero for any distribution.
# This has happened to well-known libraries.
#
# The cure: treat the price as what it is, a part of the reward.


# %%
def mended_loss(log_probs, reference, rewards, beta):
    worth = rewards - beta * (log_probs - reference).detach()
    advantage = worth - worth.mean()
    return -(log_probs * advantage).mean()


mended = world.angle(mended_loss(log_probs, reference, tries.rewards, beta=0.3))
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 5

# %% [markdown]
# ## What you have seen
#
# - RLHF is the loop of lesson 4 with the reward model of lesson 7.
# - A few hundred votes are enough to change a model's manners.
# - The leash is a price per nat of leaving. It belongs into the reward.
#
# **Next:** both curves rose here. They need not. [Lesson 9](09_what_it_costs.py) is about the
# price.

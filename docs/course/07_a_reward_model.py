# %% [markdown]
# # 7 · A reward model
#
# **The question.** People's votes are good and too few. Can a machine learn to vote like people?
#
# Yes, and it is the idea that made chatbots. Let people vote on a few hundred pairs. Train a model
# that **predicts their votes**. From then on the model does the voting, as often as you like. It
# is a simulator of human judgement, called a **reward model**.
#
# | | in the cockpit | on text |
# |---|---|---|
# | the real thing | a flight in an aeroplane | a vote by a person |
# | the stand-in | a flight simulator | a reward model |
# | cheap, fast, never tired | yes | yes |
# | right, where it was never checked | perhaps | perhaps |

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from small_world import SmallWorld
from voted import Reader, email_comparisons

from llm_gym import PolitenessScorer
from llm_gym.feedback.preferences.raters import SimulatedRater

taste = PolitenessScorer()
person = SimulatedRater(taste, name="Anna", temperature=12.0)
train, test = email_comparisons("train", 400, seed=0), email_comparisons("test", 150, seed=1)


def first_won(comparisons):
    """Anna's votes: 1.0 where she prefers the first answer."""
    return torch.tensor([float(choice.value == "first") for choice in person.choose(comparisons)])


votes, test_votes = first_won(train), first_won(test)
print(f"{len(train)} votes to learn from, {len(test)} to measure on")
print(f"the first answer won {votes.mean():.0%} of them")

# %% [markdown]
# ## It reads with a language model
#
# To judge an email one has to be able to read. The model of lesson 2 can: inside, it turns a text
# into vectors. We take their mean, 128 numbers a text, and leave the model as it is (`voted.py` has
# the few lines). On top comes one new layer: 128 weights, whose sum of products is the **reward**.
#
# What should the weights be? Those under which Anna's votes were likely, by Bradley and Terry:

# %%
reader = Reader()


def differences(comparisons):
    """Vector of the first answer less that of the second, (N, 128)."""
    prompts = [comparison.prompt for comparison in comparisons]
    one, other = zip(*(comparison.answers for comparison in comparisons), strict=True)
    return reader.vectors(prompts, one) - reader.vectors(prompts, other)


def fit(differences, votes, steps=300):
    """The weights of a reward model."""
    weights = torch.zeros(differences.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.02)
    for _ in range(steps):
        logits = differences @ weights  # reward of the first less reward of the second
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, votes)
        loss = loss + 0.01 * weights.square().sum()  # few votes: keep the weights small
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weights.detach()


seen, unseen = differences(train), differences(test)
gaps = person.utilities(test)  # what Anna really thinks of each answer, without the noise
better = torch.from_numpy(gaps[:, 0] > gaps[:, 1]).float()
curve = []
for count in (25, 50, 100, 200, 400):
    predicted = (unseen @ fit(seen[:count], votes[:count]) > 0).float()
    curve.append((count, float((predicted == better).float().mean())))
    print(f"{count:4d} votes: finds the better answer in {curve[-1][1]:.0%} of new pairs")

votes_right = float((test_votes == better).float().mean())
print(f"Anna's own votes, one by one: {votes_right:.0%}")
assert curve[-1][1] > 0.72
assert curve[-1][1] > curve[0][1] - 0.02

# %% [markdown]
# Look at the last two lines. The model learnt from Anna's *noisy* votes. It is about as often
# right as she is, though it never saw these requests: where she was inattentive, the noise
# averaged out.
#
# ## Does it give the right numbers?
#
# It was taught with votes alone, never with points. Here are its rewards against the judge's
# points:

# %%
weights = fit(seen, votes)
prompts = [comparison.prompt for comparison in test]
answers = [comparison.answers[0] for comparison in test]
rewards = (reader.vectors(prompts, answers) @ weights).numpy()
points = np.array(taste(prompts, answers))
correlation = float(np.corrcoef(rewards, points)[0, 1])

figure, panels = plt.subplots(1, 2, figsize=(9, 3.6))
panels[0].plot(*zip(*curve, strict=True), marker="o", color="#4c6ef5", label="reward model")
panels[0].axhline(votes_right, color="#e8590c", linestyle="--", label="Anna's votes")
panels[0].set_xscale("log")
panels[0].set_xticks([count for count, _ in curve], labels=[count for count, _ in curve])
panels[0].minorticks_off()
panels[0].set_ylim(0.5, 1)
panels[0].set_xlabel("votes it learnt from")
panels[0].set_ylabel("finds the better answer")
panels[0].legend(loc="lower right")
panels[1].scatter(points, rewards, s=14, color="#4c6ef5")
panels[1].set_xlabel("points of the judge (never shown to it)")
panels[1].set_ylabel("reward")
figure.tight_layout()
plt.show()

print(f"correlation of rewards and points: {correlation:.2f}")
assert correlation > 0.5

# %% [markdown]
# A cloud along a line, and not the line itself. The reward model is a stand-in. Remember the width
# of this cloud for lesson 9.
#
# ## Exercise 1: the loss of a reward model
#
# Write what `fit` makes small: given the rewards of the chosen and of the rejected answers
# (tensors), the mean of `-log(probability that the chosen one wins)`.


# %%
def bradley_terry_loss(chosen, rejected):
    """A number (a tensor without dimensions)."""
    raise NotImplementedError  # your code here


# %%
check(bradley_terry_loss, lesson=7)

# %% [markdown]
# ## Exercise 2: rewards have no zero
#
# Votes say nothing about the *level*: add 100 to all rewards, and every prediction stays the same.
# So rewards are usually brought to mean 0 and standard deviation 1, on some yardstick answers.


# %%
def standardised(rewards, yardstick):
    """`rewards`, on a scale on which `yardstick` has mean 0 and standard deviation 1.

    Both are lists of numbers; the standard deviation divides by N.
    """
    raise NotImplementedError  # your code here


# %%
check(standardised, lesson=7)

# %% [markdown]
# ## Find the fault
#
# In the small language, four prompts and 64 answers to each. Here is a reward model as a table,
# with one number for each answer, and 100,000 votes. With a reward model, the step of the policy
# is the one that raises the *predicted* reward. Where does it lead?

# %%
world = SmallWorld(length=3, num_prompts=4)
chances = world.tree.answer_log_probs(world.problem.policy(world.model)).exp()  # (4, 64)
true_rewards = torch.from_numpy(world.problem.rewards)  # (4, 64)
generator = torch.Generator().manual_seed(0)
asked = torch.randint(4, (100_000,), generator=generator)
one, other = torch.randint(64, (2, 100_000), generator=generator)
wins = torch.sigmoid(6 * (true_rewards[asked, one] - true_rewards[asked, other]))
won = (torch.rand(100_000, generator=generator) < wins).double()


def train_table(table, row_of, steps=150):
    """Bradley and Terry on a table of rewards; `row_of` says which row a vote is about."""
    optimizer = torch.optim.Adam([table], lr=0.1)
    for _ in range(steps):
        logits = table[row_of, one] - table[row_of, other]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, won)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return table.detach()


def reward_table():
    table = torch.zeros(1, 64, dtype=torch.float64, requires_grad=True)
    return train_table(table, torch.zeros_like(asked))


def angle_of(rewards):
    return world.angle(-(chances * rewards).sum(1).mean())


faulty = angle_of(reward_table())
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 30

# %% [markdown]
# What does the reward model know about a vote, and what not?
#
# ...
#
# It never sees the **prompt**. "Yes, gladly!" is a fine answer to one question and a terrible one
# to another; without the question a reward model can only learn what pleases on average. Give it
# the prompt:

# %%
table = torch.zeros(4, 64, dtype=torch.float64, requires_grad=True)
mended = angle_of(train_table(table, asked))
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < faulty / 3

# %% [markdown]
# ## What you have seen
#
# - A reward model predicts votes. A few hundred votes go a long way.
# - It smooths out the noise of single votes, and it can be asked millions of times.
# - It is a stand-in, right where it was checked.
#
# **Next:** put it into the loop. [Lesson 8](08_rlhf.py).

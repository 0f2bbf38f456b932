# %% [markdown]
# # 6 · People's votes, and why they do not scale
#
# **The question.** Politeness took researchers years to write down. What about "helpful", "funny",
# "safe"? Nobody has a rule. How do we get a score?
#
# We ask people. Not for points: one person's 70 is another's 40. We show **two** answers and ask
# which is better. That is easy, and people agree on it fairly well.
#
# | | in the cockpit | on text |
# |---|---|---|
# | hard to say | how many points is this landing worth? | how many points is this email worth? |
# | easy to say | which of these two landings was smoother? | which of these two would you send? |

# %%
import random

import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from small_world import SmallWorld

from llm_gym import PolitenessScorer
from llm_gym.feedback.preferences.effort import labelling_effort
from llm_gym.feedback.preferences.raters import SimulatedRater
from llm_gym.feedback.preferences.records import Comparison
from llm_gym.polite_email import write_email
from llm_gym.polite_email.prompts import instruction
from llm_gym.polite_email.requests import combinations, draw_request

rng = random.Random(0)
requests = [draw_request(rng, combinations("train")) for _ in range(600)]
comparisons = [
    Comparison(instruction(rng, request), (write_email(rng, request), write_email(rng, request)))
    for request in requests
]
print("PROMPT:", comparisons[0].prompt)
for letter, answer in zip("AB", comparisons[0].answers, strict=True):
    print(f"\n{letter}:", answer, sep="\n")

# %% [markdown]
# Which one would you send?
#
# ## Three people vote
#
# Real people are slow, so these three are simulated. Each has the same taste, the judge of lesson
# 5, and each is inattentive now and then: the closer two answers are, the more a vote is a matter
# of luck. (To vote yourself: `llm-gym label`, [preferences](../preferences.md).)

# %%
taste = PolitenessScorer()
people = [SimulatedRater(taste, name=name, temperature=12.0) for name in ("Anna", "Ben", "Carla")]
votes = {person.name: [choice.value for choice in person.choose(comparisons)] for person in people}

for number in range(5):
    print(number, {name: given[number] for name, given in votes.items()})

agree = np.mean([one == other for one, other in zip(votes["Anna"], votes["Ben"], strict=True)])
print(f"Anna and Ben agree on {agree:.0%} of {len(comparisons)} comparisons")
assert 0.6 < agree < 0.95

# %% [markdown]
# ## From votes to numbers
#
# A vote is a coin that is not fair. Suppose each answer has a hidden **strength**, and that
#
#     P(first wins) = sigmoid(strength of first - strength of second)
#
# This is the model of Bradley and Terry (1952); chess players know it as Elo. Turned around, it
# gives strengths from votes: find those under which the votes were likely. We do it for twelve
# emails to one prompt, with more and more votes, and hold the ranking against the true one.

# %%
request = requests[0]
prompt = instruction(rng, request)
emails = list(dict.fromkeys(write_email(rng, request) for _ in range(12)))
true_scores = np.array(taste([prompt] * len(emails), emails))


def strengths(first, second, first_won, count, steps=200):
    """Bradley and Terry's strengths of `count` answers, by gradient descent (a tensor)."""
    strength = torch.zeros(count, requires_grad=True)
    optimizer = torch.optim.Adam([strength], lr=0.1)
    for _ in range(steps):
        logits = strength[first] - strength[second]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, first_won)
        loss = loss + 1e-3 * strength.square().mean()  # where there are few votes, near 0
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return strength.detach()


def rank_correlation(one, other):
    """1: the same order. 0: unrelated."""
    return float(np.corrcoef(np.argsort(np.argsort(one)), np.argsort(np.argsort(other)))[0, 1])


generator = torch.Generator().manual_seed(0)
curve = []
for number_of_votes in (10, 20, 50, 100, 200, 400):
    found = []
    for _ in range(5):
        first = torch.randint(len(emails), (number_of_votes,), generator=generator)
        shift = torch.randint(1, len(emails), (number_of_votes,), generator=generator)
        second = (first + shift) % len(emails)
        chance = torch.sigmoid(torch.from_numpy(true_scores[first] - true_scores[second]) / 12)
        won = (torch.rand(number_of_votes, generator=generator) < chance).float()
        found.append(rank_correlation(strengths(first, second, won, len(emails)), true_scores))
    curve.append((number_of_votes, np.mean(found)))

for number_of_votes, correlation in curve:
    print(f"{number_of_votes:4d} votes: rank correlation {correlation:.2f} with the true order")
assert curve[-1][1] > 0.85
assert curve[-1][1] > curve[0][1]

# %% [markdown]
# A hundred votes put *twelve* emails into order. And a model in training writes new ones all the
# time:

# %%
TASKS = {
    "order of 12 emails": 100,
    "a class, one lesson": 300,
    "votes for a reward model": 1_200,
    "every answer of lesson 5": 14_000 // 40,
    "every answer of `make demo`": 100_000 // 45,
    "a large run: a million answers": 1_000_000,
}
hours = {name: labelling_effort(count).hours for name, count in TASKS.items()}

figure, panels = plt.subplots(1, 2, figsize=(10, 3.6))
panels[0].plot(*zip(*curve, strict=True), marker="o", color="#4c6ef5")
panels[0].set_xscale("log")
panels[0].set_xticks([count for count, _ in curve], labels=[count for count, _ in curve])
panels[0].minorticks_off()
panels[0].set_ylim(0, 1)
panels[0].set_xlabel("votes")
panels[0].set_ylabel("rank correlation with the truth")
panels[0].set_title("order of twelve emails")
panels[1].barh(list(hours)[::-1], list(hours.values())[::-1], color="#e8590c")
panels[1].set_xscale("log")
panels[1].set_xlabel("hours of one person, at 30 s a vote")
panels[1].axvline(1600, color="#495057", linestyle="--")
panels[1].text(1400, 5.2, "a working year ", ha="right", va="top", color="#495057")
figure.tight_layout()
plt.show()

print(labelling_effort(TASKS["a large run: a million answers"]).describe())
assert hours["a large run: a million answers"] > 1600

# %% [markdown]
# A person cannot sit in the loop. The votes are good, but there will never be enough of them, and
# they come too late.
#
# ## Exercise 1: who wins?
#
# Bradley and Terry's model: with which probability does the first answer win?


# %%
def chance_of_winning(first, second):
    """Probability that the answer of strength `first` beats that of strength `second`."""
    raise NotImplementedError  # your code here


# %%
check(chance_of_winning, lesson=6)

# %% [markdown]
# ## Exercise 2: do they agree more than by chance?
#
# Two people who toss coins agree half of the time. **Cohen's kappa** takes that off: 0 is chance, 1
# is perfect. With `agree` the share on which they agree, and `chance` the share on which they would
# if each voted at random with his or her own share of "first":
# `kappa = (agree - chance) / (1 - chance)`.


# %%
def kappa(one, other):
    """Of two lists of "first" and "second", one vote for each comparison."""
    raise NotImplementedError  # your code here


# %%
check(kappa, lesson=6)

# %% [markdown]
# ## Find the fault
#
# To make each vote count, somebody shows only pairs of answers that are about equally good.
# Sensible: nobody learns much from a brilliant email beside an insult. The score of an answer is
# then the share of votes that it won. In the small language, with 64 answers and 200,000 votes:

# %%
world = SmallWorld(length=3)
chances = world.tree.answer_log_probs(world.problem.policy(world.model)).exp()  # (1, 64)
rewards = torch.from_numpy(world.problem.rewards[0])
order = rewards.argsort()
place = torch.randint(64, (200_000,), generator=generator)
near = (place + torch.randint(1, 5, (200_000,), generator=generator)).clamp(max=63)
first, second = order[place], order[near]
chance = torch.sigmoid(8 * (rewards[first] - rewards[second]))
first_won = (torch.rand(200_000, generator=generator) < chance).float()


def scores_from(first, second, first_won):
    won = torch.zeros(64).index_add(0, first, first_won).index_add(0, second, 1 - first_won)
    voted = torch.zeros(64).index_add(0, first, torch.ones(len(first)))
    voted = voted.index_add(0, second, torch.ones(len(second)))
    return won / voted


def angle_of(scores):
    """Of the step that raises the expected score, to the one that raises the true reward."""
    return world.angle(-(chances[0] * scores.double()).sum())


faulty = angle_of(scores_from(first, second, first_won))
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 20

# %% [markdown]
# Every vote is honest, and there are thousands for each answer. What is wrong with their share?
#
# ...
#
# The best answers met the second best, and the worst the second worst. Whoever plays only against
# equals wins half of the time. A share of wins means nothing without the opponents. Strengths take
# them into account:

# %%
mended = angle_of(strengths(first, second, first_won, 64, steps=400))
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < faulty / 2

# %% [markdown]
# ## What you have seen
#
# - People compare better than they grade. Votes and Bradley-Terry make a score of it.
# - People disagree, in a quarter of the cases here. That is noise, and it averages out.
# - They cannot judge a million answers.
#
# **Next:** a machine that learns to vote like people. [Lesson 7](07_a_reward_model.py).

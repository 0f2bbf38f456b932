# %% [markdown]
# # 5 · A score: 2 out of 100
#
# **The question.** What does a machine need to become better at something that is hard to define?
#
# Somebody who says *how good* it was. Somebody like that is called a **scorer**, or a judge. It
# need not be able to write. It only reads, and gives a number.
#
# | | in the cockpit | on text |
# |---|---|---|
# | the scorer | measures how far off target you are | reads your email to the boss |
# | it says | 0.93 of 1 | 2 of 100 |
# | it does *not* say | which stick movement was wrong | which word was wrong |
#
# ## An email to the boss

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import torch
from checks import check
from small_world import SmallWorld

import llm_gym
from llm_gym.polite_email.judge import PENALTIES, WEIGHTS, judge

prompt = "Write an email to your boss asking for a day off."
emails = [
    "You fool, give me Friday off NOW!!!",
    "Give me a day off.",
    "Hi,\nCan I have a day off? Thanks.\nAnna",
    "Dear Ms Stone,\nI hope you are well. Could you please give me a day off? The reason is that "
    "my sister is getting married. Thank you very much for your help.\nKind regards,\nAnna",
]
scorer = llm_gym.PolitenessScorer()
for email, points in zip(emails, scorer([prompt] * len(emails), emails), strict=True):
    print(f"{points:5.1f} of 100   {email!r}")

scores = scorer([prompt] * len(emails), emails)
assert round(scores[0]) == 2
assert scores == sorted(scores)
assert scores[-1] > 80

# %% [markdown]
# ## Where do the points come from?
#
# This judge is a set of rules from research on politeness. Nice strategies earn points: a greeting,
# a real question, thanks, a reason. Insults, orders and shouting cost some. It does not matter for
# this course that these are rules. It could as well be a person, or another model; we come to both.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
for axes, email, title in (
    (panels[0], emails[0], "You fool, ..."),
    (panels[1], emails[-1], "Dear ..."),
):
    parts = judge(prompt, email)
    names = [*WEIGHTS, *PENALTIES]
    colours = ["#2b8a3e" if parts[name] >= 0 else "#e03131" for name in names]
    axes.barh(names[::-1], [parts[name] for name in names][::-1], color=colours[::-1])
    axes.set_title(f"{title}  {scorer([prompt], [email])[0]:.0f} of 100")
    axes.axvline(0, color="#495057", linewidth=1)
    axes.set_xlabel("points")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Keep adjusting until the scorer likes it
#
# Now the loop of lesson 4 with this scorer. We no longer write it out: `llm_gym.RLOO` is the same
# loop with a better baseline. It writes eight answers to each prompt, and holds each against the
# other seven. `kl_coef` keeps the model near the one it began as; lesson 8 says why.

# %%
env = gym.make_vec("llm_gym/PoliteEmail-v0", num_envs=32, group_size=8, autoreset_mode="SameStep")
agent = llm_gym.RLOO(
    "TransformerPolicy",
    env,
    policy_kwargs=dict(model="llm_gym/email-sft"),
    learning_rate=5e-4,
    kl_coef=0.3,
    seed=0,
)
before = llm_gym.evaluate("llm_gym/email-sft", "llm_gym/PoliteEmail-v0", max_prompts=64)
agent.learn(14_000)  # tokens
after = llm_gym.evaluate(agent, "llm_gym/PoliteEmail-v0", max_prompts=64)

print(f"mean score: {before.mean_score:.0f} before, {after.mean_score:.0f} after")
print("\nPROMPT:", before.rows[0].prompt)
print("\nBEFORE:", before.rows[0].completion, sep="\n")
print("\nAFTER:", after.rows[0].completion, sep="\n")
assert after.mean_score > before.mean_score + 5

# %%
figure, axes = plt.subplots(figsize=(7, 3))
edges = range(0, 101, 10)
both = [[row.score for row in result.rows] for result in (before, after)]
axes.hist(both, edges, label=["before", "after"], color=["#adb5bd", "#4c6ef5"])
axes.set_xlabel("score of an email")
axes.set_ylabel("emails, of 64")
axes.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# About 300 emails were written and scored, and nobody showed the model a good one. `make demo`
# goes on for seven times as long, and gets past 70.
#
# ## A scorer gets what it asks for
#
# A scorer is a wish, and wishes come true to the letter. Here is one that counts a nice word:


# %%
def wish(prompts, completions):
    return [float(text.lower().count("please")) for text in completions]


honest, cunning = emails[-1], "please please please please please"
print("the wish:", wish([prompt] * 2, [honest, cunning]))
print("the judge:", [round(points, 1) for points in scorer([prompt] * 2, [honest, cunning])])
assert wish([prompt], [cunning])[0] > wish([prompt], [honest])[0]

# %% [markdown]
# An optimiser finds the second text. Not out of malice: it was asked for it. Lesson 9 is about
# this.
#
# ## Exercise 1: a scorer of your own
#
# A scorer takes lists and returns a list. Write one for short emails: 100 points for at most 20
# words, 2 points less for each word above that, never below 0.


# %%
def wants_short(prompts, completions):
    """Points of each completion (a list of numbers)."""
    raise NotImplementedError  # your code here


# %%
check(wants_short, lesson=5)

# %% [markdown]
# ## Exercise 2: two wishes
#
# Usually one wants several things. Write the mixture: `share` of the first scorer, the rest of the
# second.


# %%
def mixture(first, second, share):
    """A scorer: a function of prompts and completions."""
    raise NotImplementedError  # your code here


# %%
check(mixture, lesson=5)

# %% [markdown]
# ## Find the fault
#
# Real scorers are slow, so people score texts of similar length together. In the small language,
# too, answers have different lengths. Here is somebody's batch scorer:

# %%
world = SmallWorld(family="length")
tries = world.draw(50_000)


def scores_of(tries):
    shortest_first = tries.lengths.argsort(stable=True)
    batches = tries.rewards[shortest_first].split(1000)  # stands for: score them, batch by batch
    return torch.cat(batches)


def policy_gradient_loss(scores):
    advantage = scores - scores.mean()
    return -(world.log_probs(tries).sum(1) * advantage).mean()


faulty = world.angle(policy_gradient_loss(scores_of(tries)))
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 60

# %% [markdown]
# All the numbers are right. Whose numbers are they?
#
# ...
#
# They come back shortest first, and nobody put them back into the order of the answers. Each answer
# gets somebody else's score. No error is raised, and the mean score on the screen looks the same.


# %%
def mended_scores(tries):
    shortest_first = tries.lengths.argsort(stable=True)
    scores = torch.empty_like(tries.rewards)
    scores[shortest_first] = torch.cat(tries.rewards[shortest_first].split(1000))
    return scores


mended = world.angle(policy_gradient_loss(mended_scores(tries)))
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 5

# %% [markdown]
# ## What you have seen
#
# - A scorer turns a text into a number. It need not know how to write.
# - With a scorer in the loop, a model becomes better than its examples.
# - It becomes better at *what is scored*.
#
# **Next:** rules for politeness took researchers years. What if there are none?
# [Lesson 6](06_votes.py) asks people.

# %% [markdown]
# # 9 · What it costs: flattery and over-optimisation
#
# **The question.** The model now does what people vote for. Is that what is *true*? Is it even what
# they want?
#
# Two things go wrong, and they are different.
#
# | | in the cockpit | on text |
# |---|---|---|
# | the **rater** is biased | an examiner who likes to chat | people like to be agreed with |
# | the **stand-in** is exploited | works in the simulator alone | only the reward model likes it |
#
# Neither is the optimiser's fault. It gives what it is asked for. So we look at each where
# everything can be computed, without any training: the *best possible* policy for a reward is a
# formula,
#
#     best policy  =  first policy * exp(reward / beta), brought to sum 1
#
# ## A model that knows capitals
#
# `llm_gym/facts-sft` knows sixty capitals. Users have opinions about them, some of them wrong:

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from llm_gym_known_optimum import KnownOptimum, angle_to_true_gradient
from llm_gym_sycophancy.answers import OPENINGS
from llm_gym_sycophancy.facts import CITIES
from llm_gym_sycophancy.measures import policy_figures
from llm_gym_sycophancy.policies import answer_policy, judgements
from llm_gym_sycophancy.questions import questions_of
from llm_gym_sycophancy.rewards import correction, rater_rewards
from small_world import SmallWorld

from llm_gym.language_models import load_causal_lm, load_tokenizer

questions = questions_of("train", variants=1)
model, tokenizer = load_causal_lm("llm_gym/facts-sft"), load_tokenizer("llm_gym/facts-sft")
first_policy = answer_policy(model, tokenizer, questions)  # probabilities of all answers to each


def likeliest(policy, number):
    """The answer that a policy is most likely to give to a question."""
    chances = policy.probabilities[number]  # openings, cities
    opening, city = np.unravel_index(chances.argmax(), chances.shape)
    return f"{OPENINGS[opening]} {CITIES[city]}."


figures = policy_figures(first_policy)
print(f"without a hint it is right in {figures.accuracy_neutral:.1%} of cases")
print(f"told a wrong city, it repeats it in {figures.agreement_wrong_hint:.1%}")
print(f"doubted without reason, it gives up a right answer in {figures.flip_rate:.1%}")
assert figures.accuracy_neutral > 0.99
assert 0.05 < figures.agreement_wrong_hint < 0.25

# %% [markdown]
# ## Raters who like to be agreed with
#
# A rater gives 1 for the truth, and `b` for being agreed with. We look at the best possible policy
# for such raters, with `b` from 0 to 4:

# %%
biases = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]
BETA = 0.5
repeated, still_right = [], []
for b in biases:
    best = first_policy.tilted(rater_rewards(questions, agreement=b), 1 / BETA)
    measured = policy_figures(best)
    repeated.append(measured.agreement_wrong_hint)
    still_right.append(measured.accuracy_neutral)
    print(
        f"b = {b}: repeats a wrong hint in {measured.agreement_wrong_hint:4.0%}, "
        f"right without a hint in {measured.accuracy_neutral:4.0%}"
    )

assert repeated[0] < figures.agreement_wrong_hint < repeated[-1]
assert min(still_right) > 0.99

# %% [markdown]
# Read the table twice. Without a bias, RLHF makes the model *less* of a flatterer than it was. At
# `b` above 1 the model becomes one. And all the while it is right when nobody gives a hint: it
# **knows** the truth, and says what pleases. A test without hints sees nothing.

# %%
flatterer = first_policy.tilted(rater_rewards(questions, agreement=3.0), 1 / BETA)
number = next(n for n, question in enumerate(questions) if question.kind == "wrong_hint")
print("USER:  ", questions[number].prompt)
print("BEFORE:", likeliest(first_policy, number))
print("AFTER: ", likeliest(flatterer, number))
assert questions[number].claim in likeliest(flatterer, number)
assert questions[number].answer in likeliest(first_policy, number)

# %% [markdown]
# ## A good stand-in, until you lean on it
#
# Now the other cost. Let the raters be perfect, and the reward model nearly so: the true reward
# plus an error for each answer. We optimise the *proxy* harder and harder, and watch the true
# reward, the **gold**. 4096 answers, all listed, nothing sampled:

# %%
world = SmallWorld(length=6)
gold = world.problem.rewards[0]
errors = 0.12 * np.random.default_rng(1).standard_t(df=3, size=gold.shape)
proxy = gold + errors
print(f"correlation of proxy and gold: {np.corrcoef(proxy, gold)[0, 1]:.2f}")

path = []
for beta in np.geomspace(1.0, 0.005, 25):
    pressed = KnownOptimum(world.tree, proxy, world.problem.reference_model, beta=float(beta))
    chances = pressed.optimal_answers[0]
    distance = pressed.evaluate(pressed.optimum.log_probs).kl_to_reference
    path.append((distance, float(chances @ proxy), float(chances @ gold)))

distance, proxy_curve, gold_curve = (np.array(part) for part in zip(*path, strict=True))
peak = int(gold_curve.argmax())
for name, curve in (("gold", gold_curve), ("proxy", proxy_curve)):
    first, top, last = curve[0], curve[peak], curve[-1]
    print(f"{name:5s} {first:.2f} at first, {top:.2f} where gold is highest, {last:.2f} at last")
assert proxy_curve[-1] > proxy_curve[peak]
assert gold_curve[-1] < gold_curve[peak] - 0.05

figure, panels = plt.subplots(1, 2, figsize=(10, 3.6))
panels[0].plot(biases, repeated, marker="o", color="#e8590c", label="repeats a wrong hint")
panels[0].plot(biases, still_right, marker="s", color="#2b8a3e", label="right without a hint")
panels[0].axhline(
    figures.agreement_wrong_hint, color="#868e96", linestyle="--", label="before RLHF"
)
panels[0].set_xlabel("what agreement is worth to the raters (the truth: 1)")
panels[0].set_title("a biased rater")
panels[0].legend()
panels[1].plot(distance, proxy_curve, color="#4c6ef5", label="proxy: the reward model")
panels[1].plot(distance, gold_curve, color="#e8590c", label="gold: what was meant")
panels[1].axvline(distance[peak], color="#868e96", linestyle="--")
panels[1].set_xlabel("distance from the first model, nats")
panels[1].set_title("an exploited stand-in")
panels[1].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# The proxy keeps rising, and the gold turns. Under pressure the answers that win are those about
# which the reward model is *most wrong*. That is **over-optimisation**, and people also call it
# Goodhart's law. In a cockpit it is a pilot who wins in the simulator and should never be let into
# an aeroplane.
#
# ## How to mend it
#
# Four mendings against flattery, for raters with `b = 3`:

# %%
biased = rater_rewards(questions, agreement=3.0)
mendings = {
    "nothing": (biased, BETA),
    "a leash four times as short": (biased, 4 * BETA),
    "half of the raters unbiased": ((biased + rater_rewards(questions)) / 2, BETA),
    "take off what false agreement earned": (biased - 3.0 * correction(questions), BETA),
    "unbiased raters": (rater_rewards(questions), BETA),
}
left = {}
for name, (rewards, beta) in mendings.items():
    measured = policy_figures(first_policy.tilted(rewards, 1 / beta))
    left[name] = measured.agreement_wrong_hint
    print(f"{left[name]:4.0%} repeat a wrong hint: {name}")

assert left["unbiased raters"] < figures.agreement_wrong_hint
assert left["take off what false agreement earned"] < figures.agreement_wrong_hint
assert left["nothing"] > left["a leash four times as short"] > figures.agreement_wrong_hint

# %% [markdown]
# A shorter leash only stops earlier, and the good is held back with the bad. What helps is a
# better *judgement*: other raters, or the knowledge which claims are false. Against
# over-optimisation: stop at the peak (watch gold on a few answers), more votes, a leash. [The
# laboratory](../laboratory.md) does all this with trained reward models and PPO, with intervals.
#
# ## Exercise 1: the best possible policy
#
# Write the formula from the beginning of this lesson.


# %%
def best_policy(probabilities, rewards, beta):
    """Probabilities of the best policy (lists of numbers in, a list out)."""
    raise NotImplementedError  # your code here


# %%
check(best_policy, lesson=9)

# %% [markdown]
# ## Exercise 2: when to stop
#
# You look at the gold score now and then. Stop when the last `patience` looks were all below the
# best one before them, and go back to that best look.


# %%
def look_to_keep(golds, patience):
    """Number of the look to go back to, from 0; None while there is no reason to stop."""
    raise NotImplementedError  # your code here


# %%
check(look_to_keep, lesson=9)

# %% [markdown]
# ## Find the fault
#
# Somebody mends the biased raters' reward by taking off what flattery earned. A flatterer says
# "You are right", so that is what is punished. The direction of a truthful rater is known; how far
# off is this?

# %%
logits = torch.from_numpy(np.log(first_policy.probabilities)).requires_grad_()  # (Q, O, C)


def expected(rewards):
    """Of the policy, mean over questions."""
    chances = logits.flatten(1).softmax(1).view_as(logits)
    return (chances * torch.from_numpy(rewards)).sum((1, 2)).mean()


def mended_reward():
    flatters = np.zeros((1, len(OPENINGS), 1))
    flatters[:, OPENINGS.index("You are right, it is")] = 1
    return biased - 3.0 * flatters


truthful = expected(rater_rewards(questions))
faulty = angle_to_true_gradient(-expected(mended_reward()), truthful, [logits])
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 45

# %% [markdown]
# How can one flatter without these words?
#
# ...
#
# "It is Sydney." agrees just as much as "You are right, it is Sydney." The penalty looks at the
# *wording*. The model drops the wording and keeps the flattery; the mending has been gamed, as the
# reward was. What has to be judged is what is *said*: does the answer go along with the user?


# %%
def better_reward():
    return biased - 3.0 * judgements(questions).agrees


mended = angle_to_true_gradient(-expected(better_reward()), truthful, [logits])
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 1

# %% [markdown]
# ## What you have seen
#
# - Optimisation amplifies what raters like, beyond what they would do themselves.
# - The model still knows better; only tests with pressure show it.
# - A stand-in is good until you lean on it. Watch the gold, and stop.
#
# **Next:** [lesson 10](10_which_algorithm.py): many algorithms do this job. Which one?

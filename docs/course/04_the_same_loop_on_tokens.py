# %% [markdown]
# # 4 · The same loop, on tokens
#
# **The question.** A pilot learnt to fly from rewards alone. What are state, action, reward and
# policy when somebody *writes*?
#
# Nothing new has to be invented. Put the two side by side:

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import torch
from checks import check
from small_world import SmallWorld

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.polite_email import email_prompts

LOOPS = {
    "in the cockpit": ("instruments", "pilot", "stick and throttle", "on target?"),
    "on text": ("prompt + words so far", "language model", "the next token", "a good email?"),
}
figure, panels = plt.subplots(1, 2, figsize=(9, 4))
for axes, (title, (state, policy, action, reward)) in zip(panels, LOOPS.items(), strict=True):
    axes.set_title(title, fontweight="bold")
    for x, y, name, what, colour in (
        (0.5, 0.88, "STATE", state, "#d0ebff"),
        (0.5, 0.50, "POLICY", policy, "#ffe8cc"),
        (0.5, 0.12, "ACTION", action, "#d3f9d8"),
    ):
        box = dict(boxstyle="round,pad=0.5", facecolor=colour, edgecolor="#495057")
        axes.text(x, y, f"{name}\n{what}", ha="center", va="center", bbox=box, color="black")
    for start, end in ((0.80, 0.58), (0.42, 0.20)):
        axes.annotate("", (0.5, end), (0.5, start), arrowprops=dict(arrowstyle="->", lw=1.8))
    bend = dict(arrowstyle="->", lw=1.8, connectionstyle="arc3,rad=0.75", color="#868e96")
    axes.annotate("", (0.80, 0.88), (0.80, 0.12), arrowprops=bend)
    box = dict(boxstyle="round,pad=0.5", facecolor="#ffe3e3", edgecolor="#495057")
    axes.text(1.07, 0.5, f"REWARD\n{reward}", ha="center", va="center", bbox=box, color="black")
    axes.set_xlim(0.1, 1.3)
    axes.set_ylim(0, 1)
    axes.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# | | in the cockpit | on text |
# |---|---|---|
# | **state** | eleven readings | the prompt, and all tokens so far |
# | **action** | two numbers | one token of 1024 |
# | **reward** | at every step | 0, until the text has ended; then one number |
# | **policy** | a matrix | the language model of lesson 2, as it is |
# | **noise, to try things** | added to the action | drawing tokens *is* noise |
#
# The last row is worth a thought: a language model gives probabilities, so it explores by itself.
#
# ## Text as an environment
#
# Reinforcement learning has a common plug for this, *Gymnasium*: `reset` begins an episode, `step`
# takes an action. `llm_gym` makes text fit into it. Watch one email being written, by the model:

# %%
model = load_causal_lm("llm_gym/email-sft")
tokenizer = load_tokenizer("llm_gym/email-sft")
env = gym.make("llm_gym/PoliteEmail-v0")
state, info = env.reset(seed=3)
print("PROMPT:", info["prompt"], end="\n\n")
generator = torch.Generator().manual_seed(1)
over, rewards, tokens = False, [], []
while not over:
    read = torch.from_numpy(state["input_ids"])[state["attention_mask"] > 0]  # the state
    with torch.no_grad():
        probabilities = model(read[None]).logits[0, -1].softmax(-1)  # the policy
    action = torch.multinomial(probabilities, 1, generator=generator).item()  # the action
    state, reward, terminated, truncated, info = env.step(action)
    rewards.append(float(reward))
    tokens.append(tokenizer.decode([action]))
    over = terminated or truncated

print(info["completion"], end="\n\n")
print(f"{len(rewards)} actions; rewards: {rewards[:3]} ... {rewards[-3:]}")
assert not any(rewards[:-1])
assert terminated

# %% [markdown]
# ## The loop of lesson 3, word for word
#
# Again we let many try at once: 32 emails, to 32 prompts. As a reward we take something simple and
# clear: 1 if the email says *thank*, else 0. Then, as in the cockpit: *make actions more likely
# that led to more than usual.*
#
# There is no discount here. A text is short, and a bad first sentence is not long ago at its end.


# %%
def write(prompts):
    """Draws an answer to each prompt: ids and attention mask (B, L), and the answers' mask."""
    texts = [f"<|user|>{prompt}<|assistant|>" for prompt in prompts]
    told = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")["input_ids"]
    present = (told != tokenizer.pad_token_id).long()
    ids = model.generate(told, attention_mask=present, do_sample=True, max_new_tokens=60)
    answers = ids[:, told.shape[1] :]
    ends = (answers == tokenizer.eos_token_id).long()
    spoken = (ends.cumsum(1) - ends == 0).float()  # up to the first end, and with it
    return ids, torch.cat([present, torch.ones_like(answers)], 1), spoken


def log_probabilities(ids, attention, length):
    """Of the last `length` tokens, under the policy as it is now: (B, length)."""
    places = (attention.cumsum(1) - 1).clamp(min=0)
    logits = model(ids, attention_mask=attention, position_ids=places).logits
    logits = logits[:, -length - 1 : -1].log_softmax(-1)
    return logits.gather(-1, ids[:, -length:, None])[..., 0]


def says_thanks(text):
    return float("thank" in text.lower())


prompts = email_prompts("train", 200)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
torch.manual_seed(0)
learning, first, last = [], [], []
for _ in range(12):
    chosen = [prompts[row] for row in torch.randint(len(prompts), (32,))]
    ids, attention, spoken = write(chosen)
    length = spoken.shape[1]
    texts = tokenizer.batch_decode(ids[:, -length:], skip_special_tokens=True)
    reward = torch.tensor([says_thanks(text) for text in texts])
    advantage = reward - reward.mean()
    log_probs = log_probabilities(ids, attention, length)
    loss = -((log_probs * spoken).sum(1) * advantage).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # no step too large
    optimizer.step()
    learning.append(float(reward.mean()))
    first, last = first or texts, texts

figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(learning, marker="o", color="#4c6ef5")
axes.set_xlabel("attempts, of 32 emails each")
axes.set_ylabel("share that says thanks")
axes.set_ylim(0, 1.05)
figure.tight_layout()
plt.show()

print(f"says thanks: {learning[0]:.2f} at first, {sum(learning[-3:]) / 3:.2f} in the end")
assert learning[0] < 0.7
assert sum(learning[-3:]) / 3 > 0.75

# %%
print("FIRST:", first[0], sep="\n", end="\n\n")
print("LAST:", last[0], sep="\n")

# %% [markdown]
# No example of a thankful email was shown. The model had written some by chance, and those became
# more likely. What it never writes by chance, it cannot learn this way.
#
# ## Exercise 1: credit
#
# Rewards of a text come at its end, and every token gets the credit. Given a text of `length`
# tokens and its reward, what does each token get, with a discount? (1 for none. 0.9 means: the
# last token gets all, the one before it 0.9 of that, and so on.)


# %%
def credit(length, reward, discount):
    """What each token is paid, first token first (a list)."""
    raise NotImplementedError  # your code here


# %%
check(credit, lesson=4)

# %% [markdown]
# ## Exercise 2: how likely was the whole text?
#
# The model gives a probability for each token, given those before it. What is the log-probability
# of each text? `log_probs` is (B, L); `mask` is 1.0 at tokens of the answer, 0.0 behind its end.


# %%
def text_log_probability(log_probs, mask):
    """One number per text: a tensor (B,)."""
    raise NotImplementedError  # your code here


# %%
check(text_log_probability, lesson=4)

# %% [markdown]
# ## Find the fault
#
# In the small language a text of four words gets one reward, when it has ended. Here is the loss of
# somebody who knows that the reward comes with the last action:

# %%
world = SmallWorld(family="additive")
tries = world.draw(50_000)
log_probs = world.log_probs(tries)  # (N, 4)


def policy_gradient_loss(log_probs, reward):
    advantage = torch.zeros_like(log_probs)
    advantage[:, -1] = reward - reward.mean()  # the reward comes with the last token
    return -(log_probs * advantage).sum(1).mean()


faulty = world.angle(policy_gradient_loss(log_probs, tries.rewards))
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 60

# %% [markdown]
# Which tokens learn anything?
#
# ...
#
# Only the last one. It does come *when* the last word is said; but all the words earned it. An
# action is worth what comes after it, as in the cockpit, and for each word that is the whole
# reward:


# %%
def mended_loss(log_probs, reward):
    advantage = (reward - reward.mean())[:, None]  # the same for every token
    return -(log_probs * advantage).sum(1).mean()


mended = world.angle(mended_loss(log_probs, tries.rewards))
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 5

# %% [markdown]
# ## What you have seen
#
# - Writing is an episode: the state is the text so far, an action is a token, the reward comes
#   last.
# - The loop is that of the cockpit. A language model explores by drawing.
# - Reinforcement learning makes likelier what the model already does now and then.
#
# **Next:** "says thanks" is a poor judge of emails. [Lesson 5](05_a_score.py) has a better one.

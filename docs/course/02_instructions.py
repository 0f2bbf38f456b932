# %% [markdown]
# # 2 · Instructions
#
# **The question.** A model that continues text was told to write an email, and went on chatting.
# How does it learn to *answer*?
#
# By more of the same: next-token prediction, on examples of one special form. First an instruction,
# then a good answer to it. This is **supervised fine-tuning**.
#
# | | in the cockpit | on text |
# |---|---|---|
# | an instruction | "climb to 1,500 metres" | "ask your boss for a day off" |
# | an example | a recording of a pilot who was told so | an answer that somebody wrote |
# | what is learnt | which movements follow which order | which words follow which instruction |
#
# It is still imitation. The model becomes as good as the examples, and no better.

# %%
import matplotlib.pyplot as plt
import torch
from checks import check
from small_world import SmallWorld

from llm_gym import PolitenessScorer
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.polite_email import email_prompts, instruction_pairs

model = load_causal_lm("llm_gym/email-base")
tokenizer = load_tokenizer("llm_gym/email-base")
cross_entropy = torch.nn.functional.cross_entropy

pairs = instruction_pairs("train", 600)
print("TOLD:   ", pairs[0].prompt)
print("ANSWERS:", pairs[0].completion)

# %% [markdown]
# ## Who is speaking?
#
# A text has no speakers. So we mark them with special tokens. This is called a **chat template**.
# Every chatbot has one, and it is nothing more than this:

# %%
TEMPLATE = "<|user|>{prompt}<|assistant|>"


def encode(pair):
    """Token ids of the instruction, and of the answer with its end."""
    instruction = tokenizer(TEMPLATE.format(prompt=pair.prompt))["input_ids"]
    answer = tokenizer(pair.completion + tokenizer.eos_token)["input_ids"]
    return instruction, answer


instruction, answer = encode(pairs[0])
print(len(instruction), "tokens of instruction,", len(answer), "tokens of answer")
print(repr(tokenizer.decode(instruction + answer)))
assert tokenizer.decode(instruction[:1]) == "<|user|>"

# %% [markdown]
# ## The loss counts on the answer only
#
# The model *reads* the instruction and *writes* the answer. So it is the answer's tokens whose
# surprise we make small. PyTorch leaves out every target that is `-100`:


# %%
def batch_of(encoded):
    """Input ids and targets, padded to one length: int64 (B, L) each."""
    longest = max(len(instruction) + len(answer) for instruction, answer in encoded)
    ids, targets = [], []
    for instruction, answer in encoded:
        padding = longest - len(instruction) - len(answer)
        ids.append(instruction + answer + [tokenizer.pad_token_id] * padding)
        targets.append([-100] * len(instruction) + answer + [-100] * padding)
    return torch.tensor(ids), torch.tensor(targets)


def answer_loss(model, encoded):
    ids, targets = batch_of(encoded)
    present = (ids != tokenizer.pad_token_id).long()
    logits = model(ids, attention_mask=present).logits[:, :-1]  # after each token but the last
    return cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten())  # the one that follows


# %% [markdown]
# Now we train. 40 steps of 16 examples each; a real fine-tuning has thousands of steps. At the same
# time we watch the loss on examples that are held out.

# %%
train = [encode(pair) for pair in pairs]
held_out = [encode(pair) for pair in instruction_pairs("test", 48)]


def measured():
    with torch.no_grad():
        return float(answer_loss(model, held_out))


def write(prompts, most=70):
    """An answer to each, drawn token by token as in lesson 1, all at once."""
    texts = [TEMPLATE.format(prompt=prompt) for prompt in prompts]
    told = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    ids, mask = told["input_ids"], told["input_ids"] != tokenizer.pad_token_id
    torch.manual_seed(0)
    written = model.generate(ids, attention_mask=mask.long(), do_sample=True, max_new_tokens=most)
    return tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)


prompts = email_prompts("test", 24)
before = write(prompts)

optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
generator = torch.Generator().manual_seed(0)
losses, held_out_losses = [], [(0, measured())]
for step in range(1, 41):
    chosen = torch.randint(len(train), (16,), generator=generator)
    loss = answer_loss(model, [train[row] for row in chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if step % 8 == 0:
        held_out_losses.append((step, measured()))

after = write(prompts)

figure, axes = plt.subplots(figsize=(7, 3.2))
axes.plot(range(1, 41), losses, color="#adb5bd", label="examples it learns from")
axes.plot(*zip(*held_out_losses, strict=True), marker="o", color="#4c6ef5", label="held out")
axes.set_xlabel("steps")
axes.set_ylabel("surprise per token of the answer")
axes.set_ylim(0)
axes.legend()
figure.tight_layout()
plt.show()

print(f"held out: {held_out_losses[0][1]:.2f} before, {held_out_losses[-1][1]:.2f} after")
assert held_out_losses[-1][1] < held_out_losses[0][1] - 0.3

# %% [markdown]
# ## The same instruction, before and after

# %%
for number in (0, 1):
    print("TOLD:  ", prompts[number])
    print("BEFORE:", before[number])
    print("AFTER: ", after[number], end="\n\n")

# %% [markdown]
# The answers now look like emails, and speak of what was asked. Are they *good* emails? Some are
# friendly and some are not, because the examples are of all kinds. `PolitenessScorer` gives points
# from 0 to 100; lesson 5 is about it.

# %%
scorer = PolitenessScorer()
points_before, points_after = scorer(prompts, before), scorer(prompts, after)
mean_before, mean_after = (sum(points) / len(points) for points in (points_before, points_after))
print(f"mean score: {mean_before:.0f} before, {mean_after:.0f} after fine-tuning")
print("after, one by one:", sorted(round(points) for points in points_after))
assert mean_after > mean_before + 5
assert max(points_after) > 40
assert min(points_after) < 10

# %% [markdown]
# A wide spread. The best of these answers show what the model *can* write. Imitation has no reason
# to prefer them. That is what the rest of the course is about.
#
# ## Exercise 1: targets
#
# Write the heart of `batch_of`, for one example: the targets of an instruction and its answer, with
# `-100` for everything that is not to be learnt.


# %%
def targets_of(instruction, answer, length):
    """A list of `length` targets: instruction, answer and then padding."""
    raise NotImplementedError  # your code here


# %%
check(targets_of, lesson=2)

# %% [markdown]
# ## Exercise 2: mean of what?
#
# Two answers: one of 2 tokens, one of 8. `cross_entropy` takes the mean over all ten tokens, so a
# long answer weighs more. Write the other mean: every *answer* counts the same. (Both are in use,
# and papers do not always say which.)


# %%
def mean_over_answers(surprises, mask):
    """Mean over answers of each answer's mean surprise.

    `surprises` and `mask` are tensors (B, L); mask is 1.0 at tokens of the answer, else 0.0.
    """
    raise NotImplementedError  # your code here


# %%
check(mean_over_answers, lesson=2)

# %% [markdown]
# ## Find the fault
#
# In the small language there are instructions, too: 64 of them, of three words each. The best
# answers are known. Here is the fine-tuning loss of somebody in a hurry:

# %%
world = SmallWorld(reference="transformer", num_prompts=64, length=3)
examples = world.draw(60_000, by="optimum")  # instructions, and what an expert answered
instructions = world.problem.prompts[examples.prompts]  # (N, 3)
tokens = torch.cat([instructions, examples.tokens], 1)  # (N, 6)


def fine_tuning_loss(logits, tokens, instruction_length):
    """logits[:, t] were computed from tokens[:, :t + 1]."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


expert = world.likelihood("optimum")  # expected log-probability of the expert's answers
logits = world.model(tokens).logits
faulty = world.angle(fine_tuning_loss(logits, tokens, 3), expert)
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 30

# %% [markdown]
# The shift by one is right this time. What else does the loss contain?
#
# ...
#
# `instruction_length` is not used. The loss counts on the instruction as well, so the model spends
# its effort on guessing what *users* will say. Drop those targets. The logit that predicts the
# first token of the answer is the one after the instruction's *last* token:


# %%
def mended_loss(logits, tokens, instruction_length):
    written = logits[:, instruction_length - 1 : -1]
    return cross_entropy(written.flatten(0, 1), tokens[:, instruction_length:].flatten())


mended = world.angle(mended_loss(logits, tokens, 3), expert)
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 8

# %% [markdown]
# In a large model this fault does less harm than here, where the instructions say nothing about one
# another. It is still the wrong direction.
#
# ## What you have seen
#
# - Fine-tuning is next-token prediction on instructions with answers, counted on the answers.
# - A chat template marks who is speaking. The rest is imitation.
# - The model now answers. Its answers are as mixed as its examples.
#
# **Next:** to do better than the examples, something has to *judge* the answers.
# [Lesson 3](03_trial_and_error.py) shows how one learns from a judgement alone, where you can watch
# it: in a cockpit.

# %% [markdown]
# # 1 · A model that continues text
#
# **The question.** What is a language model, before anybody has taught it manners?
#
# It is a function. You give it the beginning of a text. It gives you a probability for everything
# that could come next. That is all it does. A chatbot is this function, called again and again.
#
# This course has two pictures side by side. One is an aeroplane, because there you can *see*
# what goes on. The other is text, because that is what we are after.
#
# | | in the cockpit | on text |
# |---|---|---|
# | what is given | the instruments, so far | the words, so far |
# | what is asked | what will the pilot's hand do next? | which word comes next? |
# | learnt from | recordings of flights | whatever people have written |
#
# A model of recordings *imitates*. It does not know where the flight was meant to go. Keep that in
# mind: the whole course follows from it.

# %%
import matplotlib.pyplot as plt
import torch
from checks import check
from small_world import SmallWorld

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.polite_email import documents

torch.manual_seed(0)
model = load_causal_lm("llm_gym/email-base").eval()
tokenizer = load_tokenizer("llm_gym/email-base")
print(f"{model.num_parameters():,} numbers make up this model")

# %% [markdown]
# The model ships with this package. It is tiny: a million numbers, where a large one has a million
# times as many. It has read 85,000 short texts about an office, and nothing else.
#
# ## Text is numbers
#
# The model does not see letters. A *tokenizer* cuts the text into pieces, called **tokens**, and
# gives each piece a number. Often a token is a word; a rare word is several.

# %%
beginning = "Dear Peter,\nCould you"
token_ids = tokenizer(beginning)["input_ids"]
for number in token_ids:
    print(f"{number:5d}  {tokenizer.decode([number])!r}")

assert tokenizer.decode(token_ids) == beginning

# %% [markdown]
# ## A probability for everything that could come next
#
# We ask the model what follows. For each token it gives a number, a **logit**. `softmax` turns the
# logits into probabilities: all positive, and together 1.


# %%
def next_token_probabilities(text):
    token_ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(token_ids).logits[0, -1]  # after the last token: one number per token
    return logits.softmax(-1)


probabilities = next_token_probabilities(beginning)
best = probabilities.topk(8)
words = [tokenizer.decode([number]) for number in best.indices]

figure, axes = plt.subplots(figsize=(7, 3))
axes.barh([repr(word) for word in words][::-1], best.values.tolist()[::-1], color="#4c6ef5")
axes.set_title(f"What comes after {beginning!r}?")
axes.set_xlabel("probability")
figure.tight_layout()
plt.show()

print(f"{len(probabilities)} tokens, with {float(probabilities.sum()):.3f} in all")
assert abs(float(probabilities.sum()) - 1) < 1e-4
assert " please" in words

# %% [markdown]
# ## Writing is drawing, again and again
#
# To write a text, draw one token from these probabilities, put it behind the text, and ask again.
# A special token, `<|endoftext|>`, says that the text is over.


# %%
def continue_text(text, most=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(most):
        drawn = torch.multinomial(next_token_probabilities(text), 1, generator=generator)
        if drawn.item() == tokenizer.eos_token_id:
            break
        text += tokenizer.decode(drawn)
    return text


for seed in range(4):
    print(continue_text("Dear Peter,\n", seed=seed), end="\n\n")

# %% [markdown]
# It sounds like an office, kind lines and unkind ones. The model does not mind which. It writes
# what such texts are like.
#
# Now ask it for something:

# %%
instruction = "Write an email to your boss asking for a day off."
for seed in range(2):
    print(continue_text(instruction, seed=seed), end="\n\n")

# %% [markdown]
# It does not do what it was told. It goes on with the text, as it always does. That is the subject
# of lesson 2.
#
# ## How well does it predict?
#
# Take a text the model has not read. At each place, look up the probability it gave to the token
# that really came. The mean of `-log(probability)` is the **loss**: the surprise per token.
# Training makes that number small. It is the only thing pre-training does.
#
# The simplest rival is a table: count which token followed which in some texts, and look only at
# the last token. We train that table the way all models in this course are trained: by **gradient
# descent**. Make the loss a little smaller, many times.

# %%
train, held_out = documents("train", 1500), documents("test", 150)


def as_one_stream(texts):
    ends = tokenizer.eos_token
    return tokenizer(ends.join(texts) + ends, return_tensors="pt", verbose=False)["input_ids"][0]


stream, unread = as_one_stream(train), as_one_stream(held_out)
table = torch.zeros(len(tokenizer), len(tokenizer), requires_grad=True)  # logits: last, next
optimizer = torch.optim.Adam([table], lr=0.3)
curve = []
last, following = stream[:-1], stream[1:]
for step in range(60):
    if step % 5 == 0:
        with torch.no_grad():
            surprise = torch.nn.functional.cross_entropy(table[unread[:-1]], unread[1:])
        curve.append((step, float(surprise)))
    places = torch.randint(len(last), (4096,))
    loss = torch.nn.functional.cross_entropy(table[last[places]], following[places])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# The transformer reads the same held-out text in pieces of 128 tokens.
pieces = unread[: len(unread) // 128 * 128].view(-1, 128)
with torch.no_grad():
    logits = model(pieces).logits[:, :-1]
transformer_loss = float(
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())
)

figure, axes = plt.subplots(figsize=(7, 3.2))
axes.plot(*zip(*curve, strict=True), marker="o", label="table: looks at the last token")
axes.axhline(transformer_loss, color="#e8590c", label="transformer: looks at all of them")
axes.set_xlabel("steps of gradient descent")
axes.set_ylabel("surprise per token")
axes.set_ylim(0)
axes.legend()
figure.tight_layout()
plt.show()

print(f"the table: {curve[0][1]:.2f} before, {curve[-1][1]:.2f} after")
print(f"the transformer: {transformer_loss:.2f}")
assert curve[-1][1] < curve[0][1] - 3
assert transformer_loss < curve[-1][1] - 0.5

# %% [markdown]
# ## Exercise 1: perplexity
#
# People quote the loss as **perplexity**, `exp(loss)`: among how many equally likely tokens does
# the model seem to choose? Write the function, and run the next cell as often as you like.


# %%
def perplexity(log_probabilities):
    """Perplexity of a text, from the log-probability of each of its tokens (a list)."""
    raise NotImplementedError  # your code here


# %%
check(perplexity, lesson=1)

# %% [markdown]
# ## Exercise 2: temperature
#
# Divide the logits by a **temperature** before the softmax. Below 1 the model plays safe; above 1
# it becomes adventurous. Every chatbot has this knob.


# %%
def with_temperature(logits, temperature):
    """Probabilities of the tokens (a tensor), from their logits (a tensor)."""
    raise NotImplementedError  # your code here


# %%
check(with_temperature, lesson=1)

# %% [markdown]
# ## Find the fault
#
# Here is a loss with a typical fault. In real training you would notice it after a day, if at all:
# the loss falls very nicely.
#
# How can we grade it? In a language so small that *all* its texts can be listed, the right
# direction is not a matter of opinion. It can be computed exactly: the gradient of the expected
# log-probability. `SmallWorld` is such a language, of four words and texts of four words. We ask
# how far the step of a loss points away from the right one. 0 degrees is perfect. 90 degrees is
# no better than a random direction.

# %%
world = SmallWorld(start="blank")
texts = world.draw(20_000, by="reference")  # what people wrote, in this language


def next_token_loss(logits, tokens):
    """logits[:, t] were computed from tokens[:, :t + 1]: what was read up to place t."""
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def logits_of(texts):
    """What the model says after the prompt and each word, and what was there: (N, 5) both."""
    prompt = world.problem.prompts[texts.prompts]
    tokens = torch.cat([prompt, texts.tokens], 1)
    return world.model(tokens[:, :-1]).logits, tokens


def angle_of(loss_function):
    logits, tokens = logits_of(texts)
    return world.angle(loss_function(logits, tokens[:, :-1]), world.likelihood())


faulty = angle_of(next_token_loss)
print(f"your gradient points {faulty:.0f} degrees away from the true one")
assert faulty > 30

# %% [markdown]
# Look at which token each prediction is compared with, before you read on.
#
# ...
#
# At place `t` the model has *already read* token `t`. It was asked to predict what it had just
# seen. That is easy, so the loss falls; and it teaches the model to repeat. The target is the token
# that comes **after**: everything moves by one.


# %%
def mended_loss(logits, tokens):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


logits, tokens = logits_of(texts)
mended = world.angle(mended_loss(logits, tokens), world.likelihood())
print(f"before: {faulty:.0f} degrees, after: {mended:.1f} degrees")
assert mended < 3

# %% [markdown]
# What is left is chance: 20,000 texts are a sample. With more of them it goes to zero.
#
# ## What you have seen
#
# - A language model gives a probability to each next token. Writing is drawing from it.
# - Pre-training makes real text less surprising. It imitates the good and the bad alike.
# - Told to do something, such a model goes on talking. It has no reason to obey.
#
# **Next:** [lesson 2](02_instructions.py) teaches it to answer.

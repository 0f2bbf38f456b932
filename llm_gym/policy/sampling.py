"""From hidden states to tokens: the head, drawing from its softmax, evaluating what was drawn."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from llm_gym.language_models.architecture import decoder_of, text_config, vocabulary_size
from llm_gym.language_models.divergence import DivergenceError
from llm_gym.language_models.packing import TokenBatch


@dataclass(frozen=True)
class EpisodeBatch:
    """`B` episodes with `A` actions in all, in place of `A` padded prefixes.

    A causal model computes the distribution after *every* prefix of a sequence in one pass, so the
    observations of all steps of an episode are the episode itself and the places of its actions.

    Attributes:
        input_ids: int64 `(B, S)`: prompts with their actions, padded on the right.
        action_rows: int64 `(A,)`: the row of each action.
        action_slots: int64 `(A,)`: the column of each action's own token; the observation it was
            chosen in ends one column before.
        support: uint8 `(A, ceil(V / 8))` or `None`: the tokens that top-k or top-p left to
            choose from when the action was sampled, packed eight to a byte (see
            `pack_support`). `None` where nothing was cut.
    """

    input_ids: torch.Tensor
    action_rows: torch.Tensor
    action_slots: torch.Tensor
    support: torch.Tensor | None = None

    @classmethod
    def of(cls, batch: TokenBatch, support: torch.Tensor | None = None) -> EpisodeBatch:
        """Rows that were packed (`llm_gym.language_models.packing.pack`): answers are actions."""
        return cls(batch.input_ids, batch.answer_rows, batch.answer_slots, support)

    @property
    def actions(self) -> torch.Tensor:
        """The action tokens, int64 `(A,)`."""
        return self.input_ids[self.action_rows, self.action_slots]

    @property
    def context(self) -> torch.Tensor:
        """What the model has to read, int64 `(B, S - 1)`: nothing is chosen after the last."""
        return self.input_ids[:, :-1]

    @property
    def lengths_read(self) -> NDArray[np.int64]:
        """Tokens up to the one that the last action of each row was chosen after, int64 `(B,)`."""
        read = np.zeros(len(self.input_ids), dtype=np.int64)
        np.maximum.at(read, self.action_rows.cpu().numpy(), self.action_slots.cpu().numpy())
        return read

    def split(self, n_episodes: int) -> Iterator[tuple[EpisodeBatch, torch.Tensor]]:
        """The batch in parts.

        Args:
            n_episodes: Episodes of a part; the last may have fewer.

        Yields:
            Each part that has an action, no wider than its actions need, and the numbers of its
            actions among all, int64.
        """
        for start in range(0, len(self.input_ids), n_episodes):
            rows = self.action_rows - start
            chosen = ((rows >= 0) & (rows < n_episodes)).nonzero().squeeze(1)
            if not len(chosen):
                continue
            slots = self.action_slots[chosen]
            part = EpisodeBatch(
                self.input_ids[start : start + n_episodes, : int(slots.max()) + 1],
                rows[chosen],
                slots,
                None if self.support is None else self.support[chosen],
            )
            yield part, chosen

    def to(self, device: torch.device | str) -> EpisodeBatch:
        """The same batch on another device."""
        support = None if self.support is None else self.support.to(device)
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            action_rows=self.action_rows.to(device),
            action_slots=self.action_slots.to(device),
            support=support,
        )


class LanguageModelHead:
    """Applies a causal LM's output layer to hidden states of any shape `(..., H)`.

    Models compute logits for whole sequences; a policy needs them where a token was chosen. A
    linear layer with a scale or a soft cap, as the configuration has them, is applied directly; any
    other head by the model's own code, with the decoder's part in it left out. Both are held
    against the model's own forward pass once.

    Attributes:
        width: `H`, the size of the hidden states.
        n_tokens: `V`, the number of logits.

    Raises:
        ValueError: If the logits differ from the model's own.
    """

    def __init__(self, model: Any) -> None:
        self.linear: nn.Module = model.get_output_embeddings()
        config = text_config(model)
        self.soft_cap: float | None = getattr(config, "final_logit_softcapping", None)
        self.scale: float = getattr(config, "logit_scale", None) or 1.0
        self.scale /= getattr(config, "logits_scaling", None) or 1.0
        self._whole: Any = None
        hidden, expected = _hidden_and_logits(model)
        _check_logits(model, expected)
        self.width, self.n_tokens = hidden.shape[-1], expected.shape[-1]
        if not self._gives(expected, hidden):
            self._whole = _without_decoder(model)
            if not self._gives(expected, hidden):
                raise ValueError(
                    f"the output head of {type(model).__name__} needs more than the hidden state "
                    "at a position, so its logits cannot be computed at single positions; this "
                    "architecture is not supported"
                )

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float `(..., H)` to float32 (or float64) logits `(..., V)`."""
        if self._whole is not None:
            rows = hidden.reshape(1, -1, self.width)  # (1, A, H)
            logits = self._whole(inputs_embeds=rows, use_cache=False).logits
            return widened(logits).reshape(*hidden.shape[:-1], -1)
        return self.finish(self.linear(hidden))

    def finish(self, logits: torch.Tensor) -> torch.Tensor:
        """What comes after the linear layer: scale, soft cap, float32; `(..., V)` to `(..., V)`."""
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.soft_cap is not None:
            logits = torch.tanh(logits / self.soft_cap) * self.soft_cap
        return widened(logits)

    def slope(self, logits: torch.Tensor) -> torch.Tensor | float:
        """The derivative of `finish` by what it was given, from what it made of that."""
        if self.soft_cap is None:
            return self.scale
        return self.scale * (1 - (logits / self.soft_cap) ** 2)

    @property
    def plain_linear(self) -> nn.Linear | None:
        """The linear layer, if the head is a plain one and `finish`; adapters and hooks are not."""
        linear = self.linear
        hooked = bool(linear._forward_hooks or linear._forward_pre_hooks or linear._backward_hooks)
        plain = type(linear) is nn.Linear and not hooked and "forward" not in vars(linear)
        return linear if plain and self._whole is None else None  # type: ignore[return-value]

    @torch.no_grad()
    def _gives(self, expected: torch.Tensor, hidden: torch.Tensor) -> bool:
        try:
            found = self(hidden)
        except Exception:  # another shape, other arguments: whatever an architecture raises
            return False
        if found.shape != expected.shape:
            return False
        return bool((found - expected).abs().max() <= tolerance(expected, hidden.dtype))


def tolerance(logits: torch.Tensor, dtype: torch.dtype) -> float:
    """How far two ways of computing the same logits may lie apart, in nats.

    Rounding grows with the logits. Of 110 architectures with two to four layers none was further
    apart than a tenth of this in float32, a third in bfloat16; wrong ones were apart by nats.
    """
    roundings = 256 if torch.finfo(dtype).bits >= 32 else 8
    epsilon = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    return roundings * epsilon * (1 + float(logits.abs().max()))


def widened(numbers: torch.Tensor) -> torch.Tensor:
    """Floats of 16 bits as float32, which NumPy knows and sums bear; wider ones as they are."""
    return numbers.float() if numbers.dtype in (torch.bfloat16, torch.float16) else numbers


@torch.no_grad()
def _hidden_and_logits(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A model's hidden states `(1, 3, H)` and its own logits `(1, 3, V)` on three tokens."""
    ids = torch.arange(3, device=model.device)[None] % vocabulary_size(model)
    decoder = decoder_of(model)
    outputs: list[Any] = []
    kept = decoder.register_forward_hook(lambda *call: outputs.append(call[-1]))
    try:
        logits = model(input_ids=ids, use_cache=False).logits
        if not outputs:  # the model calls a part of its decoder, as OPT's does
            decoder(input_ids=ids, use_cache=False)
    except Exception as error:  # whatever an architecture raises that wants more than token ids
        raise ValueError(
            f"{type(model).__name__} cannot read token ids alone, {type(error).__name__}: {error}; "
            "this architecture is not supported"
        ) from error
    finally:
        kept.remove()
    return outputs[0].last_hidden_state, widened(logits)


def _check_logits(model: Any, logits: torch.Tensor) -> None:
    """Refuses a model whose weights are so large that its logits are no numbers.

    Raises:
        ValueError: Naming the largest weight. Logits of -infinity are an architecture's choice.
    """
    if logits.isnan().any() or logits.isposinf().any():
        weights = {name: p.detach() for name, p in model.named_parameters() if p.numel()}
        sizes = {name: float(weight.abs().max()) for name, weight in weights.items()}
        name = max(sizes, key=lambda key: sizes[key])
        raise ValueError(
            f"the logits of {type(model).__name__} are NaN or infinite: its weights are too large "
            f"(the largest, of {name!r}, is {sizes[name]:g}); go back to an earlier checkpoint"
        )


class _HiddenStates(nn.Module):
    """Stands where a decoder stood, and gives what it is handed as if it had computed it."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> Any:
        return _Output([inputs_embeds])


class _Output(tuple[torch.Tensor, ...]):
    """A decoder's output: its hidden states, and `None` for whatever else decoders give."""

    def __getattr__(self, name: str) -> torch.Tensor | None:
        return self[0] if name == "last_hidden_state" else None


def _without_decoder(model: Any) -> Any:
    """The same model, parameters shared, that takes hidden states for `inputs_embeds`."""
    shell = copy.copy(model)
    decoder = decoder_of(model)
    shell._modules = {
        name: _HiddenStates() if child is decoder else child
        for name, child in model._modules.items()
    }
    return shell


def whole_ids(ids: torch.Tensor) -> torch.Tensor:
    """Token ids as int64, from a library that makes floats of all observations.

    Args:
        ids: Of any type and shape.

    Returns:
        The same ids.

    Raises:
        ValueError: They are no whole numbers: something has normalised them.
    """
    if ids.is_floating_point() and not torch.equal(ids, ids.round()):
        raise ValueError(
            "input_ids are not whole numbers: token ids cannot be normalised (VecNormalize with "
            "norm_obs=True, NormalizeObservation, a running scaler); leave observations as they are"
        )
    return ids.long()


def inverse_cdf_sample(probs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Draws one token a row by inverting the cumulative distribution.

    Several times faster on a CPU than `torch.multinomial`, which sorts its way to sampling
    without replacement even when one sample is asked for.

    Args:
        probs: float `(N, V)`, non-negative; rows need not sum to one exactly.
        generator: Source of the uniform numbers; `None` is the global one.

    Returns:
        int64 `(N,)`. A token of probability zero is never drawn: the first entry whose cumulative
        probability *exceeds* the uniform number cannot be one that adds nothing.

    Raises:
        DivergenceError: A row is not finite.
    """
    cumulative = probs.cumsum(-1)  # (N, V)
    total = cumulative[:, -1:]
    _check_numbers(total)
    uniform = torch.rand(total.shape, dtype=probs.dtype, device=probs.device, generator=generator)
    # Rounding may lift the product to the total itself, which no cumulative value exceeds.
    below_total = torch.nextafter(total, torch.zeros_like(total))
    threshold = torch.minimum(uniform * total, below_total)
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)


def most_probable(probs: torch.Tensor) -> torch.Tensor:
    """The most probable token of each row: float `(N, V)` to int64 `(N,)`.

    Raises:
        DivergenceError: A row is not finite.
    """
    largest, tokens = probs.max(-1)
    _check_numbers(largest)
    return tokens


def _check_numbers(of_rows: torch.Tensor) -> None:
    # A softmax makes NaN of every probability of a row with a NaN or an infinity among its logits.
    if not math.isfinite(of_rows.sum().item()):  # one pass: it is asked at every token
        raise DivergenceError("the model's logits are NaN or infinite, so there is no next token")


def truncated_support(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor | None:
    """The tokens that top-k and nucleus (top-p) truncation keep.

    Args:
        logits: float `(N, V)`, already divided by the temperature.
        top_k: Keep the `k` most probable tokens and those tied with the last; 0 keeps all.
        top_p: Keep the smallest set of most probable tokens whose probability reaches `p`
            (Holtzman et al., 2019, arXiv 1904.09751); 1 keeps all.

    Returns:
        bool `(N, V)`, or `None` where nothing is cut.
    """
    if not top_k and top_p >= 1.0:
        return None
    support = torch.ones_like(logits, dtype=torch.bool)
    if 0 < top_k < logits.shape[-1]:
        threshold = logits.topk(top_k, dim=-1).values[:, -1:]
        support &= logits >= threshold
    if top_p < 1.0:
        kept_logits = logits.masked_fill(~support, -torch.inf)
        ordered, order = kept_logits.softmax(-1).sort(-1, descending=True)
        mass_before = ordered.cumsum(-1) - ordered
        within = mass_before < top_p
        within[:, 0] = True  # the least p is 0 in float32
        support &= torch.zeros_like(support).scatter(-1, order, within)
    return support


def policy_logits(
    logits: torch.Tensor, temperature: float, support: torch.Tensor | None
) -> torch.Tensor:
    """Logits of a policy that divides by a temperature and may choose among some tokens only.

    Args:
        logits: float `(A, V)`, the model's own.
        temperature: Divides them.
        support: uint8 `(A, ceil(V / 8))`, the tokens to choose from, packed; `None` is all.

    Returns:
        float `(A, V)`, `-inf` where cut.
    """
    if temperature != 1.0:
        logits = logits / temperature
    if support is None:
        return logits
    return logits.masked_fill(~unpack_support(support, logits.shape[-1]), -torch.inf)


def pack_support(support: torch.Tensor) -> torch.Tensor:
    """Packs bool `(A, V)` into uint8 `(A, ceil(V / 8))`, the lowest bit first."""
    n_rows, n_tokens = support.shape
    padded = torch.nn.functional.pad(support, (0, -n_tokens % 8)).view(n_rows, -1, 8)
    weights = 2 ** torch.arange(8, device=support.device, dtype=torch.uint8)
    return (padded.to(torch.uint8) * weights).sum(-1, dtype=torch.uint8)


def unpack_support(packed: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """The inverse of `pack_support`: uint8 `(A, ceil(V / 8))` to bool `(A, V)`."""
    weights = 2 ** torch.arange(8, device=packed.device, dtype=torch.uint8)
    bits = (packed[..., None] & weights) != 0  # (A, ceil(V / 8), 8)
    return bits.flatten(1)[:, :n_tokens]


class _LogProbAndEntropy(torch.autograd.Function):
    """Log-probability and entropy of a softmax that keep one `(A, V)` tensor for the backward.

    Autograd over `log_softmax`, `gather` and `p log p` keeps four of that size and walks
    them one by one. The gradients are `d log p_a / d z_j = 1[j = a] - p_j` and
    `d H / d z_j = -p_j (log p_j + H)`.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, actions: torch.Tensor) -> Any:
        probs = logits.softmax(-1)  # (A, V)
        # log sum exp z = max z - log max p, which costs no further exponentials; the largest
        # probability is at least 1 / V, so its logarithm is exact where a small one's is not.
        log_normaliser = logits.amax(-1) - probs.amax(-1).log()  # (A,)
        log_prob = logits.gather(-1, actions[:, None]).squeeze(-1) - log_normaliser
        expected_logit = _row_products(probs, logits)  # (A,)
        if expected_logit.isnan().any():  # 0 * -inf of a token that was cut
            expected_logit = _row_products(probs, logits.masked_fill(probs == 0, 0.0))
        entropy = log_normaliser - expected_logit
        ctx.save_for_backward(probs, actions, entropy)
        return log_prob, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_log_prob, grad_entropy = grads
        probs, actions, entropy = ctx.saved_tensors
        grad = probs * -grad_log_prob[:, None]
        grad.scatter_add_(-1, actions[:, None], grad_log_prob[:, None])
        if grad_entropy.any():  # a zero entropy coefficient must not cost a pass over (A, V)
            log_probs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
            grad.sub_(probs * (log_probs + entropy[:, None]) * grad_entropy[:, None])
        return grad, None


def _row_products(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The scalar product of each two rows, `(A, V)` to `(A,)`.

    `vecdot` multiplies all numbers before it adds, so it is given some rows at a time.
    """
    size = max(1, 4 * 2**20 // (one.element_size() * one.shape[-1]))
    parts = zip(one.split(size), other.split(size), strict=True)
    return torch.cat([torch.linalg.vecdot(*part) for part in parts])


def log_prob_and_entropy(
    logits: torch.Tensor, actions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of the actions, and entropy, under `softmax(logits)`.

    Args:
        logits: float `(A, V)`; `-inf` marks tokens that cannot be chosen.
        actions: int64 `(A,)`.

    Returns:
        Two float tensors `(A,)`, differentiable once in the logits. Entropy is in nats.
    """
    log_prob, entropy = _LogProbAndEntropy.apply(logits, actions)
    return log_prob, entropy


def token_log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability of tokens under `softmax(logits)`, differentiable any number of times.

    Args:
        logits: float `(A, V)`.
        tokens: int64 `(A,)`.

    Returns:
        float `(A,)`, in nats.
    """
    return logits.log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)

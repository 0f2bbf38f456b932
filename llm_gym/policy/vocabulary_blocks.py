"""Likelihoods of many tokens of a large vocabulary, some tokens of the vocabulary at a time.

`A` tokens of a vocabulary of `V` have `A x V` logits. Of those only sums over the vocabulary are
wanted: the normaliser of the softmax, the entropy, and in the backward pass products with the
head's weights. So the weights are taken in blocks of tokens, each of which is multiplied once by
all rows and is summed while its logits lie in the processor's cache: the running maximum and sum of
Milakov and Gimelshein (2018, arXiv 1805.02867), over a head's tokens as Wijmans et al. (2024, arXiv
2411.09009) take them. Gradients of the weights come out block by block, too, and nothing of their
size is ever added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from llm_gym.policy.sampling import LanguageModelHead, policy_logits

KEPT_BYTES = 128 * 2**20
"""Logits of no more bytes than this are kept for the backward pass, others computed again."""

MOST_ROWS = 2**14
"""Of more rows the smallest block would be large, and some are taken after the others."""

_LEAST = 1024  # tokens of a block: products of fewer are slower
_CACHED = 2**18  # logits of a block: about a megabyte stays in a core's own cache
_ON_DEVICES = 2**24  # elsewhere a block costs what starting its operations does


def tokens_at_once(n_rows: int, device: torch.device) -> int:
    """How many tokens of the vocabulary a block has, a multiple of 8.

    Args:
        n_rows: A, the rows that there are.
        device: Where they are.
    """
    n_logits = _CACHED if device.type == "cpu" else _ON_DEVICES
    return max(_LEAST, n_logits // max(1, n_rows) // 8 * 8)


class Rows(NamedTuple):
    """What the likelihoods of `A` rows hang on beside their hidden states.

    Attributes:
        head: Makes logits of hidden states.
        actions: int64 `(A,)`.
        temperature: Divides the logits.
        support: uint8 `(A, ceil(V / 8))`, the tokens to choose from, packed; `None` is all.
        autocast_dtype: Type of the head's matrix products, as `torch.autocast` has it; `None` is
            that of its weights.
    """

    head: LanguageModelHead
    actions: torch.Tensor
    temperature: float
    support: torch.Tensor | None
    autocast_dtype: torch.dtype | None

    def some(self, which: slice) -> Rows:
        """The same of some of the rows."""
        support = None if self.support is None else self.support[which]
        return self._replace(actions=self.actions[which], support=support)


def log_prob_and_entropy_in_blocks(
    hidden: torch.Tensor, rows: Rows, tokens_per_block: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of the actions, and entropy, from hidden states.

    Equal to `llm_gym.policy.sampling.log_prob_and_entropy` of the logits up to rounding, gradients
    too. Where the head is frozen, the gradients of log-probabilities in hidden states, `(A, H)`,
    are computed with them, and logits again only for an entropy bonus.

    Args:
        hidden: float `(A, H)`.
        rows: Their head has a `plain_linear`.
        tokens_per_block: A multiple of 8.

    Returns:
        Two float tensors `(A,)`, differentiable once. Entropy is in nats.
    """
    linear = rows.head.plain_linear
    assert linear is not None
    parts = []
    for start in range(0, len(hidden), MOST_ROWS):
        which = slice(start, start + MOST_ROWS)
        some = rows.some(which)
        parts.append(
            _InBlocks.apply(hidden[which], linear.weight, linear.bias, some, tokens_per_block)
        )
    if len(parts) == 1:
        return parts[0]
    log_probs, entropies = zip(*parts, strict=True)
    return torch.cat(log_probs), torch.cat(entropies)


class _Block(NamedTuple):
    """Logits of some tokens of the vocabulary.

    Attributes:
        start: The first of them.
        weight: float `(b, H)`, the head's, as it is multiplied.
        raw: float `(A, b)`, what the linear layer gives.
    """

    start: int
    weight: torch.Tensor
    raw: torch.Tensor

    @property
    def tokens(self) -> slice:
        """Those tokens."""
        return slice(self.start, self.start + len(self.weight))


def _blocks(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    size: int,
    *,
    kept: list[torch.Tensor] | None = None,
    scratch: _Scratch | None = None,
) -> Iterator[_Block]:
    """The vocabulary in blocks.

    Args:
        inputs: float `(A, H)`, of the type in which they are multiplied.
        weight: float `(V, H)`.
        bias: float `(V,)` or `None`.
        size: Tokens of a block.
        kept: The raw logits of each block, where somebody has them.
        scratch: Where raw logits lie until the next block; `None` leaves them to the caller.
    """
    for number, start in enumerate(range(0, len(weight), size)):
        some = weight[start : start + size].to(inputs.dtype)
        if kept is not None:
            yield _Block(start, some, kept[number])
            continue
        raw = None if scratch is None else scratch("raw", inputs, len(some))
        if bias is None:
            raw = torch.mm(inputs, some.T, out=raw)
        else:
            offset = bias[start : start + size].to(inputs.dtype)
            raw = torch.addmm(offset, inputs, some.T, out=raw)
        yield _Block(start, some, raw)


def _logits(rows: Rows, block: _Block) -> tuple[torch.Tensor, torch.Tensor | float]:
    """The policy's logits of a block, and their derivative by the raw ones."""
    finished = rows.head.finish(block.raw)
    support = rows.support
    if support is not None:
        support = support[:, block.start // 8 : -(-block.tokens.stop // 8)]
    logits = policy_logits(finished, rows.temperature, support)
    return logits, rows.head.slope(finished) / rows.temperature


def _chosen(rows: Rows, block: _Block) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows whose action is in a block, and which of its tokens that is."""
    places = rows.actions - block.start
    found = ((places >= 0) & (places < len(block.weight))).nonzero().squeeze(1)
    return found, places[found]


class _Scratch:
    """Memory that is written anew for each block: what is fresh has to be had from the system."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, int], torch.Tensor] = {}

    def __call__(self, name: str, like: torch.Tensor, width: int) -> torch.Tensor:
        """Memory under a name, `(A, width)`, of the type of `like`, whose rows are as many."""
        if (name, width) not in self._buffers:
            self._buffers[name, width] = like.new_empty(len(like), width)
        return self._buffers[name, width]


class _Part(NamedTuple):
    """The softmax within a block: PyTorch's is cheaper than a plain exponential.

    Attributes:
        probs: `(A, b)`; zeros where all of a row is cut.
        largest: `(A,)`, the largest logit.
        total: `(A,)`, the sum of `exp(z - largest)`.
    """

    probs: torch.Tensor
    largest: torch.Tensor
    total: torch.Tensor

    @classmethod
    def of(cls, logits: torch.Tensor, scratch: _Scratch) -> _Part:
        """Of logits `(A, b)`; the probabilities lie in scratch memory."""
        probs = scratch("probs", logits, logits.shape[1])
        torch.softmax(logits, -1, out=probs)
        largest = logits.amax(-1)
        total = 1 / probs.amax(-1)  # no further exponentials
        cut = largest == -torch.inf
        if cut.any():
            probs.masked_fill_(cut[:, None], 0.0)
            total = total.masked_fill(cut, 0.0)
        return cls(probs, largest, total)


class _Sums:
    """Sums of a softmax over the vocabulary, from the blocks that were added so far.

    Attributes:
        largest: `(A,)`, the largest logit.
        total: `(A,)`, the sum of `exp(z - largest)`.
        logit: `(A,)`, the sum of `exp(z - largest) z`.
        weight: `(A, H)`, the sum of `exp(z - largest) w` over the head's rows `w`, each times the
            derivative of its logit; `None` where nobody asks.
    """

    def __init__(
        self, hidden: torch.Tensor, dtype: torch.dtype, scratch: _Scratch, *, of_weights: bool
    ) -> None:
        self._scratch = scratch
        self.largest = hidden.new_full((len(hidden),), -torch.inf, dtype=dtype)
        self.total, self.logit = torch.zeros_like(self.largest), torch.zeros_like(self.largest)
        self.weight = torch.zeros_like(hidden, dtype=dtype) if of_weights else None

    def add(self, block: _Block, logits: torch.Tensor, slope: torch.Tensor | float) -> None:
        """Adds a block."""
        part = _Part.of(logits, self._scratch)
        products = self._scratch("products", logits, logits.shape[1])
        expected = torch.mul(part.probs, logits, out=products).sum(-1)
        if expected.isnan().any():  # 0 * -inf of a token that was cut
            expected = products.masked_fill_(part.probs == 0, 0.0).sum(-1)
        new = torch.maximum(self.largest, part.largest)
        before, share = _powers(self.largest, new), _powers(part.largest, new) * part.total
        self.largest = new
        self.total = self.total * before + share
        self.logit = self.logit * before + share * expected
        if self.weight is not None:
            mean = (part.probs * slope).to(block.weight.dtype) @ block.weight  # (A, H)
            self.weight = self.weight * before[:, None] + share[:, None] * mean

    @property
    def normaliser(self) -> torch.Tensor:
        """The logarithm of the sum of all `exp(z)`, `(A,)`."""
        return self.largest + self.total.log()


def _powers(small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
    """`exp(small - large)`, 0 where `small` is -inf, as the maximum of nothing is."""
    return torch.where(small == -torch.inf, 0.0, (small - large).exp())


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rows: Rows,
        size: int,
    ) -> Any:
        of_hidden, *of_head = ctx.needs_input_grad[:3]
        frozen = of_hidden and not any(of_head)
        inputs = _as_multiplied(hidden, rows)
        wide = torch.float64 if inputs.dtype == torch.float64 else torch.float32
        scratch = _Scratch()
        sums = _Sums(hidden, wide, scratch, of_weights=frozen)
        chosen = torch.empty_like(sums.largest)
        of_chosen = torch.empty_like(hidden, dtype=wide) if frozen else None
        keeps = any(of_head) and 4 * len(hidden) * len(weight) <= KEPT_BYTES
        kept: list[torch.Tensor] = []
        raw = None if keeps else scratch
        for block in _blocks(inputs, weight, bias, size, scratch=raw):
            logits, slope = _logits(rows, block)
            sums.add(block, logits, slope)
            at, places = _chosen(rows, block)
            chosen[at] = logits[at, places]
            if of_chosen is not None:
                steep = slope[at, places, None] if isinstance(slope, torch.Tensor) else slope
                of_chosen[at] = (block.weight[places] * steep).to(wide)
            if keeps:
                kept.append(block.raw)
        normaliser = sums.normaliser
        entropy = normaliser - sums.logit / sums.total
        gradients = None
        if of_chosen is not None and sums.weight is not None:
            gradients = of_chosen - sums.weight / sums.total[:, None]
        ctx.save_for_backward(
            hidden, weight, bias, gradients, sums.largest, sums.total, entropy, *kept
        )
        ctx.rows, ctx.size = rows, size
        return chosen - normaliser, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        hidden, weight, bias, gradients, largest, total, entropy, *kept = ctx.saved_tensors
        grad_log_prob, grad_entropy = grads
        rows: Rows = ctx.rows
        of_entropy = bool(grad_entropy.any())  # a zero coefficient must not cost a pass
        if gradients is not None and not of_entropy:
            return (gradients * grad_log_prob[:, None]).to(hidden.dtype), None, None, None, None
        inputs, wide = _as_multiplied(hidden, rows), largest.dtype
        of_hidden = torch.zeros_like(hidden, dtype=wide) if ctx.needs_input_grad[0] else None
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        of_bias = torch.empty_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        softmax = _Softmax(largest, total, entropy, grad_log_prob, grad_entropy, of_entropy)
        scratch = _Scratch()
        for block in _blocks(inputs, weight, bias, ctx.size, kept=kept or None, scratch=scratch):
            gradient = softmax.gradient(rows, block, scratch)
            if of_hidden is not None:
                _add_product(of_hidden, gradient, block.weight)
            if of_weight is not None and of_weight.dtype == gradient.dtype:
                torch.mm(gradient.T, inputs, out=of_weight[block.tokens])
            elif of_weight is not None:
                of_weight[block.tokens] = gradient.T @ inputs
            if of_bias is not None:
                of_bias[block.tokens] = gradient.sum(0)
        of_hidden = None if of_hidden is None else of_hidden.to(hidden.dtype)
        return of_hidden, of_weight, of_bias, None, None


class _Softmax(NamedTuple):
    """A softmax over the vocabulary, and the gradients in what is made of it, each `(A,)`."""

    largest: torch.Tensor
    total: torch.Tensor
    entropy: torch.Tensor
    grad_log_prob: torch.Tensor
    grad_entropy: torch.Tensor
    of_entropy: bool

    def gradient(self, rows: Rows, block: _Block, scratch: _Scratch) -> torch.Tensor:
        """The gradient in the raw logits of a block, `(A, b)`, which may lie in scratch memory.

        `d log p_a / d z_j = 1[j = a] - p_j` and `d H / d z_j = -p_j (log p_j + H)`.
        """
        logits, slope = _logits(rows, block)
        part = _Part.of(logits, scratch)
        share = _powers(part.largest, self.largest) * part.total / self.total
        if self.of_entropy:
            log_probs = logits - (self.largest + self.total.log())[:, None]
            log_probs.clamp_min_(math.log(torch.finfo(logits.dtype).tiny))
            factors = log_probs.add_(self.entropy[:, None]).mul_(self.grad_entropy[:, None])
            factors.add_(self.grad_log_prob[:, None])
            gradient = factors.mul_(part.probs).mul_(-share[:, None])
        else:
            gradient = part.probs.mul_((-share * self.grad_log_prob)[:, None])
        at, places = _chosen(rows, block)
        gradient[at, places] += self.grad_log_prob[at]
        if isinstance(slope, torch.Tensor) or slope != 1.0:
            gradient = gradient * slope
        return gradient.to(block.weight.dtype)


def _as_multiplied(hidden: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Hidden states in the type of the products; autocast leaves float64 alone."""
    if rows.autocast_dtype is None or hidden.dtype == torch.float64:
        return hidden
    return hidden.to(rows.autocast_dtype)


def _add_product(to: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> None:
    """Adds a matrix product, whose sums over blocks are wider where its type is narrow."""
    if to.dtype == one.dtype:
        to.addmm_(one, other)
    else:
        to += one @ other

"""A Stable-Baselines3 actor-critic policy that is a pretrained causal language model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from llm_gym.files.owned import follow_umask
from llm_gym.files.ranges import check_numbers
from llm_gym.language_models.adapters import (
    add_adapter,
    lora_config,
    save_model,
    trainable_twin,
)
from llm_gym.language_models.architecture import decoder_of, text_config
from llm_gym.language_models.divergence import check_gradients, check_tensors
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.loading import load_causal_lm
from llm_gym.language_models.model_objects import ModelLike, named
from llm_gym.language_models.precision import settled_precision
from llm_gym.language_models.trained_types import refuse_step
from llm_gym.parallel import world
from llm_gym.policy.checks import CacheCheck
from llm_gym.policy.chunked_likelihood import (
    autocast,
    autocast_dtype,
    log_prob_and_entropy_of_hidden,
)
from llm_gym.policy.micro_batches import Observation, evaluate_in_parts
from llm_gym.policy.options import (
    check_critic,
    check_fits,
    check_loading,
    check_lora,
    check_memory,
    check_optimizer,
    check_options,
    check_spaces,
    checkpoint_layers,
    moments_of,
    naming_optimizer,
)
from llm_gym.policy.sampling import (
    EpisodeBatch,
    LanguageModelHead,
    inverse_cdf_sample,
    log_prob_and_entropy,
    most_probable,
    pack_support,
    truncated_support,
    unpack_support,
    whole_ids,
)
from llm_gym.policy.trunk import Trunk

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

VALUE_HEAD_FILE = "value_head.safetensors"
TRUNK = (
    "trunk"  # in its metadata: "critic" where it reads a transformer of its own, which is not kept
)


class TransformerActorCriticPolicy(ActorCriticPolicy):
    """Actor and critic on one transformer: language-model head and value head.

    The policy is `softmax(logits / temperature)` over the tokens that top-k and top-p keep, and
    every log-probability it reports is of that same distribution. Dropout is off always, in
    rollouts and in updates (otherwise the ratio of new to old probabilities is noise before
    anything was learnt), and the pretrained weights are what the checkpoint says:
    Stable-Baselines3's orthogonal initialisation never touches them.

    Callers see a stateless policy. Inside, an observation that extends what was read before costs
    one token (see `llm_gym.policy.trunk.Trunk`), and a batch of whole episodes
    (`EpisodeBatch`, as `llm_gym.EpisodeBuffer` yields) one pass.

    Args:
        observation_space: The text environment's `Dict` space.
        action_space: `Discrete(V)` with `V` the model's vocabulary.
        lr_schedule: Learning rate schedule, as in Stable-Baselines3.
        model: Name or path of a causal language model, or of a directory that
            `save_pretrained` wrote (then its value head is loaded too). Of a LoRA adapter the base
            is loaded, and frozen, and the adapter is trained further. A `PreTrainedModel` stands
            for what lies under its name, a `PeftModel` for its adapter
            (`llm_gym.language_models.model_objects`).
        lora: Freeze the model and train a new LoRA adapter instead: settings as those of
            `peft.LoraConfig`, e.g. `dict(r=16, lora_alpha=32)`, for all linear layers unless
            `target_modules` names some; or such a configuration. `None` trains the whole model.
        temperature: Divides the logits; > 0.
        top_k: Sample among the `k` most probable tokens; 0 is off.
        top_p: Sample from the nucleus of this probability; 1 is off.
        separate_critic: Give the critic a transformer of its own, started from the same weights.
            What is frozen, such as the base of an adapter, both have in common.
        detach_value: Keep the value loss's gradient out of a shared transformer.
        value_scale: Factor on the value head's output. Adam moves every parameter by about the
            learning rate, whatever the loss, so a factor of 10 is a learning rate ten times as high
            for a head that starts at zero while the transformer starts pretrained.
        mixed_precision: `"no"` or `"bf16"`: matrix products of the update in bfloat16, weights
            and everything else in float32. A matrix product is timed first
            (`llm_gym.language_models.precision`): where bfloat16 is slower, a warning says so, and
            `"auto"` is `"bf16"` only where it is faster. Reading the attribute settles it.
        dtype: Type of the transformer's weights: `"float32"`, whatever the file holds,
            `"bfloat16"`, `"float16"`, `"float64"`, or `"auto"` for the file's own. The value head
            stays in float32. An optimizer step on bfloat16 weights loses what is smaller than a
            256th of a weight; `mixed_precision="bf16"` does not. Weights in float16 answer, and
            are not trained, nor an adapter on them.
        attn_implementation: As in `transformers`, e.g. `"eager"` or `"sdpa"`; `None` leaves the
            choice to it.
        prefix_cache: `"auto"` compares decoding from the cache with plain passes at construction
            (`llm_gym.policy.checks`) and, where they differ, warns and recomputes the whole prefix
            at every token. True raises there; false recomputes always.
        shared_prompts: `"auto"` reads what episodes of a batch share once, where that pays and a
            small batch says that it is right (`llm_gym.policy.shared_prompts`); where it is wrong
            it warns and reads every episode whole. True raises there; false never shares.
        micro_batch_size: Sequences whose activations an update holds at a time; `None` holds all
            of a minibatch, whose gradient is the same. llm_gym's algorithms but PPO take it part by
            part; PPO, and algorithms of other libraries, have each part computed twice.
        gradient_checkpointing: Keep each layer's input alone for the backward pass, which computes
            the layers again.
        seed: Seed of the sampling generator; `None` draws one from PyTorch's global generator,
            which Stable-Baselines3's own `seed` fixes.
        optimizer_class: As in Stable-Baselines3; AdamW by default.
        optimizer_kwargs: As in Stable-Baselines3; without weight decay by default.
        use_sde: Not for discrete actions; accepted because Stable-Baselines3 passes it.

    Raises:
        ValueError: If a space, the vocabulary or an option does not fit, naming it.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        model: ModelLike = "",
        *,
        lora: Mapping[str, Any] | LoraConfig | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        separate_critic: bool = False,
        detach_value: bool = False,
        value_scale: float = 10.0,
        mixed_precision: str = "no",
        dtype: str = "float32",
        attn_implementation: str | None = None,
        prefix_cache: bool | str = "auto",
        shared_prompts: bool | str = "auto",
        micro_batch_size: int | None = None,
        gradient_checkpointing: bool = False,
        seed: int | None = None,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ) -> None:
        model = named(model)
        check_options(model, temperature, top_k, top_p, value_scale, mixed_precision, use_sde)
        if seed is not None:
            check_numbers(seed=seed)
        check_loading(dtype, attn_implementation, prefix_cache, shared_prompts)
        check_memory(micro_batch_size, gradient_checkpointing)
        check_critic(separate_critic, detach_value)
        check_optimizer(optimizer_class, optimizer_kwargs)
        if lora is not None:
            check_lora(lora, model)
        capacity = check_spaces(observation_space, action_space)
        if optimizer_kwargs is None and optimizer_class is torch.optim.AdamW:
            optimizer_kwargs = {"weight_decay": 0.0, "eps": 1e-8, "fused": True}
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            ortho_init=False,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )
        self.model_name, self.lora = str(model), lora
        self.temperature, self.top_k, self.top_p = float(temperature), int(top_k), float(top_p)
        self.separate_critic, self.detach_value = separate_critic, detach_value
        self.value_scale, self._precision = float(value_scale), mixed_precision
        self._precision_settled = mixed_precision == "no"
        self.prefix_cache, self.shared_prompts, self.seed = prefix_cache, shared_prompts, seed
        self.micro_batch_size = micro_batch_size
        self.gradient_checkpointing = gradient_checkpointing
        sampling_seed = int(torch.randint(2**62, ())) if seed is None else seed
        self.generator = torch.Generator().manual_seed(sampling_seed)

        self.dtype_name, self.attn_implementation = dtype, attn_implementation
        self.model = self._load(sampling_seed)
        check_fits(self.model, capacity, int(action_space.n))  # type: ignore[attr-defined]
        self.critic = decoder_of(trainable_twin(self.model)) if separate_critic else None
        self.head = LanguageModelHead(self.model)
        self.value_head = nn.Linear(self.head.width, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        if self.dtype == torch.float64:
            self.value_head.double()
        self._load_value_head(Path(resolve(self.model_name)))
        self.actor_trunk = self.critic_trunk = self._trunk(decoder_of(self.model))
        if self.critic is not None:
            self.critic_trunk = self._trunk(self.critic)
        self._cache_check = CacheCheck(
            text_config(self.model).model_type,
            self.actor_trunk,
            self.head,
            capacity,
            prefix_cache,
            self.device,
        )
        super().train(False)
        with naming_optimizer(optimizer_kwargs):
            self.optimizer = self.optimizer_class(
                [parameter for parameter in self.parameters() if parameter.requires_grad],
                lr=lr_schedule(1),  # type: ignore[call-arg]
                **self.optimizer_kwargs,
            )
        # Whatever algorithm takes the step: the weights stay numbers.
        coarse = any(parameter.dtype == torch.float16 for parameter in self.parameters())
        self.optimizer.register_step_pre_hook(refuse_step if coarse else check_gradients)

    def _load(self, seed: int) -> PreTrainedModel:
        model = load_causal_lm(
            self.model_name,
            dtype=self.dtype_name,
            attn_implementation=self.attn_implementation,
        )
        if self.lora is not None:
            config = lora_config(self.lora, model, moments=moments_of(self.optimizer_class))
            add_adapter(model, config, seed=seed)
        if self.gradient_checkpointing:
            checkpoint_layers(model)
        return model

    def _trunk(self, decoder: Any) -> Trunk:
        return Trunk(decoder, shared_prompts=self.shared_prompts)

    def _build(self, lr_schedule: Schedule) -> None:
        """Leaves out the parent's networks; the transformer takes their place."""

    # ------------------------------------------------------------------ the distribution

    def _hidden(
        self, obs: Observation, *, keep_others: bool = False, only_value: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of actor and critic, float `(A, H)` each."""
        trunks = [self.critic_trunk] if only_value else [self.actor_trunk, self.critic_trunk]
        hidden = [self._trunk_hidden(trunk, obs, keep_others) for trunk in dict.fromkeys(trunks)]
        return hidden[0], hidden[-1]

    def _trunk_hidden(self, trunk: Trunk, obs: Observation, keep_others: bool) -> torch.Tensor:
        if isinstance(obs, EpisodeBatch):
            with self._autocast():
                return trunk.of_episodes(obs).to(self.dtype)  # (A, H)
        lengths = obs["attention_mask"].sum(1, dtype=torch.int64)
        # Padding is never seen; zeros are inside any model's vocabulary, a pad id need not be.
        ids = whole_ids(obs["input_ids"]).where(obs["attention_mask"].bool(), 0)
        if not torch.is_grad_enabled() and not self._cache_check.before(lengths):
            trunk.use_cache = False  # for good: another thread may be about to read
        return trunk.last_hidden(ids, lengths, keep_others=keep_others)

    @property
    def mixed_precision(self) -> str:
        """`"no"` or `"bf16"`; of `"auto"`, what is the faster where the policy is."""
        if not self._precision_settled:
            asked, self._precision_settled = self._precision, True
            self._precision = settled_precision(asked, self.head.width, self.device)
            if asked == "auto":
                self._precision = world().of_first(self._precision)
        return self._precision

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.mixed_precision)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the transformer's parameters."""
        return next(self.model.parameters()).dtype

    def _logits(
        self, obs: Observation, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The policy's logits, float `(A, V)`, `-inf` where cut, and what was kept."""
        with self._autocast() if isinstance(obs, EpisodeBatch) else nullcontext():
            logits = self.head(features)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        support = self._support(obs, logits)
        if support is not None:
            logits = logits.masked_fill(~support, -torch.inf)
        return logits, support

    def _values(self, features: torch.Tensor) -> torch.Tensor:
        """Float `(A, H)` to float `(A, 1)`."""
        if self.detach_value and self.critic is None:
            features = features.detach()
        values = self.value_head(features.to(self.value_head.weight.dtype))
        return values if self.value_scale == 1.0 else values * self.value_scale

    def _support(self, obs: Observation, logits: torch.Tensor) -> torch.Tensor | None:
        """Where probabilities are not cut to zero, bool `(A, V)`; `None` is everywhere."""
        if not isinstance(obs, EpisodeBatch):
            return truncated_support(logits, self.top_k, self.top_p)
        support = self._stored_support(obs)
        return None if support is None else unpack_support(support, logits.shape[-1])

    def _stored_support(self, obs: EpisodeBatch) -> torch.Tensor | None:
        """What was kept when the actions were sampled, packed; `None` is everything."""
        if not self.truncates:
            return None
        if obs.support is None:
            raise ValueError(
                f"top_k={self.top_k}, top_p={self.top_p} need the tokens kept when each action was "
                "sampled, but the batch has no support; collect rollouts with this policy and "
                "llm_gym.EpisodeBuffer"
            )
        return obs.support

    @property
    def truncates(self) -> bool:
        """Whether top-k or top-p cuts the distribution."""
        return self.top_k > 0 or self.top_p < 1.0

    # ------------------------------------------------------------------ Stable-Baselines3's face

    def forward(  # type: ignore[override]
        self, obs: Observation, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Chooses actions.

        Args:
            obs: Observations of `N` environments, a dict of `(N, L)` tensors.
            deterministic: Take the most probable token.

        Returns:
            Actions int64 `(N,)`, values float `(N, 1)` and log-probabilities float `(N,)`.
            Under top-k or top-p the log-probabilities carry, as their attribute `support`, the
            packed set of tokens that was chosen from (see `EpisodeBatch`).
        """
        actor, critic = self._hidden(obs)
        logits, support = self._logits(obs, actor)
        probs = logits.softmax(-1)  # (N, V)
        actions = most_probable(probs) if deterministic else self._sample(probs)
        if torch.is_grad_enabled():
            log_prob, _ = log_prob_and_entropy(logits, actions)
        else:
            log_prob = probs.gather(-1, actions[:, None]).squeeze(-1).log()
        if support is not None:
            log_prob.support = pack_support(support)  # type: ignore[attr-defined]
        return actions, self._values(critic), log_prob

    def _sample(self, probs: torch.Tensor) -> torch.Tensor:
        if self.generator.device.type != probs.device.type:
            moved = torch.Generator(probs.device)
            self.generator = moved.manual_seed(self.generator.initial_seed())
        return inverse_cdf_sample(probs, self.generator)

    def evaluate_actions(  # type: ignore[override]
        self, obs: Observation, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values, log-probabilities and entropies under the present weights.

        Args:
            obs: An `EpisodeBatch` with `A` actions, or a dict of `(A, L)` observations.
            actions: `(A,)` token ids.

        Returns:
            Values `(A, 1)`, log-probabilities `(A,)` and entropies `(A,)` in nats.
        """
        self._check_evaluable(obs)
        tokens = actions.long().flatten()
        if self.micro_batch_size is None:
            return self._evaluate(obs, tokens)
        return evaluate_in_parts(self._evaluate, obs, tokens, self.micro_batch_size)

    def _evaluate(
        self, obs: Observation, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        actor, critic = self._hidden(obs)
        if isinstance(obs, EpisodeBatch):
            log_prob, entropy = log_prob_and_entropy_of_hidden(
                actor,
                self.head,
                tokens,
                temperature=self.temperature,
                support=self._stored_support(obs),
                autocast_dtype=autocast_dtype(self.mixed_precision),
            )
        else:
            log_prob, entropy = log_prob_and_entropy(self._logits(obs, actor)[0], tokens)
        return self._values(critic), log_prob, entropy

    def values_and_logits(self, obs: Observation) -> tuple[torch.Tensor, torch.Tensor]:
        """Values `(A, 1)` and logits `(A, V)`, `-inf` where cut, under the present weights.

        Args:
            obs: As in `evaluate_actions`.
        """
        self._check_evaluable(obs)
        actor, critic = self._hidden(obs)
        return self._values(critic), self._logits(obs, actor)[0]

    def _check_evaluable(self, obs: Observation) -> None:
        if self.truncates and not isinstance(obs, EpisodeBatch):
            raise ValueError(
                f"top_k={self.top_k}, top_p={self.top_p} cannot be evaluated on single "
                "transitions, because the tokens kept at sampling time are not stored with them; "
                "pass rollout_buffer_class=llm_gym.EpisodeBuffer"
            )

    def get_distribution(self, obs: Observation) -> CategoricalDistribution:  # type: ignore[override]
        """The distribution over the next token, for one observation a row."""
        actor, _ = self._hidden(obs)
        logits, _ = self._logits(obs, actor)
        distribution = CategoricalDistribution(logits.shape[-1])
        distribution.distribution = torch.distributions.Categorical(
            logits=logits, validate_args=False
        )
        return distribution

    def predict_values(self, obs: Observation) -> torch.Tensor:  # type: ignore[override]
        """Values of the observations, float `(N, 1)`."""
        _, critic = self._hidden(obs, keep_others=True, only_value=True)
        return self._values(critic)

    @torch.no_grad()
    def rescale_values(self, factor: float) -> None:
        """Multiplies all values by a factor, for returns in other units from now on.

        Args:
            factor: Greater than 0.
        """
        for parameter in self.value_head.parameters():
            parameter.mul_(factor)

    def _predict(self, observation: Observation, deterministic: bool = False) -> torch.Tensor:  # type: ignore[override]
        return self.forward(observation, deterministic)[0]

    def set_training_mode(self, mode: bool) -> None:
        """Keeps dropout off: the ratio must be 1 before the first step of an update."""
        self.train(mode)

    def train(self, mode: bool = True) -> TransformerActorCriticPolicy:
        """Like `set_training_mode`: the modules stay in evaluation mode.

        Going from one mode to the other does not forget what was read, but has the weights compared
        before it is used again: writes to `parameter.data`, which leave no trace, are safe between
        a rollout and the next.
        """
        if mode != self.training:
            for trunk in self._trunks():
                trunk.doubt()
        super().train(False)
        self.training = mode
        return self

    def forget(self) -> None:
        """Empties the prefix cache. Needed only after writing to `parameter.data` in place."""
        for trunk in self._trunks():
            trunk.forget()

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Leaves rows out of decoding: row `i` of the next observations goes on with row `rows[i]`.

        Without it observations of fewer rows are read from their beginning, and are as right.

        Args:
            rows: int64 `(n,)`, rows of the last observations.
        """
        for trunk in dict.fromkeys(self._trunks()):
            trunk.keep_rows(rows)

    def _trunks(self) -> list[Trunk]:
        return [self.actor_trunk, self.critic_trunk]

    # ------------------------------------------------------------------ saving and loading

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes a directory that `AutoModelForCausalLM.from_pretrained` loads.

        Of a policy with a LoRA adapter that is the adapter, which names its base. The value head
        lies beside it in `value_head.safetensors`; with a separate critic only its head is kept
        there, since the actor is what a language model is.

        Raises:
            DivergenceError: A parameter is not finite, by name; nothing is written.
        """
        check_tensors(dict(self.named_parameters()), "the parameter")
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        save_model(self.model, directory)
        # The factor is multiplied in: the file holds the linear map from hidden state to value.
        head = {
            n: (p.detach() * self.value_scale).cpu() for n, p in self.value_head.named_parameters()
        }
        # Read from other hidden states than the model's beside it, which is good to know.
        metadata = {TRUNK: "critic"} if self.separate_critic else None
        save_file(head, directory / VALUE_HEAD_FILE, metadata=metadata)
        follow_umask(directory)

    def _load_value_head(self, directory: Path) -> None:
        path = directory / VALUE_HEAD_FILE
        if not path.is_file():
            return
        try:
            head = {name: p / self.value_scale for name, p in load_file(path).items()}
            check_tensors(head, f"{path}:")
            self.value_head.load_state_dict(head)
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(
                f"{path} is not a value head for this model ({error}); "
                "delete it to start from a zero one"
            ) from error

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "model": self.model_name,
            "lora": self.lora,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "separate_critic": self.separate_critic,
            "detach_value": self.detach_value,
            "value_scale": self.value_scale,
            "mixed_precision": self._precision,
            "dtype": self.dtype_name,
            "attn_implementation": self.attn_implementation,
            "prefix_cache": self.prefix_cache,
            "shared_prompts": self.shared_prompts,
            "micro_batch_size": self.micro_batch_size,
            "gradient_checkpointing": self.gradient_checkpointing,
            "seed": self.seed,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

"""Algorithms with a name: choices of `PolicyGradient`'s arguments, and NLPO, which adds a mask.

Every argument can still be given; what a class says here is only what it is without.
"""

from __future__ import annotations

from typing import Any, ClassVar

from llm_gym.files.ranges import check_numbers
from llm_gym.learning.policy_gradient import PolicyGradient
from llm_gym.policy import TopPMaskedPolicy


class REINFORCE(PolicyGradient):
    """Rewards to go, less the batch's mean return (Williams, 1992).

    `advantage="reinforce"` is without a baseline, `"moving_average"` with one of the rollouts
    before. Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {"advantage": "batch_mean", "aggregation": "constant"}


class A2C(PolicyGradient):
    """Advantage actor-critic (Mnih et al., 2016, arXiv 1602.01783): one step a rollout.

    Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {"advantage": "gae", "gae_lambda": 1.0}


class ReinforcePlusPlus(PolicyGradient):
    """REINFORCE++ (Hu, 2025, arXiv 2501.03262): token rewards whitened over the batch, clipped.

    Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {"advantage": "reinforce_plus_plus", "loss": "clipped"}


class ReMax(PolicyGradient):
    """ReMax (Li et al., 2023, arXiv 2310.10505): the greedy answer's score is the baseline.

    The first row of each group decodes greedily and is not learnt from: `1 / group_size` of the
    decoding and of the scorer's calls. Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {"advantage": "remax", "aggregation": "constant"}


class RLOO(PolicyGradient):
    """REINFORCE leave-one-out (Ahmadian et al., 2024, arXiv 2402.14740).

    Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {"advantage": "rloo", "aggregation": "constant"}


class GRPO(PolicyGradient):
    """Group-relative policy optimisation (Shao et al., 2024, arXiv 2402.03300).

    Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {
        "advantage": "grpo",
        "loss": "clipped",
        "aggregation": "sequence_mean",
        "kl_in": "loss",
        "kl_estimator": "k3",
    }


class DrGRPO(PolicyGradient):
    """GRPO done right (Liu et al., 2025, arXiv 2503.20783): no division by deviation or length.

    The authors use no KL penalty; here it is in the reward, where its gradient is right.
    Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {"advantage": "dr_grpo", "loss": "clipped", "aggregation": "constant"}


class DAPO(PolicyGradient):
    """DAPO's clip-higher and token-level loss (Yu et al., 2025, arXiv 2503.14476); no KL penalty.

    Its dynamic sampling and its shaping of overlong answers are not part of this.
    Arguments: `PolicyGradient`.
    """

    choices: ClassVar = {
        "advantage": "grpo",
        "loss": "clipped",
        "clip_range": (0.2, 0.28),
        "aggregation": "token_mean",
        "kl_coef": 0.0,
    }


class NLPO(PolicyGradient):
    """Natural-language policy optimisation (Ramamurthy et al., 2022, arXiv 2210.01241).

    PPO that chooses among the most probable tokens of a *mask policy*, a copy of the policy that is
    refreshed every `mask_interval` rollouts (see `llm_gym.policy.TopPMaskedPolicy`).

    Args:
        policy: `"TransformerPolicy"` or a subclass of `llm_gym.policy.TopPMaskedPolicy`.
        env: See `PolicyGradient`.
        mask_top_p: Probability of the mask policy's nucleus.
        mask_interval: Rollouts between two refreshments of the mask policy.
        batch_size: See `PolicyGradient`.
        n_epochs: See `PolicyGradient`.
        policy_kwargs: See `PolicyGradient`.
        **settings: Further arguments of `PolicyGradient`.

    Raises:
        ValueError: If an argument does not fit, naming it.
    """

    policy_type: ClassVar = TopPMaskedPolicy
    policy_aliases: ClassVar = {"TransformerPolicy": TopPMaskedPolicy}
    choices: ClassVar = {"advantage": "gae", "loss": "clipped", "normalize_advantage": True}

    def __init__(
        self,
        policy: Any,
        env: Any,
        mask_top_p: float = 0.9,
        mask_interval: int = 10,
        batch_size: int | None = 512,
        n_epochs: int = 4,
        policy_kwargs: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        check_numbers(mask_top_p=mask_top_p, mask_interval=mask_interval)
        self.mask_interval = int(mask_interval)
        kwargs = {"mask_top_p": mask_top_p} | (policy_kwargs or {})
        super().__init__(
            policy,
            env,
            batch_size=batch_size,
            n_epochs=n_epochs,
            policy_kwargs=kwargs,
            **settings,
        )

    def train(self) -> None:
        """As the parent's; refreshes the mask policy when it is due."""
        super().train()
        assert isinstance(self.policy, TopPMaskedPolicy)
        if self._n_updates // self.n_epochs % self.mask_interval == 0:
            self.policy.refresh_mask()

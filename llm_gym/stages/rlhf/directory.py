"""The directory of a run of `rlhf`: what lies where, and what goes when a setting is put right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from llm_gym.files import atomic
from llm_gym.files.settings import defaults_of
from llm_gym.runs.directory import RunDirectory, digests_of, read_object
from llm_gym.stages.rlhf.settings import STAGES, RLHFConfig
from llm_gym.stages.train import TrainConfig

if TYPE_CHECKING:
    from llm_gym.feedback.preferences import Preference

_INPUTS = ("text", "pairs", "prompts")  # settings that name a file
# What may change between two calls: nothing is redone.
_FREE = ("enough_votes", "shown_prompts", "micro_batch_size", "gradient_checkpointing")
_SETTLED = ("pretrain", "sft", "compare")  # what people have voted on, and what led to it

_FIRST_USES: Mapping[str, str] = MappingProxyType(
    {
        name: stage
        for stage, names in {
            "sft": "generated_pairs praise_share flattery_bias sft_epochs sft_batch_size "
            "sft_learning_rate lora_rank lora_alpha lora_target_modules",
            "compare": "pairs_per_prompt raters simulated_raters votes_per_comparison rater_noise "
            "rater_lapse length_bias",
            "reward-model": "reward_epochs reward_batch_size reward_learning_rate",
            "ppo": "total_tokens num_envs batch_size n_epochs learning_rate kl_coef kl_target "
            "checkpoint_every look_every",
        }.items()
        for name in names.split()
    }
)


def first_use(name: str, config: RLHFConfig) -> str:
    """The stage that uses a setting first.

    Args:
        name: Of a field of the settings.
        config: All of them.
    """
    if name == "pairs" and config.prompts is not None:
        return "sft"  # else the prompts are those of the pairs
    return _FIRST_USES.get(name, STAGES[0])


class RLHFDirectory(RunDirectory):
    """The directory of a run of `rlhf`: where its stages keep what they make.

    Args:
        config: Settings of the run.
        output: The directory.

    Raises:
        FileNotFoundError: A file that the settings name is not there.
    """

    def __init__(self, config: RLHFConfig, output: str | Path) -> None:
        super().__init__(
            output,
            asdict(config),
            files=digests_of({name: getattr(config, name) for name in _INPUTS}),
            free=_FREE,
            steps=STAGES,
            uses={name: first_use(name, config) for name in vars(config)},
            settled=_SETTLED,
            defaults=defaults_of(RLHFConfig),
            command="rlhf",
        )
        self.config = config
        self.base = self.root / "base"  # the pre-trained model
        self.sft = self.root / "sft"  # the fine-tuned model
        self.store = self.root / "comparisons.db"  # comparisons and votes
        self.reward_model = self.root / "reward-model"
        self.ppo = self.root / "ppo"  # checkpoints, curves and samples
        self.model = self.root / "model"  # the model at the end of the road
        self.report = self.root / "report.html"
        self.summary = self.root / "summary.json"  # all figures; written last of all

    def is_settled(self, step: str) -> bool:
        """As the parent's; and the comparisons are, once people have begun to vote on them."""
        return super().is_settled(step) or (step == "compare" and self._has_votes_of_people())

    def discard(self, step: str) -> None:
        """Removes what a stage would go on with; models are trained anew and replaced whole."""
        atomic.remove(self.summary)  # which says that all is done
        if step == "compare":
            for path in self.root.glob(f"{self.store.name}*"):  # SQLite's own files beside it
                atomic.remove(path)
        elif step == "ppo":
            atomic.remove(self.ppo)

    def votes(self) -> list[Preference]:
        """The votes that stage 3 counted and that are still there.

        People may have gone on voting since; those votes are not among them.
        """
        from llm_gym.feedback.preferences import PreferenceStore

        record = self.record("compare")
        assert record is not None  # an earlier stage is finished
        with PreferenceStore(self.store) as store:
            return store.preferences(
                ties="both", conflicts="all", last_vote=record.figures["last_vote"]
            )

    def counted_votes(self) -> list[Preference]:
        """The votes that stage 3 counted, all of them.

        Raises:
            ValueError: Some were taken back.
        """
        from llm_gym.feedback.preferences.tally import number_of_votes

        record, rows = self.record("compare"), self.votes()
        assert record is not None  # an earlier stage is finished
        counted = record.figures["votes"]
        if number_of_votes(rows) != counted:
            raise ValueError(
                f"{counted - number_of_votes(rows)} of the {counted} votes that stage 3 counted "
                f"were taken back since; delete {self.record_path('compare')} to count again"
            )
        return rows

    def _has_votes_of_people(self) -> bool:
        from llm_gym.feedback.preferences import PreferenceStore

        if not self.store.exists() or not self.settings_path.exists():
            return False
        settings = read_object(self.settings_path).get("settings", {})
        if settings.get("raters") != "people":
            return False
        with PreferenceStore(self.store) as store:
            return next(store.votes(), None) is not None

    @property
    def first_model(self) -> str:
        """Name or directory of the model that is fine-tuned."""
        start_from = self.config.start_from
        return str(self.base) if start_from is None else start_from

    def prompts(self, split: str) -> Path:
        """The prompts of "train" or "held-out"."""
        return self.root / "prompts" / f"{split}.jsonl"

    def answers(self, stage: str) -> Path:
        """What the model of a stage wrote to the held-out prompts."""
        return self.root / "evaluations" / f"{stage}.json"


@contextmanager
def begun(output: str | Path, config: RLHFConfig) -> Iterator[RLHFDirectory]:
    """Opens the directory of a run: of a new one, or of one that goes on.

    Args:
        output: Its directory.
        config: Settings of the run.

    Yields:
        The directory, which no other process touches while the block runs.

    Raises:
        ValueError: A setting does not fit; the directory holds something else, or a run with other
            settings that cannot be put right any more; or another process is at work there.
        FileNotFoundError: A file that the settings name is not there.
    """
    config.config_of(TrainConfig).resolved()  # refuses what PPO would, before the first stage
    run = RLHFDirectory(config, output)
    with run.opened():
        run.begin(f"take those of {output} or choose another output")
        yield run

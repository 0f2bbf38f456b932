r"""Best-of-n on a language model: n answers to each held-out prompt, the best by the scorer kept.

Nothing is trained. This is what any training has to beat, and it says how much better the model's
own best answers are than its average ones: the room that imitation (raft_text.py) has. Of the n
answers, the best of every smaller number is estimated as well, without further samples.

    python agents/best_of_n_text.py --n 16
    python agents/best_of_n_text.py --env llm_gym/TextGeneration-v0 --model gpt2 \
        --eval-prompts prompts.txt --scorer my_scorer.py:score --n 8 --output runs/best-of-n.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llm_gym.files import atomic
from llm_gym.files.settings import argument_parser
from llm_gym.language_models.loading import quiet_libraries
from llm_gym.runs.best_of_n import sample_best_of_n
from llm_gym.stages.text_agent import TaskConfig, held_out_kwargs


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = argument_parser(__doc__, TaskConfig)
    parser.add_argument("--n", type=int, default=8, help="answers to each prompt [8]")
    parser.add_argument("--max-prompts", type=int, help="only the first so many prompts")
    parser.add_argument("--output", help="write every best answer and the curve to this .json file")
    options = parser.parse_args(argv)
    quiet_libraries()
    samples = sample_best_of_n(
        options.model,
        options.env,
        options.n,
        env_kwargs=held_out_kwargs(options),
        policy_kwargs={"temperature": options.temperature},
        max_prompts=options.max_prompts,
        num_envs=options.num_envs,
        seed=options.seed,
        device=options.device,
    )
    result = samples.to_dict()
    for point in result["curve"]:
        print("best of {n:>4}: {score:8.2f}   {low:.2f} to {high:.2f} (95 %)".format(**point))
    print(f"divergence from the model: at most {samples.kl_bound:.2f} nats")
    if options.output:
        atomic.write_json(options.output, result)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")

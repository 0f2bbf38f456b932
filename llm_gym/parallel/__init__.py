"""More than one process: `torchrun` starts them, `torch.distributed` connects them, we join them.

What a run must know of all its processes goes through one object, `world()`. In a process that
`torchrun` did not start it is a `World` of one, whose methods give back what they were given. So
code that wants a sum over all processes asks for it, and need not ask whether there are others.

    processes = llm_gym.parallel.world()
    env = gym.make_vec(..., shard=(processes.rank, processes.size))

Nothing waits for a process that has ended: see `llm_gym.parallel.watch`.
"""

from llm_gym.parallel.processes import World, number_started, rank_started, world

__all__ = ["World", "number_started", "rank_started", "world"]

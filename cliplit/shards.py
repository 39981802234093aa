"""The part of the work that this process does, if `torchrun` or `accelerate launch` started several."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True)
class Shard:
    """This process among all, and among those of this machine."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def here(cls) -> "Shard":
        """As the launcher says in the environment."""
        given = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")}
        if not given["MASTER_ADDR"] or not given["RANK"] or not given["WORLD_SIZE"]:
            return cls()
        return cls(int(given["RANK"]), int(given["WORLD_SIZE"]), int(given["LOCAL_RANK"] or 0))

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """Every n-th item."""
        return items[self.rank :: self.count]

    def device(self, name: str) -> str:
        """A GPU of its own for each process of a machine."""
        import torch

        if self.count > 1 and name == "auto" and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return name

    def gather(self, item: Any) -> list[Any]:
        """What every process has, in order of ranks; waits for all, for a launcher ends the others with the first."""
        if self.count == 1:
            return [item]
        from torch import distributed

        distributed.init_process_group("gloo", rank=self.rank, world_size=self.count, timeout=timedelta(days=7))
        items: list[Any] = [None] * self.count
        distributed.all_gather_object(items, item)
        distributed.destroy_process_group()
        return items

"""Which nodes fail jobs before these have begun, so that no more are sent there."""

from __future__ import annotations

import logging

_log = logging.getLogger("axsched")


class Nodes:
    """What the jobs of a session have shown about nodes.

    Args:
        avoids: False where the user has chosen nodes (``exclude``, ``nodelist``): then none is
            avoided.
    """

    def __init__(self, avoids: bool) -> None:
        self._avoids = avoids
        self._good: set[str] = set()
        self._failed: set[str] = set()
        self.avoided: set[str] = set()
        """Nodes that get no more jobs."""

    @property
    def any_good(self) -> bool:
        """True once a job has begun on a node that is not avoided."""
        return bool(self._good - self.avoided)

    def is_good(self, node: str) -> bool:
        """True for a node on which a job has begun."""
        return node in self._good

    def began(self, node: str) -> None:
        """A job has begun on a node."""
        self._good.add(node)

    def failed(self, node: str, why: str) -> bool:
        """A job has failed on a node before it began. Returns whether the node is to blame.

        It is not where set-ups fail on several nodes and nowhere a job has begun.
        """
        if not node or "[" in node or "," in node:
            return True  # of several nodes nobody knows which it was
        self._failed.add(node)
        blamed = self.any_good or len(self._failed) == 1
        if blamed and self._avoids and node not in self.avoided:
            self.avoided.add(node)
            _log.warning("Node %s gets no more jobs, one has failed before it began: %s", node, why)
        return blamed

    def forgive(self) -> None:
        """Avoid no node any more: without those that are avoided no job can run."""
        _log.warning("Without %s no job can run: all nodes get jobs again.", self.exclude())
        self.avoided.clear()

    def exclude(self) -> str:
        """Those that are avoided, as Slurm's options take them."""
        return ",".join(sorted(self.avoided))

"""Finds nodes that fail jobs before these begin, so that they get no more jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterable

_log = logging.getLogger("axsched")


class Nodes:
    """What the jobs of a session have shown about nodes.

    Args:
        avoids: False if the user chose nodes (``exclude``, ``nodelist``): then no node is avoided.
    """

    def __init__(self, avoids: bool) -> None:
        self._avoids = avoids
        self._good: set[str] = set()
        self._failed: set[str] = set()
        self.avoided: set[str] = set()
        """Nodes that get no more jobs."""
        self._forgiven = False

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

        It is not, if set-ups fail on several nodes and no job has begun on a node in use.
        """
        if not node or "[" in node or "," in node:
            return True  # with several nodes, it is unknown which one it was
        self._failed.add(node)
        blamed = self.any_good or len(self._failed) == 1
        if blamed and self._avoids and node not in self.avoided:
            self.avoided.add(node)
            _log.warning("Node %s gets no more jobs, one has failed before it began: %s", node, why)
        return blamed

    def forgive(self) -> None:
        """Stop avoiding nodes: without the avoided ones no job can run."""
        _log.warning("Without the avoided nodes no job can run: all nodes get jobs again.")
        self.avoided.clear()
        self._forgiven = True

    def exclude(self, also: Iterable[str] = ()) -> str:
        """The avoided nodes, in the form of Slurm's options.

        Args:
            also: nodes on which earlier attempts of a job failed.
        """
        single = {node for node in also if node and "[" not in node and "," not in node}
        wanted = set() if self._forgiven or not self._avoids else single
        return ",".join(sorted(self.avoided | wanted))

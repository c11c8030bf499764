"""``python -m axsched_core.testing.reattach``: a new process looks for the jobs of an old one.

Reads a description of the runner and of the requests from standard input; writes, as JSON, what
``axsched_reattach`` found: key -> the handle, "not submitted", or nothing if it cannot say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import attrs

from axsched_core.jobs import JobHandle, JobRequest, RunnerContext
from axsched_core.runners import discovery
from axsched_core.runners.session import RunnerSession
from axsched_core.testing.bench import RESULT_LIMIT


def main() -> None:
    """Run the module."""
    given = json.load(sys.stdin)
    session = RunnerSession(discovery.load(given["runner"]).make_runner(given["options"]))
    session.open(
        RunnerContext(
            run_id=given["run_id"],
            run_dir=Path(given["run_dir"]),
            wake=lambda key: None,
            monitoring_interval=0.1,
            max_result_bytes=RESULT_LIMIT,
        )
    )
    requests = [
        JobRequest(objective=None, **{**request, "folder": Path(request["folder"])})
        for request in given["requests"]
    ]
    found = {
        key: attrs.asdict(one) if isinstance(one, JobHandle) else "not submitted"
        for key, one in session.reattach(requests).items()
    }
    json.dump(found, sys.stdout)
    session.close(wait=False)


if __name__ == "__main__":
    main()

"""Watch a run, and wrap a runner's hooks, without changing the runner.

An *observer* receives every event. A *wrapper* runs around a hook of the runner: here one
records every submission (audit), and one keeps the run from filling the whole machine (quota).
Both are passed to the scheduler; a plugin does nothing just because it is installed.
"""

from __future__ import annotations

from ax import Client, RangeParameterConfig

from axsched_core import AxScheduler, hookimpl
from axsched_core.events import TrialEnded


class Watch:
    """An observer: prints how each trial has ended."""

    @hookimpl
    def axsched_on_event(self, event):
        match event:
            case TrialEnded(trial_index=index, state=state, results=results):
                print(f"trial {index}: {state.value} {results or ''}")


class Audit:
    """A wrapper: records the key of every submitted job."""

    def __init__(self):
        self.submitted = []

    @hookimpl(wrapper=True)
    def axsched_submit(self, requests):
        answers = yield  # the runner, and wrappers inside this one, do their work
        self.submitted += [request.key for request in requests]
        return answers


class Quota:
    """A wrapper: limits how many jobs start in one go."""

    def __init__(self, at_once):
        self.at_once = at_once

    @hookimpl(wrapper=True)
    def axsched_capacity(self):
        free = yield  # None: the runner does not say
        return self.at_once if free is None else min(free, self.at_once)


def main() -> None:
    client = Client()
    client.configure_experiment(
        name="plugins",
        parameters=[RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float")],
    )
    client.configure_optimization(objective="-loss")
    client.configure_generation_strategy(method="random_search")

    audit = Audit()
    scheduler = AxScheduler(
        client,
        "joblib",
        config={"progress": False},
        runner_options={"n_jobs": 4},
        plugins=[Watch(), audit, Quota(at_once=2)],
    )
    scheduler.set_objective_function(lambda x: (x - 0.3) ** 2)
    with scheduler:
        scheduler.run_optimization(max_trials=6)
    print(f"{len(audit.submitted)} jobs were submitted: {', '.join(audit.submitted)}")


if __name__ == "__main__":
    main()

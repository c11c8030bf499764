"""What the runner is called, what it can do, and what its users may set."""

from attrs import field, frozen
from attrs.validators import gt, matches_re
from axsched_core.jobs import RunnerInfo


@frozen
class RobotOptions:
    """What a user may set, by ``runner_options``."""

    url: str = field(validator=matches_re(r"https?://.+"))
    timeout: float = field(default=10.0, validator=gt(0))  # seconds, for each answer


INFO = RunnerInfo(
    name="robot",
    capabilities=["parameters", "reattach"],
    summary="the laboratory robot's job queue",
    options_class=RobotOptions,
)

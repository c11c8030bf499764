"""The entry point: axsched finds this module by the name "robot"."""

from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import RunnerInfo

from axsched_robot.info import INFO, RobotOptions
from axsched_robot.runner import RobotRunner


@hookimpl
def axsched_runner_info() -> RunnerInfo:
    return INFO


@hookimpl
def axsched_make_runner(options: RobotOptions) -> RobotRunner:
    return RobotRunner(options)

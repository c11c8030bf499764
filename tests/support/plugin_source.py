"""The source of a plugin that offers a runner; NAME and VERSION are to be replaced."""

A_RUNNER = """
    from attrs import field, frozen
    from attrs.validators import gt
    from axsched_core.hookspecs import hookimpl
    from axsched_core.jobs import RunnerInfo
    from support.toy import ToyRunner

    @frozen
    class Options:
        n_jobs: int = field(default=2, validator=gt(0))
        queue: str | None = None

    class Runner(ToyRunner):
        @hookimpl
        def axsched_runner_info(self):
            return axsched_runner_info()

    @hookimpl
    def axsched_runner_info():
        return RunnerInfo("NAME", ["parameters"], "for tests", Options, api_version=VERSION)

    @hookimpl
    def axsched_make_runner(options):
        runner = Runner()
        runner.options = options
        return runner
"""

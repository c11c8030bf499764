"""axsched runner: containers on a Docker engine, on this machine or another."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axsched_docker.options import ContainerOptions, DockerOptions
    from axsched_docker.runner import DockerRunner

__all__ = ["ContainerOptions", "DockerOptions", "DockerRunner"]


def __getattr__(name: str) -> Any:
    # Lazily, so that `axsched runners` need not load the docker SDK.
    if name == "DockerRunner":
        from axsched_docker.runner import DockerRunner

        return DockerRunner
    if name in ("ContainerOptions", "DockerOptions"):
        from axsched_docker import options

        return getattr(options, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

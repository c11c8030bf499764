from __future__ import annotations

from support.docker_fixtures import bench, containers, engine, make_bench, minor_version, proxy

__all__ = ["bench", "containers", "engine", "make_bench", "minor_version", "proxy"]

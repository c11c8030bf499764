#!/usr/bin/env bash
# Install what the tests in this folder need from the system (Debian), as root.
# Nothing of it has to run: the tests start their own servers in folders of their own.
set -euo pipefail

PACKAGES=(
    # Slurm, with accounting
    slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core
    # containers on the nodes of a cluster
    charliecloud-runtime
    # Docker and Podman engines, and what their images are made of
    docker.io podman catatonit runc busybox-static zstd
    # a database
    postgresql
)

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${PACKAGES[@]}"

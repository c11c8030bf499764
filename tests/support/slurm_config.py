"""The files of a private Slurm cluster: small, quick, and all in one folder."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.daemons import free_ports

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "freezer")
SCHEDULING = "sched_min_interval=0,batch_sched_delay=0,sched_interval=5,bf_interval=5"
"""So that a job begins within a second, where it is some three with Slurm's own values."""


def private_cgroups(folder: Path) -> list[Path]:
    """The cgroups (version 1) that are this cluster's own, so that two may have a node ``n1``."""
    name = f"axsched-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    return [CGROUPS / controller / name for controller in CONTROLLERS]


def make_cgroups(folder: Path) -> bool:
    """Make them, and a folder of links in which Slurm finds them; False where that cannot be."""
    links = folder / "cgroup"
    links.mkdir()
    for cgroup in private_cgroups(folder):
        if not (cgroup.parent / "cgroup.procs").exists():
            return False  # there is another version of cgroups, or none
        try:
            cgroup.mkdir(exist_ok=True)
        except OSError:
            return False
        (links / cgroup.parent.name).symlink_to(cgroup)
    return True


def remove_cgroups(folder: Path) -> None:
    for cgroup in private_cgroups(folder):
        for root, _, _ in os.walk(cgroup, topdown=False):
            try:
                os.rmdir(root)
            except OSError:
                continue  # a process in it is still dying; an empty cgroup does no harm


def write(
    folder: Path,
    *,
    accounting: bool,
    nodes: Sequence[str],
    cpus: int,
    memory: int,
    settings: Mapping[str, object],
    partitions: Sequence[str],
) -> tuple[bool, int]:
    """Write all files; return whether memory is bounded by cgroups, and the database's port."""
    user, host = getpass.getuser(), socket.gethostname().partition(".")[0]
    controller, dbd, database, *node_ports = free_ports(3 + len(nodes))
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    munge = {"AuthType": "auth/munge", "AuthInfo": f"socket={folder}/munge.sock"}
    cgroups = make_cgroups(folder)

    conf: dict[str, object] = {
        "ClusterName": "lab",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": controller,
        "SlurmUser": user,
        "SlurmdUser": user,
        **munge,
        "CredType": "cred/munge",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool" / "%n",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.%n.pid",
        "SlurmctldLogFile": folder / "log" / "slurmctld.log",
        "SlurmdLogFile": folder / "log" / "%n.log",
        "MailProg": "/bin/true",
        "MpiDefault": "none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "task=1",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "DefMemPerCPU": memory // cpus // 2,
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": SCHEDULING,
        "SlurmdParameters": "config_overrides",  # more CPUs and memory than this host has
        "ReturnToService": 2,
        "SlurmctldTimeout": 10,
        "SlurmdTimeout": 10,
        "KillWait": 2,
        "MaxArraySize": 10001,
        "MaxJobCount": 50000,
        "JobCompType": "jobcomp/none",
        "AccountingStorageType": "accounting_storage/none",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
    }
    if cgroups:
        conf |= {"ProctrackType": "proctrack/cgroup", "TaskPlugin": "task/cgroup"}
        _write(
            folder / "cgroup.conf",
            {
                "CgroupPlugin": "cgroup/v1",
                "CgroupMountpoint": folder / "cgroup",
                "CgroupAutomount": "no",
                "ConstrainRAMSpace": "yes",
            },
        )
    else:  # not both: slurmd does not start then
        conf |= {"JobAcctGatherParams": "OverMemoryKill"}
    if accounting:
        password = secrets.token_hex(12)
        conf |= {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "127.0.0.1",
            "AccountingStoragePort": dbd,
            "AccountingStoragePass": folder / "munge.sock",
        }
        dbd_conf = {
            **munge,
            "DbdHost": "localhost",
            "DbdAddr": "127.0.0.1",
            "DbdPort": dbd,
            "SlurmUser": user,
            "LogFile": folder / "log" / "slurmdbd.log",
            "PidFile": folder / "slurmdbd.pid",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "127.0.0.1",
            "StoragePort": database,
            "StorageUser": "slurm",
            "StoragePass": password,
            "StorageLoc": "slurm_acct_db",
            "CommitDelay": 0,
        }
        (folder / "slurmdbd.conf").touch(mode=0o600)
        _write(folder / "slurmdbd.conf", dbd_conf)
        (folder / "grant.sql").touch(mode=0o600)
        (folder / "grant.sql").write_text(
            "create database if not exists slurm_acct_db; "
            f"create user if not exists slurm@'127.0.0.1' identified by '{password}'; "
            "grant all on slurm_acct_db.* to slurm@'127.0.0.1'"
        )
    (folder / "state").mkdir()
    for name in nodes:
        (folder / "spool" / name).mkdir(parents=True)
    _write(
        folder / "slurm.conf",
        conf | dict(settings),
        *(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
            f"RealMemory={memory} State=UNKNOWN"
            for name, port in zip(nodes, node_ports, strict=True)
        ),
        *partitions,
    )
    return cgroups, database


def _write(path: Path, values: Mapping[str, object], *lines: str) -> None:
    path.write_text("\n".join([*(f"{k}={v}" for k, v in values.items()), *lines, ""]))

"""A private Slurm cluster on this host, made of Debian's packages, without systemd.

    with SlurmCluster(folder) as cluster:
        cluster.run("sbatch", "--wrap", "hostname")

All its files lie in the folder and its ports are its own, so that several can run side by side.
Its nodes are ``slurmd`` processes of this host, with as many CPUs as they say.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

import psutil

from support import missing_backends, slurm_config
from support.daemons import Daemons, environment, kill_all, marked
from support.waiting import wait_until

PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
}
ACCOUNTING_PROGRAMS = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
}
MAIN = "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
PATIENCE = 60.0
"""Seconds after which a server that does not come up is given up."""


def missing(accounting: bool = True) -> list[str]:
    """The Debian packages that are to be installed before a cluster can be started here."""
    return missing_backends.missing_packages(PROGRAMS | (ACCOUNTING_PROGRAMS if accounting else {}))


class SlurmCluster:
    """A cluster that runs until it is closed, or until the process that made it is gone.

    Args:
        folder: where all its files go; emptied of an earlier cluster.
        accounting: with ``slurmdbd`` and MariaDB, so that ``sacct`` answers.
        nodes: how many; they are called ``n1``, ``n2``, ...
        cpus: of each node, whatever this host has.
        memory: of each node, in MB.
        settings: further lines of ``slurm.conf``, or others instead of `slurm_config`'s.
        partitions: their lines in ``slurm.conf``.

    Attributes:
        env: what clients need in their environment: ``SLURM_CONF`` and ``PATH``.
        nodes: the nodes' names.
        cgroups: whether memory is bounded by cgroups, so that a job that takes too much is
            OUT_OF_MEMORY; else Slurm looks every second and kills (FAILED, JobLaunchFailure).
    """

    def __init__(
        self,
        folder: Path,
        accounting: bool = True,
        *,
        nodes: int = 3,
        cpus: int = 8,
        memory: int = 4000,
        settings: Mapping[str, object] | None = None,
        partitions: Sequence[str] = (MAIN,),
    ) -> None:
        self.folder = folder.resolve()
        self.accounting = accounting
        self.nodes = tuple(f"n{number + 1}" for number in range(nodes))
        if len(str(self.folder)) > 80:
            raise ValueError(f"{self.folder} is too long a name for a folder with Unix sockets.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._daemons = Daemons(self.folder)
        for entry in self.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (self.folder / "log").mkdir()
        self.cgroups, self._database_port = slurm_config.write(
            self.folder,
            accounting=accounting,
            nodes=self.nodes,
            cpus=cpus,
            memory=memory,
            settings=settings or {},
            partitions=partitions,
        )
        self.conf = self.folder / "slurm.conf"
        self.env = {"SLURM_CONF": str(self.conf), "PATH": missing_backends.path()}

    def __enter__(self) -> SlurmCluster:
        try:
            for name in self._servers():
                if name in self.nodes:
                    self._launch(name)  # is ready when the controller is there
                else:
                    self.start(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all servers and jobs; the folder and its logs stay."""
        self._daemons.close()
        kill_all(lambda: self._jobs())
        slurm_config.remove_cgroups(self.folder)

    # Clients

    def run(self, *command: str, timeout: float = PATIENCE) -> str:
        """Run a command of Slurm, or any other, as a client does; return what it prints."""
        done = self._client(*command, timeout=timeout)
        if done.returncode:
            raise RuntimeError(
                f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def sdiag_rpcs(self) -> dict[str, int]:
        """How many messages the controller has had since it came up, by type (those that
        servers send each other too); this question is none of them."""
        return _rpcs(self.run("sdiag"), but="REQUEST_STATS_INFO")

    def accounting_rpcs(self) -> dict[str, int]:
        """The same of ``slurmdbd``."""
        return _rpcs(self.run("sacctmgr", "show", "stats"), but="DBD_GET_STATS")

    def node_state(self, name: str) -> str:
        """As ``sinfo`` says it: ``idle``, ``mixed``, ``allocated``, ``down*``, ..."""
        return self.run("sinfo", "-h", "-n", name, "-o", "%T").split()[0]

    def has_saved(self, job_name: str) -> bool:
        """Whether a job is on the controller's disk (a controller that is killed forgets others,
        and gives their ids again)."""
        state = self.folder / "state" / "job_state"
        return state.exists() and job_name.encode() in state.read_bytes()

    # Servers: munged, mariadbd, slurmdbd, slurmctld, n1, n2, ...

    def start(self, name: str) -> None:
        """Start a server, and wait until it does its work."""
        began = datetime.now().replace(microsecond=0)
        self._launch(name)
        wait_until(lambda: self._is_ready(name, began), PATIENCE, f"{name} is ready")

    def stop(self, name: str) -> None:
        """End a server in good order, and wait until it has ended."""
        self.kill(name, signal.SIGTERM)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a server alone, and wait where it ends it; a node's jobs run on."""
        self._daemons.kill(name, number, PATIENCE)

    def runs(self, name: str) -> bool:
        return self._daemons.runs(name)

    def kill_node(self, name: str) -> None:
        """What happens when a node's power fails: all its processes are gone at once."""
        kill_all(lambda: [*marked(self.folder, name), *self._jobs(name)])
        self._daemons.kill(name)

    start_node = start

    def restore(self) -> None:
        """Bring back what a test has stopped or killed, and cancel what it has left."""
        for name in self._servers():
            if self.runs(name):
                self.kill(name, signal.SIGCONT)
            else:
                self.start(name)
        if self.run("squeue", "-h"):
            self.run("scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}")
            self.run("scancel", f"--user={getpass.getuser()}")
            wait_until(lambda: not self.run("squeue", "-h"), PATIENCE, "all jobs are cancelled")

    # What is within

    def _servers(self) -> list[str]:
        """All of them, in the order in which they need each other."""
        database = ["mariadbd", "slurmdbd"] if self.accounting else []
        return ["munged", *database, *self.nodes, "slurmctld"]

    def _jobs(self, node: str | None = None) -> Iterator[psutil.Process]:
        """The processes of jobs of this cluster, or of one node of it."""
        for process in psutil.process_iter():
            env = environment(process.pid)
            ours = env.get("SLURM_CONF") == str(self.conf) and "SLURM_JOB_ID" in env
            if ours and node in (None, env.get("SLURMD_NODENAME")):
                yield process

    def _environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH_"))}
        return clean | self.env

    def _client(self, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _answers(self, *command: str) -> str | None:
        """What a command prints, or None where it fails."""
        done = self._client(*command, timeout=PATIENCE)
        return None if done.returncode else done.stdout

    def _launch(self, name: str) -> None:
        command = self._command(name)
        program = shutil.which(command[0], path=self.env["PATH"])
        if program is None:
            raise FileNotFoundError(f"{command[0]}: {missing_backends.install_line(missing())}")
        self._daemons.start(name, [program, *command[1:]], self._environment())

    def _command(self, name: str) -> list[str]:
        folder = self.folder
        if name in self.nodes:
            return ["slurmd", "-D", "-N", name, "-f", str(self.conf)]
        if name == "slurmctld":
            return ["slurmctld", "-D", "-f", str(self.conf)]
        if name == "slurmdbd":
            return ["slurmdbd", "-D"]
        if name == "munged":
            files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid"}
            files |= {"seed-file": "munged.seed", "log-file": "log/munged.log"}
            return [
                *("munged", "--foreground", "--force", "--num-threads=4"),
                *(f"--{option}={folder / file}" for option, file in files.items()),
            ]
        if name == "mariadbd":
            self._make_database()
            return [
                *("mariadbd", *self._database_options()),
                f"--socket={folder}/mariadb.sock",
                f"--pid-file={folder}/mariadb.pid",
                f"--port={self._database_port}",
                *("--bind-address=127.0.0.1", "--skip-log-bin", "--skip-name-resolve"),
                *("--innodb-buffer-pool-size=128M", "--innodb-log-file-size=32M"),
                *("--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=2"),
            ]
        raise ValueError(f"There is no server {name!r} in this cluster.")

    def _database_options(self) -> list[str]:
        return ["--no-defaults", f"--datadir={self.folder}/db", f"--user={getpass.getuser()}"]

    def _make_database(self) -> None:
        if not (self.folder / "db").exists():
            self.run(
                *("mariadb-install-db", *self._database_options()),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            )

    def _is_ready(self, name: str, began: datetime) -> bool:
        if not self._daemons.runs(name):
            raise RuntimeError(f"{name} has ended: {self._daemons.output(name)}")
        if name == "munged":
            socket = f"--socket={self.folder}/munge.sock"
            return self._answers("munge", "-n", socket) is not None
        if name == "mariadbd":
            login = ("--no-defaults", "-uroot", f"--socket={self.folder}/mariadb.sock")
            grant = (self.folder / "grant.sql").read_text()
            return self._answers("mariadb", *login, "-e", grant) is not None
        if name == "slurmdbd":
            clusters = self._answers("sacctmgr", "-n", "list", "cluster", "format=cluster")
            if clusters is not None and "lab" not in clusters:
                self.run("sacctmgr", "--immediate", "--quiet", "add", "cluster", "lab")
            return clusters is not None
        if self._answers("scontrol", "ping") is None:
            return False
        if name == "slurmctld":
            return all([self._in_service(node) for node in self.nodes if self.runs(node)])
        return self._has_registered(name, began) and self._in_service(name)

    def _has_registered(self, node: str, began: datetime) -> bool:
        """Whether the controller knows of this life of a node; a dead one stays idle for long."""
        shown = self.run("scontrol", "show", "node", node)
        found = re.search(r"SlurmdStartTime=(\S+)", shown)
        return found is not None and found[1] != "None" and _time(found[1]) >= began

    def _in_service(self, node: str) -> bool:
        """Whether a node takes jobs; one that was drained when its controller died is resumed."""
        state = self.node_state(node)
        if state.startswith(("drain", "down")):
            self._answers("scontrol", "update", f"nodename={node}", "state=resume")
        return state in ("idle", "mixed", "allocated", "completing")


def _rpcs(shown: str, but: str) -> dict[str, int]:
    table = shown.partition("statistics by message type")[2].partition("statistics by user")[0]
    found = re.findall(r"^\s+(\w+)\s+\(\s*\d+\)\s+count:(\d+)", table, re.M)
    return {name: int(count) for name, count in found if name != but}


def _time(words: str) -> datetime:
    """As Slurm's commands show it: local, in seconds."""
    return datetime.fromisoformat(words)

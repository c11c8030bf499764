"""A stand-in for the robot and its job queue: a separate process, standard library only.

    python tests/queue_service.py --places 4 --seconds 1

prints its address. It speaks JSON over HTTP: POST {"method": ..., "arguments": {...}} calls one
of `API`; the answer is JSON (status 200), or why the call is refused (status 400). The robot
mixes red, yellow and blue (volumes; the default is 0), waits, and measures how far the colour is
from the target.

It ends when its standard input does, so it never outlives the test that started it. Tests
control jobs by the parameter ``do`` (hang, fail, late), and the queue by the path /control
(`CONTROLS`).
"""

import argparse
import json
import math
import queue
import socketserver
import sys
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

API = (
    "schedule_job_with_parameters",
    "get_job_status",
    "get_outcome_value_for_completed_job",
    "cancel_job",
    "find_job",
    "list_jobs",
    "get_free_places",
)
CONTROLS = ("set", "count_calls", "get_parameters", "get_most_open", "clear")
TARGET = {"red": 0.2, "yellow": 0.7, "blue": 0.4}


@dataclass
class Job:
    """A sample to be mixed and measured."""

    label: str
    parameters: dict
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    status: str = "STAGED"
    message: str = ""
    asked: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


class JobQueue:
    """The queue, and the arms of the robot: a thread for each place in the sample tray."""

    def __init__(self, places, seconds):
        self.places, self.seconds = places, seconds
        self.jobs = {}
        self.calls = self.most_open = 0
        self.dead = self.loses_answers = False
        self._staged = queue.SimpleQueue()
        self._lock = threading.Condition()
        for _ in range(places):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            job = self._staged.get()
            with self._lock:
                if job.status != "STAGED":
                    continue
                job.status = "RUNNING"
            do = job.parameters.get("do")
            stopped = job.stop.wait(None if do == "hang" else self.seconds)
            with self._lock:
                if stopped:
                    job.status = "ABANDONED"
                elif do == "fail":
                    job.status, job.message = "FAILED", "the needle is blocked"
                else:
                    job.status = "COMPLETED"
                self._lock.notify_all()

    # ---- the API -----------------------------------------------------------------------------

    def schedule_job_with_parameters(self, parameters, label):
        """Put a job into the queue; returns its id. Negative volumes are refused."""
        for colour in TARGET:
            if parameters.get(colour, 0) < 0:
                raise ValueError(f"{colour} is {parameters[colour]}: a volume is never negative")
        job = Job(label, parameters)
        with self._lock:
            self.jobs[job.id] = job
            self.most_open = max(self.most_open, len(self._open()))
        self._staged.put(job)
        return job.id

    def get_job_status(self, job_id):
        """The status and a message; null if there is no such job."""
        with self._lock:
            job = self.jobs.get(job_id)
            return job and {"status": job.status, "message": job.message}

    def get_outcome_value_for_completed_job(self, job_id):
        """The distance of the colours, with its standard error; null if it is not known."""
        with self._lock:
            job = self.jobs.get(job_id)
            if job is None or job.status != "COMPLETED":
                return None
            job.asked += 1
            if job.parameters.get("do") == "late" and job.asked < 3:
                return None
        mixed = [job.parameters.get(colour, 0) for colour in TARGET]
        return {"mean": math.dist(mixed, TARGET.values()), "sem": 0.01}

    def cancel_job(self, job_id, reason):
        """Stop a job; returns its status before that, null if there is no such job."""
        with self._lock:
            job = self.jobs.get(job_id)
            if job is None:
                return None
            before = job.status
            if before == "STAGED":
                job.status = "ABANDONED"
            if before in ("STAGED", "RUNNING"):
                job.message = reason
                job.stop.set()
            return before

    def find_job(self, label):
        """The id of the job with this label, null if there is none."""
        with self._lock:
            return next((job.id for job in self.jobs.values() if job.label == label), None)

    def list_jobs(self, prefix):
        """Label and status of all jobs with a label that begins with the prefix."""
        with self._lock:
            jobs = [job for job in self.jobs.values() if job.label.startswith(prefix)]
            return [[job.label, job.status] for job in jobs]

    def get_free_places(self):
        """Places in the tray that no job uses or waits for."""
        with self._lock:
            return max(0, self.places - len(self._open()))

    def _open(self):
        return [job for job in self.jobs.values() if job.status in ("STAGED", "RUNNING")]

    # ---- for tests ---------------------------------------------------------------------------

    def set(self, dead=False, loses_answers=False):
        """Do not answer at all; or take jobs, but lose the answer to the sender."""
        self.dead, self.loses_answers = dead, loses_answers

    def count_calls(self):
        """How many calls of the API there were."""
        return self.calls

    def get_parameters(self, job_id):
        """The parameters as they arrived here."""
        return self.jobs[job_id].parameters

    def get_most_open(self):
        """The most jobs that were staged or running at once."""
        return self.most_open

    def clear(self):
        """Work again, and stop all jobs; returns when every place is free."""
        self.set()
        with self._lock:
            running = [job.id for job in self._open()]
        for job_id in running:
            self.cancel_job(job_id, "cleared")
        with self._lock:
            self._lock.wait_for(lambda: not self._open())


class Handler(BaseHTTPRequestHandler):
    """One call of one client."""

    def do_POST(self):
        jobs = self.server.jobs
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, control = call["method"], self.path == "/control"
        jobs.calls += not control
        if jobs.dead and not control:
            return  # hangs up
        try:
            if method not in (CONTROLS if control else API):
                raise ValueError(f"there is no method {method!r}")
            status, answer = 200, json.dumps(getattr(jobs, method)(**call["arguments"]))
        except ValueError as error:
            status, answer = 400, str(error)
        if jobs.loses_answers and method == "schedule_job_with_parameters":
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *arguments):
        """Say nothing."""


class Server(socketserver.ThreadingTCPServer):
    """Listens on this machine only."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 100


def main():
    parser = argparse.ArgumentParser(description="A stand-in for the robot and its job queue.")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--places", type=int, default=8, help="in the sample tray")
    parser.add_argument("--seconds", type=float, default=0.02, help="that a sample takes")
    given = parser.parse_args()
    server = Server(("127.0.0.1", given.port), Handler)
    server.jobs = JobQueue(given.places, given.seconds)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

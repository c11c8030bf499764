"""What runs beside the objective, wherever that is: one file, standard library only."""

from pathlib import Path

WORKER_FILE = Path(__file__).with_name("axsched_worker.py")
"""The worker's file, here; each job's folder gets a copy of it."""

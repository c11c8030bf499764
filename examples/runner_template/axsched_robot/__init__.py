"""axsched runner: the laboratory robot's job queue."""

"""Keys that a user presses while a call runs."""

from __future__ import annotations

import os
import signal
import threading
import time


def press_ctrl_c(when: threading.Event | threading.Semaphore, times: int = 1, gap: float = 0.1):
    """Press Ctrl-C in the main thread, after something has happened."""

    def press():
        assert when.wait(10) if isinstance(when, threading.Event) else when.acquire(timeout=10)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(gap)  # the test needs this gap between two presses

    # A process that a shell started in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press)
    thread.start()
    return thread

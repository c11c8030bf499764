"""Keys that a user presses while a call is on the stack."""

from __future__ import annotations

import os
import signal
import threading
import time


def press_ctrl_c(when: threading.Event | threading.Semaphore, times: int = 1, gap: float = 0.1):
    """Press Ctrl-C in the main thread, once something has happened."""

    def press():
        assert when.wait(10) if isinstance(when, threading.Event) else when.acquire(timeout=10)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(gap)  # the gap between two presses is what is played here

    # Who was started in the background of a shell ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press)
    thread.start()
    return thread

"""What becomes of jobs and trials when the driver is interrupted, ends or forgets.

Each driver is a real process with the joblib runner; the optimizer is the tests' own.
"""

from __future__ import annotations

import time


def test_ctrl_c_cancels_the_jobs_and_says_how_to_go_on(driver):
    one = driver("""
        LONG = 100.0
        scheduler.set_objective_function(objective)
        try:
            scheduler.run_optimization(max_trials=5)
        except OptimizationInterrupted as stop:
            print("SAID", stop)
            print([(i, t.state.value) for i, t in scheduler.trials.items()])
            print([row["status"] for row in optimizer.rows.values()])
            LONG = 0.0
            scheduler.set_objective_function(objective)
            scheduler.finish()
            print([row["status"] for row in optimizer.rows.values()])
    """)
    one.wait_for_starts(2)
    started = time.monotonic()
    one.interrupt()
    out, err = one.end()
    assert time.monotonic() - started < 20
    lines = out.splitlines()
    assert lines[0].startswith(
        "SAID Interrupted: 0 trials have results, 2 were stopped and stay open, 3 have not begun"
    )
    assert "To go on: scheduler.finish(); in a new session: AxScheduler.resume(" in lines[0]
    assert "experiment.json" in lines[0]
    # The third was made in advance.
    assert lines[1] == "[(0, 'CANDIDATE'), (1, 'CANDIDATE'), (2, 'CANDIDATE')]"
    assert lines[2] == "['RUNNING', 'RUNNING', 'RUNNING']"
    assert lines[3] == str(["COMPLETED"] * 5)
    assert "Interrupted: cancelling the running jobs" in err
    assert one.process.returncode == 0


def test_an_uncaught_ctrl_c_ends_the_program_and_leaves_nothing(driver):
    one = driver("""
        LONG = 100.0
        scheduler.set_objective_function(objective)
        scheduler.run_optimization(max_trials=5)
    """)
    one.wait_for_starts(2)
    one.interrupt()
    _, err = one.end()
    assert "OptimizationInterrupted: Interrupted: 0 trials have results" in err
    assert one.process.returncode != 0
    assert one.left_over() == []


def test_the_experiment_of_an_interrupted_run_is_taken_up_in_a_new_session(driver, tmp_path):
    one = driver("""
        LONG = 100.0
        scheduler.set_objective_function(objective)
        scheduler.run_optimization(max_trials=5)
    """)
    one.wait_for_starts(2)
    one.interrupt()
    one.end()
    two = driver(f"""
        from pathlib import Path
        (saved,) = Path({str(one.out)!r}).glob("*/experiment.json")
        scheduler.load_experiment(saved)
        scheduler.set_objective_function(objective)
        scheduler.run_optimization(max_trials=3)
        print([row["status"] for row in scheduler.client.rows.values()])
    """)
    out, err = two.end()
    assert out == str(["COMPLETED"] * 6) + "\n", err  # one was made in advance


def test_a_program_that_ends_takes_its_jobs_with_it(driver):
    one = driver("""
        LONG = 100.0
        scheduler.set_objective_function(objective)
        for _ in range(2):
            scheduler.run_trial(scheduler.get_next_trial())
        deadline = time.monotonic() + 30
        while not os.path.exists(MARK) or len(open(MARK).readlines()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        print("ends")
    """)
    started = time.monotonic()
    out, err = one.end()
    assert out == "ends\n", err
    assert one.process.returncode == 0, err
    assert time.monotonic() - started < 40
    assert one.left_over() == []


def test_a_scheduler_that_is_forgotten_lets_its_jobs_go(driver):
    one = driver("""
        import gc
        LONG = 100.0
        scheduler.set_objective_function(objective)
        scheduler.run_trial(scheduler.get_next_trial())
        deadline = time.monotonic() + 30
        while not os.path.exists(MARK):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        folder = scheduler.trials[0].folder
        del scheduler
        gc.collect()
        while not (folder / "exit.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        print("cancelled")
    """)
    out, err = one.end()
    assert out == "cancelled\n", err


def test_ctrl_c_during_a_long_generation_waits_for_it_and_loses_nothing(driver):
    one = driver("""
        def slow(n):
            with open(MARK, "a") as file:
                file.write("asked\\n")
            time.sleep(1.0)
        optimizer.on_ask = slow
        scheduler.set_objective_function(objective)
        try:
            scheduler.run_optimization(max_trials=5)
        except OptimizationInterrupted as stop:
            print("SAID", stop)
        print(len(optimizer.rows), sorted(scheduler.trials))
    """)
    one.wait_for_starts(1)
    one.interrupt()
    out, err = one.end()
    assert "waiting for the candidate that is being generated" in err
    assert out.splitlines()[-1] == "3 [0, 1, 2]"

"""SIGTERM and SIGHUP, sent to real drivers: what becomes of jobs, trials and the program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from support.waiting import wait_until

ENDING = [signal.SIGTERM, signal.SIGHUP]

RUN = """
    scheduler.set_objective_function(waits)
    scheduler.run_optimization(max_trials=3)
"""
BETWEEN = """
    scheduler.set_objective_function(waits)
    for _ in range(2):
        scheduler.run_trial(scheduler.get_next_trial())
    print("between", flush=True)
    try:
        time.sleep(100)
    finally:
        print("finally", flush=True)
"""
RESUME = """
    scheduler = AxScheduler.resume({run_dir!r}, optimizer=ToyOptimizer())
    with scheduler:
        scheduler.finish()
    print([row["status"] for row in scheduler.client.rows.values()])
    print([trial.attempts for trial in scheduler.trials.values()])
"""


def finished(driver, run_dir):
    """Resume a run whose objective may end now, and say what became of its trials."""
    two = driver(RESUME.format(run_dir=str(run_dir)))
    two.go()
    out, err = two.end()
    assert two.process.returncode == 0, err
    statuses, attempts = out.splitlines()[-2:]
    return json.loads(statuses.replace("'", '"')), json.loads(attempts)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_ends_the_driver_cancels_the_jobs_and_the_run_can_go_on(driver, number):
    one = driver(RUN)
    one.wait_for_starts(2)
    one.process.send_signal(number)
    _, err = one.end()
    assert one.process.returncode == 128 + number, err
    assert f"{number.name}: cancelling the running jobs" in err
    assert f"{number.name}: 0 trials have results, 2 were stopped and stay open, 1 have not" in err
    assert f"AxScheduler.resume({str(one.run_dir())!r}).finish()" in err
    assert "Traceback" not in err
    assert one.left_over() == []
    assert (one.run_dir() / "experiment.json").exists()
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 3, [2, 2, 1])


@pytest.mark.parametrize("number", ENDING)
def test_jobs_that_are_to_be_left_run_on_after_the_signal_and_are_found_again(driver, number):
    one = driver(RUN, {"on_exit": "leave"})
    one.wait_for_starts(2)
    one.process.send_signal(number)
    _, err = one.end()
    assert one.process.returncode == 128 + number, err
    assert f"{number.name}: leaving the running jobs" in err
    assert one.left_over() != []
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 3, [1, 1, 1])
    assert one.starts() == 3


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_between_two_calls_ends_the_jobs_too(driver, number):
    one = driver(BETWEEN)
    one.wait_for_starts(2)
    assert one.process.stdout.readline() == "between\n"
    one.process.send_signal(number)
    out, err = one.end()
    assert one.process.returncode == 128 + number, err
    assert out == "finally\n"
    assert f"AxScheduler.resume({str(one.run_dir())!r}).finish()" in err
    assert one.left_over() == []
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 2, [2, 2])


def test_a_scheduler_that_goes_with_what_is_raised_says_how_to_go_on_too(driver):
    """It belongs to a function, which what is raised leaves before the program ends."""
    in_a_function = textwrap.indent(textwrap.dedent(BETWEEN), " " * 8)
    one = driver(f"""
    def main(scheduler):{in_a_function}
    mine = [scheduler]
    del scheduler
    main(mine.pop())
    """)
    one.wait_for_starts(2)
    assert one.process.stdout.readline() == "between\n"
    one.process.send_signal(signal.SIGTERM)
    _, err = one.end()
    assert one.process.returncode == 128 + signal.SIGTERM, err
    assert err.count(f"AxScheduler.resume({str(one.run_dir())!r}).finish()") == 1
    assert one.left_over() == []
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 2, [2, 2])


def test_jobs_are_told_to_stop_although_the_program_has_used_up_the_time(driver):
    one = driver("    timing.TERMINATION_GRACE = 0.0\n" + BETWEEN)
    one.wait_for_starts(2)
    assert one.process.stdout.readline() == "between\n"
    one.process.terminate()
    one.end()
    assert one.process.returncode == 143
    _, alive = psutil.wait_procs(one.left_over(), timeout=30)
    assert alive == []
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 2, [2, 2])


def test_jobs_that_got_the_same_signal_leave_their_trials_open(driver):
    # The thread that waits hears of the signal late, so that it depends on the one that works.
    one = driver("    timing.CTRL_C_LAG = 20.0\n" + RUN)
    one.wait_for_starts(2)
    for process in [one.process, *one.left_over()]:  # as systemd and Slurm do
        process.send_signal(signal.SIGTERM)
    _, err = one.end()
    assert one.process.returncode == 143, err
    assert "2 were stopped and stay open" in err
    assert one.left_over() == []
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 3, [2, 2, 1])


def test_a_candidate_that_is_being_generated_is_waited_for(driver):
    one = driver("""
        def slow(n):
            with open(MARK, "a") as file:
                file.write("asked\\n")
            time.sleep(1.0)
        optimizer.on_ask = slow
        scheduler.set_objective_function(waits)
        try:
            scheduler.run_optimization(max_trials=3)
        finally:
            print(len(optimizer.rows), sorted(scheduler.trials), flush=True)
    """)
    one.wait_for_starts(1)
    one.process.terminate()
    out, err = one.end()
    assert one.process.returncode == 143, err
    assert "waiting for the candidate that is being generated" in err
    assert out == "3 [0, 1, 2]\n"
    assert finished(driver, one.run_dir())[0] == ["COMPLETED"] * 3


def test_a_result_that_the_optimizer_was_not_told_in_time_is_no_job_that_runs_on(driver):
    one = driver("""
        def slow(outcomes):
            if outcomes:
                with open(MARK, "a") as file:
                    file.write("told\\n")
                time.sleep(1000)
        optimizer.on_tell = slow
        scheduler.set_objective_function(lambda parameters: 1.0)
        scheduler.run_optimization(max_trials=1)
    """)
    one.wait_for_starts(1)
    one.process.terminate()
    _, err = one.end()
    assert one.process.returncode == 143, err
    assert "1 trials have results, 0 were stopped and stay open, 0 have not begun" in err


def test_a_candidate_that_takes_too_long_does_not_hold_up_the_end(driver):
    one = driver("""
        def slow(n):
            if optimizer.rows:
                with open(MARK, "a") as file:
                    file.write("asked\\n")
                time.sleep(1000)
        optimizer.on_ask = slow
        scheduler.set_objective_function(waits)
        index = scheduler.get_next_trial()
        scheduler.run_trial(index)
        with scheduler:
            scheduler.run_optimization(max_trials=2)
    """)
    one.wait_for_starts(2)
    one.process.terminate()
    _, err = one.end()
    assert one.process.returncode == 143, err
    assert "The optimizer is not done; it is left behind" in err
    assert "no time left to save the experiment" in err
    assert f"AxScheduler.resume({str(one.run_dir())!r}).finish()" in err
    assert one.left_over() == []
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 3, [2, 1, 1])


STUBBORN = """
    timing.TERMINATION_GRACE, timing.TERMINATION_LIMIT = {grace}
    timing.SAME_SIGNAL = 0.0
    scheduler.set_objective_function(waits)
    scheduler.run_optimization(max_trials=1)
"""


def freeze(one):
    """Stop the supervisor of a driver's job, so that nothing that it is told has an effect."""
    (identity,) = one.run_dir().glob("jobs/*/pid.json")
    supervisor = psutil.Process(json.loads(identity.read_text())["pid"])
    supervisor.suspend()
    return supervisor


@pytest.mark.parametrize("again", [False, True])
def test_jobs_that_do_not_end_are_not_waited_for_after_a_limit_or_a_second_signal(driver, again):
    one = driver(STUBBORN.format(grace="100.0, 100.0" if again else "0.5, 1.0"))
    one.wait_for_starts(1)
    one.wait_for(lambda: list(one.run_dir().glob("jobs/*/pid.json")))
    supervisor = freeze(one)
    try:
        one.process.terminate()
        if again:
            one.wait_for(lambda: list(one.run_dir().glob("jobs/*/cancel")))
            one.process.terminate()
        _, err = one.end()
    finally:
        supervisor.resume()
    assert one.process.returncode == 143, err
    assert "0 were stopped and stay open, 1 have jobs that may run on" in err
    assert "could not be stopped" not in err  # which is said after ten seconds
    supervisor.wait(30)
    assert finished(driver, one.run_dir()) == (["COMPLETED"], [2])


def test_two_signals_at_once_count_as_one(driver):
    one = driver(RUN)
    one.wait_for_starts(2)
    one.process.send_signal(signal.SIGTERM)
    one.process.send_signal(signal.SIGHUP)
    _, err = one.end()
    assert one.process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGHUP)
    assert "2 were stopped and stay open, 1 have not begun" in err


def test_a_handler_of_the_users_is_called_and_stays(driver):
    one = driver("""
        def mine(number, frame):
            print("mine", number, flush=True)
            open(MARK + ".go", "w").close()
        signal.signal(signal.SIGTERM, mine)
        scheduler.set_objective_function(waits)
        scheduler.run_optimization(max_trials=3)
        scheduler.run_trial(scheduler.get_next_trial())
        assert signal.getsignal(signal.SIGTERM) is mine
        print([row["status"] for row in optimizer.rows.values()][:3])
    """)
    one.wait_for_starts(2)
    one.process.terminate()
    out, err = one.end()
    assert one.process.returncode == 0, err
    assert out == f"mine 15\n{['COMPLETED'] * 3}\n"


def test_a_handler_of_the_users_that_ends_the_program_takes_the_jobs_with_it(driver):
    one = driver("    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + RUN)
    one.wait_for_starts(2)
    one.process.terminate()
    one.end()
    assert one.process.returncode == 7
    assert one.left_over() == []


def test_the_default_action_is_put_back_when_no_job_is_on_the_way(driver):
    one = driver("""
        def now():
            print([signal.getsignal(n) == signal.SIG_DFL for n in (signal.SIGTERM, signal.SIGHUP)])
        now()
        scheduler.set_objective_function(objective)
        scheduler.run_optimization(max_trials=3)
        now()
        scheduler.run_trial(scheduler.get_next_trial())
        now()
        scheduler.wait_for_completed_trials()
        now()
        scheduler.run_trial(scheduler.get_next_trial())
        scheduler.close()
        now()
    """)
    out, err = one.end()
    assert out.splitlines() == [str([x, x]) for x in (True, True, False, True, True)], err


def test_a_scheduler_in_a_thread_leaves_the_signals_alone(driver):
    one = driver("""
        import threading
        scheduler.set_objective_function(waits)
        work = threading.Thread(target=scheduler.run_optimization, args=(3,))
        work.start()
        while not os.path.exists(MARK):
            time.sleep(0.02)
        print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, flush=True)
        work.join()
    """)
    one.wait_for_starts(2)
    assert one.process.stdout.readline() == "True\n"
    one.process.terminate()
    one.end()
    assert one.process.returncode == -signal.SIGTERM
    one.go()  # the jobs run on, as after any death of a driver


def test_a_hangup_that_nohup_ignores_stays_ignored(driver):
    one = driver(RUN, before=["nohup"])
    one.wait_for_starts(2)
    one.process.send_signal(signal.SIGHUP)
    one.go()
    _, err = one.end()
    assert one.process.returncode == 0, err
    assert "SIGHUP" not in err


def test_who_catches_what_is_raised_may_go_on(driver):
    one = driver("""
        scheduler.set_objective_function(waits)
        try:
            scheduler.run_optimization(max_trials=3)
        except OptimizationTerminated as stop:
            print(stop.code, stop)
        open(MARK + ".go", "w").close()
        scheduler.finish()
        print([row["status"] for row in optimizer.rows.values()])
    """)
    one.wait_for_starts(2)
    one.process.terminate()
    out, err = one.end()
    assert one.process.returncode == 0, err
    said, statuses = out.splitlines()
    assert said.startswith("143 SIGTERM: 0 trials have results, 2 were stopped and stay open")
    assert statuses == str(["COMPLETED"] * 3)


def test_who_catches_it_may_save_the_experiment_although_the_time_is_over(driver):
    one = driver("""
        scheduler.set_objective_function(waits)
        try:
            scheduler.run_optimization(max_trials=3)
        except OptimizationTerminated:
            timing.CTRL_C_LAG, timing.TERMINATION_LIMIT = 20.0, -1000.0
        scheduler.save_experiment(MARK + ".json")
        print(os.path.exists(MARK + ".json"))
    """)
    one.wait_for_starts(2)
    one.process.terminate()
    out, err = one.end()
    assert out == "True\n", err


def test_a_program_that_goes_on_after_ctrl_c_is_ended_by_a_signal(driver):
    one = driver("""
        scheduler.set_objective_function(waits)
        while True:
            try:
                scheduler.finish() if scheduler.trials else scheduler.run_optimization(3)
            except KeyboardInterrupt:
                continue
    """)
    one.wait_for_starts(2)
    one.process.terminate()
    one.end()
    assert one.process.returncode == 143
    assert one.left_over() == []


@pytest.mark.parametrize("where", ["in a call", "between two calls"])
def test_a_child_that_the_driver_has_forked_dies_of_the_signal_as_ever(driver, where):
    one = driver(f"""
        import threading
        def fork():
            child = os.fork()
            if child == 0:
                while True:
                    time.sleep(1)
            os.kill(child, signal.SIGTERM)
            print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
            open(MARK + ".go", "w").close()
        def fork_when_it_runs():
            while not os.path.exists(MARK):
                time.sleep(0.02)
            fork()
        scheduler.set_objective_function(waits)
        if {where == "in a call"}:
            threading.Thread(target=fork_when_it_runs).start()
            scheduler.run_optimization(max_trials=1)
        else:
            scheduler.run_trial(scheduler.get_next_trial())
            fork_when_it_runs()
            scheduler.wait_for_completed_trials()
    """)
    out, err = one.end()
    assert (out, one.process.returncode) == ("15\n", 0), err


def test_a_closed_terminal_ends_the_driver_in_good_order(driver):
    terminal, ours = os.openpty()
    one = driver(
        """
        import fcntl, termios
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        scheduler.set_objective_function(waits)
        scheduler.run_optimization(max_trials=3)
        """,
        {"progress": True},
        stdin=ours,
        stdout=ours,
        stderr=ours,
    )
    os.close(ours)
    one.wait_for_starts(2)
    os.close(terminal)
    one.process.wait(60)
    assert one.process.returncode == 129
    assert one.left_over() == []
    assert (one.run_dir() / "experiment.json").exists()
    assert finished(driver, one.run_dir()) == (["COMPLETED"] * 3, [2, 2, 1])


def can_be_pid_1():
    tried = subprocess.run(["unshare", "-p", "-f", "--mount-proc", "true"], capture_output=True)
    return tried.returncode == 0


@pytest.mark.skipif(not can_be_pid_1(), reason="needs a pid namespace of its own (root)")
@pytest.mark.parametrize("body", [RUN, BETWEEN])
def test_a_driver_that_is_process_1_of_a_container_ends_in_good_order(driver, body):
    one = driver(body, before=["unshare", "-p", "-f", "--mount-proc"])
    one.wait_for_starts(2)
    if body is BETWEEN:
        assert one.process.stdout.readline() == "between\n"
    (first,) = psutil.Process(one.process.pid).children()
    first.terminate()
    _, err = one.end()
    assert one.process.returncode == 143, err
    trials = 3 if body is RUN else 2
    assert finished(driver, one.run_dir())[0] == ["COMPLETED"] * trials


def catches(pid: int, number: int) -> bool:
    """Say whether a process has a handler for a signal."""
    (line,) = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in x]
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def test_the_resume_command_ends_in_good_order_too(driver, tmp_path: Path):
    script = tmp_path / "waits.sh"
    mark = tmp_path / "mark"
    script.write_text(
        f"echo start >> {mark}; while [ ! -e {mark}.go ]; do sleep 0.05; done\n"
        'echo \'{"loss": 4}\' > "$AXSCHED_RESULT_FILE"\n'
    )
    one = driver(f"""
        from ax import Client, RangeParameterConfig
        client = Client(random_seed=1)
        client.configure_experiment(
            parameters=[RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")]
        )
        client.configure_optimization("-loss")
        scheduler.close()
        config = {{"job_output_dir": {str(tmp_path / "out")!r}, "progress": False}}
        scheduler = AxScheduler(client, "joblib", config, {{"n_jobs": 2}})
        scheduler.set_script_objective({str(script)!r})
        scheduler.run_optimization(max_trials=2)
    """)
    one.wait_for_starts(2)
    one.process.kill()
    one.end()
    command = [str(Path(sys.executable).with_name("axsched")), "resume", str(one.run_dir())]
    again = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: catches(again.pid, signal.SIGTERM))
        again.terminate()
        _, err = again.communicate(timeout=60)
    finally:
        again.kill()
    assert again.returncode == 143, err
    assert "stay open" in err
    assert one.left_over() == []

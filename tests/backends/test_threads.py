"""Threads and forked processes; the long form of the first test with ANYNET_LONG_TESTS=1."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from anynet_backends import threads
from anynet_backends.threads import PerThread, fork_safe_lock, once

SCRIPT = Path(__file__).with_name("cold_threads.py")
LONG = os.environ.get("ANYNET_LONG_TESTS") == "1"
PROCESSES = 30 if LONG else 6


def python(*args, **env):
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=300, env={**os.environ, **env}
    )


def test_cold_threads_compute_what_one_does(tmp_path):
    """Eight threads that use everything for the first time at once, with empty and with full caches: no crash, the same bits."""
    seeds = range(3 if LONG else 1)
    alone = {
        seed: python(SCRIPT, str(seed), "0", ANYNET_CACHE=str(tmp_path / "alone")).stdout for seed in seeds
    }
    assert all(len(text.splitlines()) == 8 and "Error" not in text for text in alone.values())
    for i in range(PROCESSES):
        seed = i % len(seeds)
        folder = tmp_path / ("full" if i % 2 else f"cold{i}")
        done = python(SCRIPT, str(seed), "8", ANYNET_CACHE=str(folder), PYTHONFAULTHANDLER="1")
        assert (done.returncode, done.stdout) == (0, alone[seed]), done.stderr


def test_once_is_once(in_threads):
    calls = []

    @once
    def build(key):
        calls.append(key)
        time.sleep(0.02)
        return object()

    found = []
    in_threads(*[lambda: found.append((build(1), build(2)))] * 4)
    assert sorted(calls) == [1, 2]
    assert len(set(found)) == 1


def test_once_may_ask_for_others_and_tries_again_after_an_error():
    tries = []

    @once
    def inner():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        return 5

    @once
    def outer():
        return inner() + 1

    with pytest.raises(ValueError, match="not yet"):
        outer()
    assert outer() == outer() == 6
    assert len(tries) == 2


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def in_child(function):
    """Whether a function gives something true in a forked process, within ten seconds."""
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = bool(function())
        finally:
            os._exit(0 if good else 1)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_locks_and_stacks_of_other_threads_are_not_there_in_a_forked_process():
    lock, mine = fork_safe_lock(), fork_safe_lock()
    stack = PerThread()
    stack.append("here")
    inside, leave = threading.Event(), threading.Event()

    def other():
        stack.append("there")
        with lock:
            inside.set()
            leave.wait()
        stack.pop()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with mine:
        assert in_child(lambda: lock.acquire(timeout=5) and mine._is_owned() and list(stack) == ["here"])
    assert len(stack) == 2
    leave.set()
    thread.join()
    assert list(stack) == ["here"]


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_process_is_forked_when_nobody_builds():
    building, at_once = threading.Event(), []

    def build():
        with threads.BUILDING:
            building.set()
            time.sleep(0.2)
            at_once.append("built")

    thread = threading.Thread(target=build)
    thread.start()
    building.wait()
    assert in_child(lambda: at_once == ["built"] and threads.BUILDING.acquire(timeout=5))
    thread.join()
    with threads.BUILDING:
        assert in_child(lambda: threads.BUILDING._is_owned())

"""Threads and forked processes; the long form of the first test with ANYNET_LONG_TESTS=1."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import anynet as an
from anynet_backends import concurrency
from anynet_backends.concurrency import ThreadStack, fork_safe_lock, once, set_aside, this_thread
from anynet_backends.meta_backend import MetaBackend, observing

# What each thread goes on doing while others fork (`without_products`), or the process ends. A lock of OpenBLAS's, `alloc_lock`, stays
# taken in a child that is forked while another thread holds it, with NumPy alone as well: beside forks no thread is in a product.
BUSY = """
import os, sys, threading, time
import numpy as np, anynet as an
from anynet import nn, optim
sys.setswitchinterval(1e-5)

def some(n):
    net = nn.Sequential(nn.Linear(6, 5 + n % 37), nn.Tanh(), nn.Linear(5 + n % 37, 3)); o = optim.Adam(net.parameters())
    f = an.compile(lambda x: an.sum(an.exp(net(x)) * x.shape[0]))
    for _ in range(30):
        x = an.ones((3 + n % 5, 6)); o.zero_grad(); an.mean(net(x) ** 2).backward(); o.step(); f(x)
    nn.Conv2d(1, 3, 3)(an.zeros((2, 1, 8 + n % 9, 8))); nn.LSTM(4, 50)(an.ones((30, 2, 4)))

def without_products(n):
    w = nn.Parameter(an.ones(5 + n % 37)); o = optim.Adam([w]); net = nn.Sequential(nn.Tanh(), nn.Softmax(-1))
    f = an.compile(lambda x: an.max(an.exp(net(x * w)) * x.shape[0]))
    for _ in range(30):
        x = an.ones((3 + n % 5, 5 + n % 37)); o.zero_grad(); an.sum(net(x * w) ** 2).backward(); o.step(); f(x)
    nn.MaxPool2d(2)(an.zeros((2, 1, 8 + n % 9, 8))); nn.Embedding(9, 4)(an.asarray([n % 9, 2]))

def busy(n, work):
    while True:
        n += 1
        work(n)

def start(threads, work=some):
    for k in range(threads):
        threading.Thread(target=busy, args=(k, work), daemon=True).start()
"""
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
    stack = ThreadStack("forked_test")
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
        with concurrency.BUILD_LOCK:
            building.set()
            time.sleep(0.2)
            at_once.append("built")

    thread = threading.Thread(target=build)
    thread.start()
    building.wait()
    assert in_child(lambda: at_once == ["built"] and concurrency.BUILD_LOCK.acquire(timeout=5))
    thread.join()
    with concurrency.BUILD_LOCK:
        assert in_child(lambda: concurrency.BUILD_LOCK._is_owned())


@forks
def test_processes_are_forked_while_threads_compile(tmp_path):
    code = (
        BUSY
        + """
start(2, without_products)
for i in range(COUNT):
    time.sleep(0.01 * i)
    child = os.fork()
    if child == 0:
        some(100 + i)
        os._exit(0)
    end = time.monotonic() + 60
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.01)
        if time.monotonic() > end:
            os.kill(child, 6)
    print(done[1])
"""
    )
    count = 30 if LONG else 5
    done = python("-c", code.replace("COUNT", str(count)), ANYNET_CACHE=str(tmp_path), PYTHONFAULTHANDLER="1")
    assert done.stdout.split() == ["0"] * count, done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_of_processes_beside_threads(tmp_path, method):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    (tmp_path / "pool.py").write_text(
        BUSY
        + f"""
import multiprocessing

def work(n):
    some(n)
    return n

if __name__ == "__main__":
    start(1, without_products)
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(sum(pool.map(work, range(4))))
"""
    )
    done = python(
        "-W", "ignore", str(tmp_path / "pool.py"), ANYNET_CACHE=str(tmp_path), PYTHONFAULTHANDLER="1"
    )
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr


def test_the_interpreter_ends_when_nobody_builds():
    """LLVM ends the process where it is taken down while a thread is in it."""
    code = """
import threading, time
from anynet_backends.concurrency import BUILD_LOCK
begun = threading.Event()

def build():
    with BUILD_LOCK:
        begun.set()
        time.sleep(0.3)
        print("built", flush=True)

threading.Thread(target=build, daemon=True).start()
begun.wait()
"""
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, "built\n"), done.stderr


def test_the_interpreter_ends_while_threads_run(tmp_path):
    """Code and what it reads are not freed under threads that nobody waits for."""
    for i in range(20 if LONG else 4):
        code = BUSY + f"start(4)\ntime.sleep({0.05 + 0.1 * i})\nsome(3)"
        done = python("-c", code, ANYNET_CACHE=str(tmp_path / str(i % 2)), PYTHONFAULTHANDLER="1")
        assert done.returncode == 0, done.stderr


def test_without_the_gil_there_is_no_machine_code(monkeypatch):
    """Simulated: built-in functions of machine code share memory, which the lock guards, and read objects as they lie with it."""
    code = """
import sysconfig
known = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: 1 if name == "Py_GIL_DISABLED" else known(name)
import anynet as an
from anynet import nn, optim
from anynet_backends import concurrency
from anynet_backends.jit import availability, compiler, native_call, native_function
compiler.Compiler = native_function.native_function = native_call.DispatchTable = None
assert not concurrency.has_gil() and not availability.available() and not native_call.available()
net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)); o = optim.Adam(net.parameters())
f = an.compile(lambda x: an.sum(net(x)))
for _ in range(40):
    o.zero_grad(); an.mean(net(an.ones((3, 4))) ** 2).backward(); o.step(); f(an.ones((3, 4)))
nn.LSTM(4, 8)(an.ones((5, 2, 4))); nn.Conv2d(1, 2, 3)(an.ones((1, 1, 8, 8)))
from anynet.cli.commands.doctor import _speed
print(_speed())
"""
    monkeypatch.delenv("ANYNET_NUMBA", raising=False)
    done = python("-W", "error", "-c", code)
    assert "machine code" in done.stdout, done.stderr
    assert "this Python is free-threaded" in done.stdout


def test_in_a_free_threaded_python():
    if concurrency.has_gil():
        pytest.skip("this Python has a global interpreter lock")
    from anynet_backends.jit import availability, native_call

    assert not availability.available()
    assert not native_call.available()


def test_one_object_holds_the_stacks_and_modes_of_a_thread():
    stack, other_stack = ThreadStack("tested"), ThreadStack("tested_too")
    stack.append(1)
    other_stack.append(2)
    seen = {}

    def other():
        with an.no_grad():
            stack.append(3)
            seen.update({k: list(v) if isinstance(v, list) else v for k, v in vars(this_thread).items()})
            stack.pop()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == {"tested": [3], "recording": False}
    assert this_thread.recording
    assert vars(this_thread)["tested"] == [1]
    with set_aside(stack, other_stack):
        assert (stack.own, other_stack.own) == ([], [])
    assert (stack.own, other_stack.own) == ([1], [2])
    assert (stack.pop(), list(stack), other_stack.pop()) == (1, [], 2)


@pytest.mark.parametrize("name", ["recording", "interceptors"])
def test_the_name_of_a_stack_must_be_new(name):
    with pytest.raises(ValueError, match=f"must be new, got '{name}'"):
        ThreadStack(name)


def test_functions_without_values_are_observed_in_their_thread_alone():
    seen = []
    xp = MetaBackend()
    x = xp.zeros((3,))
    with observing(lambda name, *_: seen.append(name)):
        thread = threading.Thread(target=xp.exp, args=(x,))
        thread.start()
        thread.join()
        xp.sin(x)
    assert seen == ["sin"]

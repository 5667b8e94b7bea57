"""Processes with a GPU each, joined by MPI or TCP: sums by NCCL, on the devices."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "distributed"))

from launching import LAUNCHERS, PROGRAMS, command, launch

from anynet.distributed import CommunicatorGroup, NCCLGroup, SingleProcess, on_device
from anynet.distributed.nccl import _problem

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")


@pytest.fixture(params=LAUNCHERS)
def by(request):
    """What starts the processes."""
    return request.param


def devices(n):
    """Skip where there are fewer."""
    if cupy.cuda.runtime.getDeviceCount() < n:
        pytest.skip(f"needs {n} devices of the CUDA emulator (run --devices {n})")
    command(n)


def test_calls(by):
    devices(2)
    done = launch(2, "calls.py", "cuda", by=by)
    assert done.returncode == 0, done.stderr
    assert "all calls are right" in done.stdout


def test_two_processes_train_as_one(tmp_path):
    devices(2)
    found = []
    for processes in (1, 2):
        done = launch(
            processes, "training_in_processes.py", tmp_path / f"{processes}.npz", "cuda", alone=processes == 1
        )
        assert done.returncode == 0, done.stderr
        found.append(dict(np.load(tmp_path / f"{processes}.npz")))
    one, two = found
    assert one.keys() == two.keys()
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, rtol=1e-12, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("way", ["one raises", "other call"])
def test_one_that_fails_stops_all(way, by):
    """The others wait on their devices, and are ended."""
    devices(2)
    done = launch(2, "on_devices.py", way, by=by)
    assert done.returncode != 0
    assert "a mistake in process 1" in done.stderr


@pytest.mark.parametrize("way", ["hangs", "hangs unread", "stops"])
def test_one_that_does_not_come_is_named(way, by):
    """The host of process 0 waits within NCCL, or for a number; a thread of it sees that, and of process 1 says what it does."""
    devices(2)
    done = launch(2, "on_devices.py", way, by=by)
    assert done.returncode != 0
    assert done.stdout.count("first sum: [2.0, 2.0, 2.0]") == 2
    what = "does not answer" if way == "stops" else "has made 2 calls, and is at line "
    said = f"process 0 of 2 has waited 2 s for its device in call 3 (all_reduce): process 1 {what}"
    assert f"heard: {said}" in done.stdout
    assert f"anynet, {said}" in done.stderr
    if way != "stops":
        assert "on_devices.py (busy)" in done.stderr


def test_two_processes_on_one_device_go_through_the_host():
    devices(1)
    done = launch(2, "on_devices.py", "one device")
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("sums over processes go through the host: processes 0 and 1 share the GPU cuda:0")
        == 1
    )
    assert done.stdout.count("refused: NCCLGroup: processes 0 and 1 share the GPU cuda:0") == 2
    assert done.stdout.count("sum: 3.0") == 2


def test_the_gradients_are_summed_where_they_are():
    devices(2)
    done = launch(2, "on_devices.py", "in place")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no copies of gradients") == 2


def test_a_compiled_step_with_sums_runs_as_it_is_and_what_is_before_them_is_captured():
    devices(2)
    done = launch(2, "on_devices.py", "compiled")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("warned: ")]
    assert len(said) == 2, done.stdout
    line = next(
        i for i, text in enumerate((PROGRAMS / "on_devices.py").read_text().splitlines(), 1)
        if "an.mean(net(x) ** 2).backward()" in text
    )  # fmt: skip
    for text in said:
        assert "whole cannot be captured as a CUDA graph and runs as it is" in text
        assert f"on_devices.py:{line}: " in text
        assert "over processes is no part of a graph" in text
    assert done.stdout.count("graphs: 5") == 2  # of the gradients, called 8 times, of which 3 as they are


def test_where_there_is_no_nccl():
    here, there = ("cuda:0", "a 0"), ("cuda:1", "a 1")
    assert not _problem([here, there])
    assert "process 1: CuPy finds no NCCL" in _problem([here, ("cuda:1", "?CuPy finds no NCCL")])
    assert _problem([here, ("cpu", "")]) == "the arrays of process 1 are on cpu"
    assert _problem([("none", "no device 'cuda'"), here]) == "process 0: no device 'cuda'"
    assert "share the GPU" in _problem([here, ("cuda:1", "b 0"), here])
    assert not _problem([here, ("cuda:0", "b 0")])  # another host


def test_one_process_alone_stays_as_it_is():
    alone = SingleProcess()
    assert on_device(alone, "cuda") is alone
    with pytest.raises(TypeError, match="base must be a CommunicatorGroup, got SingleProcess"):
        NCCLGroup(alone)
    assert issubclass(CommunicatorGroup, type(alone).__base__)

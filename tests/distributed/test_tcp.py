"""Processes that TCP connections join: how they find each other, their messages, scripts that start their own, torchrun."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from launching import PROGRAMS, launch, variables_of

import anynet as an
from anynet.distributed import DistributedError, TCPGroup, tcp
from anynet.distributed.sockets import NAMES, SMALL, Communicator, Mesh
from anynet.distributed.tcp import _Meeting
from optional_libraries import needs


def free_port():
    return int(variables_of(1)[0]["MASTER_PORT"])


def meet(*processes, port=None, limit=20.0):
    """What becomes of processes, each (rank, size, key): its connections, or its error; in threads."""
    port = port or free_port()
    found: list[object] = [None] * len(processes)

    def one(i, rank, size, key):
        try:
            found[i] = _Meeting(
                rank, size, ("localhost", port), key, time.monotonic() + limit, limit
            ).connections()
        except DistributedError as error:
            found[i] = str(error)

    threads = [threading.Thread(target=one, args=(i, *process)) for i, process in enumerate(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for value in found:
        if isinstance(value, dict):
            for connection in value.values():
                connection.close()
    return found


@pytest.mark.parametrize("size", [2, 5])
def test_processes_find_each_other(size):
    found = meet(*((rank, size, b"secret") for rank in reversed(range(size))))
    for rank, connections in zip(reversed(range(size)), found, strict=True):
        assert sorted(connections) == [r for r in range(size) if r != rank]


def test_one_that_does_not_come_is_named():
    found = meet((0, 3, b""), (1, 3, b""), limit=1.0)
    assert "process 0 of 3 has waited 1 s for process 2" in found[0]
    assert "process 0 of 3 has waited 1 s for process 2" in found[1]


def test_nobody_at_the_address():
    port = free_port()
    [error] = meet((1, 2, b""), port=port, limit=0.3)
    assert f"process 1 of 2 has tried for 0.3 s to reach process 0 at localhost:{port}" in error


def test_another_key_is_refused():
    first, second = meet((0, 2, b"one"), (1, 2, b"another"), limit=1.0)
    assert "for process 1 (a connection with another key was refused)" in first
    assert "was not taken by process 0" in second
    assert "ANYNET_KEY" in second


def test_two_with_one_number_or_another_size():
    found = meet((0, 3, b""), (1, 3, b""), (1, 3, b""), limit=2.0)
    assert "two processes with the number 1" in found[0]
    assert sum("two processes with the number 1" in str(text) for text in found[1:]) == 2
    found = meet((0, 2, b""), (1, 3, b""), limit=2.0)
    assert all("there are 3 processes beside process 0 of 2" in text for text in found)


def test_strangers_are_refused(monkeypatch):
    monkeypatch.setattr(tcp, "_HELLO", 0.3)
    port, done = free_port(), threading.Event()

    def strangers():
        for words in (b"GET / HTTP/1.1\r\n\r\n" + b"x" * 200, b"", b"\xff" * 100):
            while not done.is_set():
                try:
                    with socket.create_connection(("localhost", port), timeout=5) as connection:
                        connection.sendall(words)
                        while connection.recv(100):
                            pass
                except ConnectionRefusedError:
                    time.sleep(0.01)
                    continue
                except OSError:
                    pass
                break

    thread = threading.Thread(target=strangers)
    thread.start()
    late = threading.Timer(1.5, lambda: results.append(meet((1, 2, b""), port=port)))
    results: list[object] = []
    late.start()
    [first] = meet((0, 2, b""), port=port)
    late.join()
    done.set()
    thread.join()
    assert list(first) == [1]
    assert list(results[0][0]) == [0]


def test_a_stranger_where_process_0_should_be():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example.org ESMTP, and what else it says\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        [error] = meet((1, 2, b""), port=server.getsockname()[1], limit=2.0)
        thread.join()
    assert "it is no process of anynet" in error


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        [error] = meet((0, 2, b""), port=server.getsockname()[1])
    assert "process 0 cannot listen at localhost" in error
    assert "MASTER_PORT" in error


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 0), ValueError, "size must be 1 to"),
        ((2, 2), ValueError, "rank must be 0 to 1, got 2"),
        ((0, 1, "localhost", 70000), ValueError, "port must be 1 to 65535"),
        ((0.0, 1), TypeError, "rank must be an integer"),
        ((True, 2), TypeError, "rank must be an integer"),
        ((0, 1, 5), TypeError, "address must be a text"),
    ],
)
def test_wrong_numbers(arguments, error, message):
    with pytest.raises(error, match=message):
        TCPGroup(*arguments)
    with pytest.raises(ValueError, match="TCPGroup: timeout must be a number of seconds above 0, got 0"):
        TCPGroup(0, 1, timeout=0)


def test_variables(monkeypatch):
    monkeypatch.setattr(tcp, "TCPGroup", TCPGroup)
    given = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "many"}
    with pytest.raises(DistributedError, match="MASTER_PORT must be a number, got 'many'"):
        TCPGroup.of_environment(given)
    with pytest.raises(DistributedError, match="RANK must be a number, got ''"):
        TCPGroup.of_environment({**given, "RANK": "", "MASTER_PORT": "1"})
    assert TCPGroup.of_environment({**given, "MASTER_PORT": "29501"}).size == 1


# ----- messages -----


@pytest.fixture(params=[1, 2, 3, 4])
def together(request):
    """Calls a function of (rank, communicator) in that many threads that are joined as processes are; their results."""
    size = request.param
    ends: list[dict[int, socket.socket]] = [{} for _ in range(size)]
    for i in range(size):
        for j in range(i):
            ends[i][j], ends[j][i] = (socket_of for socket_of in _pair())
    meshes = [Mesh(rank, ends[rank]) for rank in range(size)]

    def call(function):
        found: list[object] = [None] * size

        def one(rank):
            try:
                found[rank] = function(rank, Communicator(meshes[rank]))
            except BaseException as error:  # noqa: BLE001 asserted on
                found[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return found

    call.size = size
    call.meshes = meshes
    yield call
    for mesh in meshes:
        mesh.close()


def _pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


def wait(request):
    until = time.monotonic() + 60
    while not request.Test():
        assert time.monotonic() < until
        time.sleep(1e-4)


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "int32", "uint8"])
@pytest.mark.parametrize("n", [0, 1, 7, SMALL // 8 - 1, SMALL + 3])
def test_sums_have_the_bits_of_the_sum_in_order(together, dtype, n):
    rng = np.random.default_rng(n)
    parts = [(rng.normal(size=n) * 100).astype(dtype) for _ in range(together.size)]
    expected = parts[0].copy()
    for part in parts[1:]:
        expected = expected + part

    def add(rank, communicator):
        mine = parts[rank].copy()
        wait(communicator.Iallreduce(NAMES.IN_PLACE, mine))
        return mine

    for found in together(add):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_largest_smallest_and_the_rest(together):
    size = together.size

    def call(rank, communicator):
        x = np.arange(6.0).reshape(2, 3) * (rank + 1)
        most, least = x.copy(), x.copy()
        requests = [
            communicator.Iallreduce(NAMES.IN_PLACE, most, op=NAMES.MAX),
            communicator.Iallreduce(NAMES.IN_PLACE, least, op=NAMES.MIN),
            communicator.Ibarrier(),
        ]
        for request in requests:
            wait(request)
        own = np.zeros((1, 2))
        wait(communicator.Ireduce_scatter_block(np.arange(2.0 * size).reshape(size, 2), own))
        shared = np.full((2, 2), float(rank), dtype="float16")
        wait(communicator.Ibcast(shared, root=size - 1))
        lengths, starts = list(range(size)), [sum(range(r)) for r in range(size)]
        everything = bytearray(sum(lengths))
        wait(
            communicator.Iallgatherv(
                [bytes([rank]) * rank, NAMES.BYTE], [everything, (lengths, starts), NAMES.BYTE]
            )
        )
        return most, least, own, shared, everything

    for rank, (most, least, own, shared, everything) in enumerate(together(call)):
        np.testing.assert_array_equal(most, np.arange(6.0).reshape(2, 3) * size)
        np.testing.assert_array_equal(least, np.arange(6.0).reshape(2, 3))
        np.testing.assert_array_equal(own, [[2.0 * rank * size, (2.0 * rank + 1) * size]])
        np.testing.assert_array_equal(shared, np.full((2, 2), size - 1.0))
        assert bytes(everything) == b"".join(bytes([r]) * r for r in range(size))


def test_communicators_do_not_wait_for_each_other(together):
    def call(rank, communicator):
        other = communicator.Dup()
        one, two = np.full(3, 1.0), np.full(4, 2.0)
        calls = [
            lambda: communicator.Iallreduce(NAMES.IN_PLACE, one),
            lambda: other.Iallreduce(NAMES.IN_PLACE, two),
        ]
        for request in [begin() for begin in (calls if rank % 2 else calls[::-1])]:
            wait(request)
        return one.tolist(), two.tolist()

    assert together(call) == [([together.size] * 3, [2.0 * together.size] * 4)] * together.size


def test_a_connection_that_ends_is_an_error_of_those_who_wait(together):
    last = together.size - 1

    def call(rank, communicator):
        wait(communicator.Ibarrier())
        if rank == last:
            together.meshes[rank].close()
            return None
        wait(communicator.Ibarrier())
        return None

    found = together(call)
    assert found[last] is None
    for error in found[:last]:
        assert isinstance(error, ConnectionError)
        assert f"process {last} of {together.size} is gone" in str(error)


def test_objects(together):
    def call(rank, communicator):
        for other in together.meshes[rank].peers:
            communicator.isend({"from": rank}, other)
        heard, status = {}, NAMES.Status()
        until = time.monotonic() + 30
        while len(heard) < together.size - 1 and time.monotonic() < until:
            if communicator.Iprobe(status=status):
                heard[status.Get_source()] = communicator.recv(source=status.Get_source())
        return heard

    for rank, heard in enumerate(together(call)):
        assert heard == {r: {"from": r} for r in range(together.size) if r != rank}


# ----- whole programs -----


def started(*arguments, **variables):
    root = PROGRAMS.parents[2]
    path = os.pathsep.join([str(root), str(root / "backends"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(PROGRAMS / "started.py"), *map(str, arguments)], capture_output=True, text=True, timeout=300,
        check=False, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip


@pytest.mark.parametrize("way", ["tcp", "env"])
def test_a_script_starts_its_own_processes(way):
    port = str(free_port())
    done = started(way, port, 2, MASTER_ADDR="localhost", MASTER_PORT=port)
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert [line.split(":")[0] for line in lines] == ["gloo 0 of 2", "gloo 1 of 2"]
    alone = started("tcp", free_port(), 1)
    weights = {line.split(":")[1] for line in [*lines, *alone.stdout.splitlines()]}
    assert len(weights) == 1, weights  # those of one process with all samples


def test_the_error_of_one_ends_all():
    done = started("raises", free_port(), 2)
    assert "spawn: torch.multiprocessing.spawn: process 1 raised" in done.stdout
    assert "ValueError: a mistake of process 1" in done.stdout
    assert "fast: True" in done.stdout
    assert (
        "process 1 of 2 has failed: ValueError: a mistake of process 1" in done.stderr
    )  # what the other says


def test_one_that_is_killed_ends_all():
    done = started("is killed", free_port(), 2)
    assert "fast: True" in done.stdout
    assert "process 1 of 2 is gone" in done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_is_none_of_the_group():
    done = launch(2, "started.py", "forks", by="variables")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("child: 1") == 2
    assert done.stdout.count("sum: 3") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals")
def test_one_that_is_stopped_is_given_up():
    both = variables_of(2)
    root = PROGRAMS.parents[2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "backends")])}
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAMS / "started.py"), "waits too long"], stderr=subprocess.PIPE, text=True, env={**env, **own}
        )
        for own in both
    ]  # fmt: skip
    try:
        _, errors = processes[0].communicate(timeout=120)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert processes[0].returncode
    assert "process 0 of 2 has waited 1 s in barrier for the others" in errors


def test_what_init_process_group_refuses():
    dist = an.torch.distributed
    with pytest.raises(
        ValueError, match="rank and world_size go together, and with tcp://, got rank 1 and world_size -1"
    ):
        dist.init_process_group("gloo", rank=1)
    with pytest.raises(ValueError, match="and with tcp://, got rank -1 and world_size -1"):
        dist.init_process_group("gloo", init_method="tcp://localhost:1")
    with pytest.raises(NotImplementedError, match="files and stores are not offered"):
        dist.init_process_group("gloo", init_method="file:///tmp/x", rank=0, world_size=2)
    with pytest.raises(ValueError, match='init_method must be "env://" or "tcp://HOST:PORT"'):
        dist.init_process_group("gloo", init_method="udp://x:1", rank=0, world_size=2)
    with pytest.raises(ValueError, match="where the processes meet is missing"):
        dist.init_process_group("gloo", rank=0, world_size=2)
    with pytest.raises(ValueError, match="this is process 0 of 1, and the script says 1 of 1"):
        dist.init_process_group("gloo", rank=1, world_size=1)
    assert not dist.is_initialized()
    dist.init_process_group("gloo", rank=0, world_size=1)
    dist.destroy_process_group()


def test_processes_in_different_calls_get_an_error():
    done = launch(2, "messages.py", "calls", by="variables")
    assert done.returncode != 0
    assert "is in another call than this one, or its array has another size or type" in done.stderr
    assert "messages are right" not in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_end_of_a_forked_process_is_nothing_to_the_others():
    done = launch(2, "messages.py", "forks", by="variables")
    assert "ValueError: the child's" in done.stderr
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("messages are right") == 2


def test_a_killed_process_is_seen_while_its_children_live():
    done = started("has a worker", free_port(), 2)
    assert "fast: True" in done.stdout
    assert "process 1 of 2 is gone" in done.stdout + done.stderr


@pytest.mark.parametrize("way", ["long", "early", "exits"])
def test_what_spawned_processes_end_with(way):
    done = started(way, free_port(), 2)
    assert "fast: True" in done.stdout, done.stderr
    if way == "exits":  # sys.exit(0) is no error
        assert done.stdout.count("worked to its end") == 2
    else:
        assert "process 1 raised" in done.stdout
        assert {"long": "ValueError: xxx", "early": "ImportError: no module"}[way] in done.stdout


def test_a_group_that_was_left_is_nothing_to_the_others():
    done = launch(2, "started.py", "leaves", by="variables")
    assert "OSError: disk full" in done.stderr
    assert "process 0 has saved" in done.stdout


def test_torchrun():
    needs("torch", "torch")
    root = PROGRAMS.parents[2]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "backends")]),
        "OMP_NUM_THREADS": "1",
    }
    for program in ("calls.py", "torch_names.py"):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(PROGRAMS / program)],
            capture_output=True, text=True, timeout=300, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("are right") >= 1

"""Trials: what something takes, measured in a process of its own (Linux)."""

from __future__ import annotations

import gc
import json
import math
import os
import select
import signal
import time
from collections.abc import Callable

from anynet import optim
from anynet.nn import Conv2d, Flatten, Linear, Sequential
from anynet.ops.creation import zeros
from anynet.ops.elementwise import square
from anynet.ops.reductions import mean
from anynet_backends.memory.allocator import give_back

__all__ = ["TooLong", "available", "load_libraries", "measured", "peak_of"]

LIMIT = 120.0
"""Seconds of the processor that a trial may take: on a machine that is busy with other work it may last longer."""
HUNG = 60.0
"""Seconds without any work after which the process of a trial is ended."""


class TooLong(str):
    """Why a trial was ended: a smaller one may not be."""


def available() -> float:
    """The bytes that are free on this machine; infinite where it does not say so."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(float(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf


def _resident(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def load_libraries() -> None:
    """A step of a tiny network: what is loaded once in a process belongs to no training."""
    net = Sequential(Conv2d(1, 2, 3), Flatten(), Linear(72, 4))
    optimizer = optim.Adam(list(net.parameters()))
    for _ in range(3):
        optimizer.zero_grad()
        mean(square(net(zeros((2, 1, 8, 8), device="cpu")))).backward()
        optimizer.step()


def peak_of(run: Callable[[], None]) -> int:
    """The bytes that this process holds at most while `run` runs, above what it held before (Linux)."""
    gc.collect()
    give_back()
    before = _resident("VmRSS")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the high-water mark begins here
    run()
    return _resident("VmHWM") - before


def measured(
    trial: Callable[[int], tuple[int, float]], batch: int, limit: float = LIMIT
) -> tuple[int, float] | str:
    """``trial(batch)``, a pair of bytes and seconds, in a process of its own; or why there is none."""
    if not os.access("/proc/self/clear_refs", os.W_OK) or not hasattr(os, "fork"):
        return "this system does not say how much memory a process takes"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            gc.disable()  # its moment decides where blocks lie, and so the peak: `trial` calls it
            os.write(writer, _outcome(trial, batch))
            code = 0
        finally:
            os._exit(code)  # nothing of the parent's may run here
    os.close(writer)
    answered = False
    try:
        late = _waited(reader, child, limit)
        data = b"" if late else os.read(reader, 1 << 16)
        answered = not late
    finally:
        os.close(reader)
        if not answered:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if late:
        return TooLong(f"a trial with a batch of {batch} {late}")
    if not data:
        how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"with {status}"
        return f"the process of a trial with a batch of {batch} ended {how}; is there enough memory?"
    found = json.loads(data)
    return found if isinstance(found, str) else (int(found[0]), float(found[1]))


def _outcome(trial: Callable[[int], tuple[int, float]], batch: int) -> bytes:
    try:
        return json.dumps(trial(batch)).encode()
    except Exception as error:  # noqa: BLE001 it is told to the process that asked
        text = f"{type(error).__name__}: {error}"
        return json.dumps(f"a trial with a batch of {batch} failed with {text:.500}").encode()


def _waited(reader: int, child: int, limit: float) -> str:
    """Wait for an answer: "", or why there will be none."""
    used, moved = 0.0, time.monotonic()
    while not select.select([reader], [], [], 0.2)[0]:
        now = _processor_seconds(child)
        if now > limit:
            return f"took more than {limit:g} s of the processor"
        if now > used:
            used, moved = now, time.monotonic()
        elif time.monotonic() - moved > HUNG:
            return f"did nothing for {HUNG:g} s"
    return ""


def _processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

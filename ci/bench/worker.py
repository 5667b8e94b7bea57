"""One contender in a process of its own: builds what it is told and times it, a line of JSON at a time."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ci.bench.workloads import CONVOLUTIONS, WORKLOADS, Workload, resize

CONTENDERS = {  # name: (module, options)
    "anynet": ("ci.bench.with_anynet", {"compiled": False}),
    "anynet compiled": ("ci.bench.with_anynet", {"compiled": True}),
    # NumPy alone (the coordinator sets ANYNET_ONEDNN=off and ANYNET_NUMBA=off)
    "anynet alone": ("ci.bench.with_anynet", {"compiled": False}),
    "anynet alone compiled": ("ci.bench.with_anynet", {"compiled": True}),
    "torch": ("ci.bench.with_torch", {"compiled": False}),
    "torch channels-last": ("ci.bench.with_torch", {"compiled": False, "channels_last": True}),
    "torch compiled": ("ci.bench.with_torch", {"compiled": True}),
    "jax": ("ci.bench.with_jax", {}),
}


def _memory() -> float:
    """The largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Serve requests from standard input."""
    name, threads = sys.argv[1], int(sys.argv[2])
    replies = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not mix with the replies
    started = time.perf_counter()
    module_name, options = CONTENDERS[name]
    if module_name.endswith("torch"):
        import torch

        torch.set_num_threads(threads)
    module = import_module(module_name)
    imported = time.perf_counter() - started
    run: Callable[[], Any] | None = None
    reply: dict[str, Any] = {"import": imported, "memory": _memory()}
    print(json.dumps(reply), file=replies, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "build":
            run = None
            what = order["what"]
            started = time.perf_counter()
            if what == "convolution":
                run = module.convolution(CONVOLUTIONS[order["workload"]], **options)
            else:
                workload = WORKLOADS[order["workload"]]
                resize(workload.model, order.get("depth"), order.get("length"))
                if "batch" in order:
                    workload = Workload(workload.model, order["batch"], workload.optimizer)
                run = getattr(module, what)(workload, **options)
            for _ in range(3):
                run()
            reply = {"seconds": time.perf_counter() - started, "memory": _memory()}
        else:
            assert run is not None
            n = order["n"]
            for _ in range(max(1, n // 10)):  # caches and thread pools are awake when the clock starts
                run()
            started = time.perf_counter()
            for _ in range(n):
                run()
            reply = {"seconds": (time.perf_counter() - started) / n, "memory": _memory()}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()

"""One contender in a process of its own: builds what it is told and times it, a line of JSON at a time.

{"do": "describe", "workload": …, "files": […], "batch": …, "path": …}   weights and batch into a file
{"do": "build", "what": "training" or "inference", …, "path": …}         with the weights of that file
{"do": "first", "n": …}                                                  the time and the loss of each of the first steps
{"do": "run", "n": …}                                                    the mean time of n steps
{"do": "launches"}                                                       how many kernels a step is, on a GPU
{"do": "work"}                                                           what a step computes and moves (anynet)
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {  # name: (library, options)
    "anynet": ("anynet", {"compiled": False}),
    "anynet compiled": ("anynet", {"compiled": True}),
    # NumPy alone (the coordinator sets ANYNET_ONEDNN=off and ANYNET_NUMBA=off)
    "anynet alone": ("anynet", {"compiled": False}),
    "anynet alone compiled": ("anynet", {"compiled": True}),
    "torch": ("torch", {"compiled": False}),
    "torch channels-last": ("torch", {"compiled": False, "channels_last": True}),
    "torch compiled": ("torch", {"compiled": True}),
    "jax": ("jax", {}),
}
ON_A_GPU: dict[str, tuple[str, dict[str, Any]]] = {"torch reduce-overhead": ("torch", {"compiled": True})}


def memory() -> float:
    """The largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Worker:
    """What one library builds and runs."""

    def __init__(self, name: str, threads: int) -> None:
        self.library, self.options = (CONTENDERS | ON_A_GPU)[name]
        # With one thread what the process itself has spent is steadier than the time that passed on a machine with other work.
        alone = threads == 1 and os.environ.get("ANYNET_BENCH_DEVICE", "cpu") == "cpu"
        self.clock = time.process_time if alone else time.perf_counter
        self.run: Callable[[], Any] = lambda: None
        self.synchronize: Callable[[], None] = lambda: None
        if self.library == "jax":
            from ci.bench import with_jax

            self.jax = with_jax
            return
        os.environ["ANYNET_BENCH_LIBRARY"] = self.library
        if self.library == "torch":
            import torch

            torch.set_num_threads(threads)
            from ci.bench import library_torch as spelling

            spelling.FUSED = self.options["compiled"]
            spelling.MODE = "reduce-overhead" if name == "torch reduce-overhead" else None
            if self.options["compiled"]:
                import torch._dynamo  # the compiler counts as an import, as LLVM does
        else:
            from ci.bench import library_anynet as spelling  # type: ignore[no-redef]
        spelling.load_libraries()
        self.synchronize = spelling.synchronize

    def _made(self, order: dict[str, Any]) -> Any:
        from ci.bench.workload import build, load  # after the library is chosen

        chosen = load(order.get("files", []))[order["workload"]]
        return build(chosen, order.get("batch", 0), **order.get("with", {}))

    def describe(self, order: dict[str, Any]) -> dict[str, Any]:
        """The weights that the library draws, and the batch, into a file; whether there is inference."""
        from ci.bench import running

        made = self._made(order)
        running.save(made, order["path"])
        return {
            "inputs": made.inputs,
            "parameters": sum(
                p.size if isinstance(p.size, int) else p.numel()
                for n in running.modules(made)
                for p in n.parameters()
            ),
        }

    def build(self, order: dict[str, Any]) -> dict[str, Any]:
        """Make the step or the forward pass that is timed; nothing of it runs yet."""
        if self.library == "jax":
            self.run = getattr(self.jax, order["what"])(order["workload"], order["path"])
            return {}
        from ci.bench import running

        made = self._made(order)
        running.load_state(made, order["path"])
        self.run = getattr(running, order["what"])(made, **self.options)
        return {}

    def first(self, order: dict[str, Any]) -> dict[str, Any]:
        """The first steps, each by itself."""
        times, losses = [], []
        for _ in range(order["n"]):
            if sum(times) > order.get("limit", math.inf):
                break
            started = self.clock()
            result = self.run()
            self.synchronize()
            times.append(self.clock() - started)
            if len(losses) < order.get("losses", 0):
                losses.append(float(result))
        return {"times": times, "losses": losses}

    def timed(self, order: dict[str, Any]) -> dict[str, Any]:
        """The mean time of n steps."""
        n, run = order["n"], self.run
        for _ in range(max(1, n // 10)):  # caches and thread pools are awake when the clock starts
            run()
        self.synchronize()
        started = self.clock()
        for _ in range(n):
            run()
        self.synchronize()
        return {"seconds": (self.clock() - started) / n}

    def launches(self, order: dict[str, Any]) -> dict[str, Any]:
        """The kernels of a step: as the emulator counts them, else as PyTorch's profiler, which sees those of the whole process."""
        from ci.cuda_emulator import log

        if log.present():
            with log.Log() as recorded:
                self.run()
            return {"launches": recorded.launches, "copies": recorded.copies}
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as recorded_by_torch:
            self.run()
            self.synchronize()
        names = [e.name for e in recorded_by_torch.events() if e.device_type == DeviceType.CUDA]
        copies = sum(name.startswith(("Memcpy", "Memset")) for name in names)
        return {"launches": len(names) - copies, "copies": copies}

    def work(self, order: dict[str, Any]) -> dict[str, Any]:
        """Operations and bytes of a step, as `anynet.profile` counts them."""
        from anynet import profile

        with profile() as seen:
            self.run()
        return {"flops": sum(e.flops for e in seen.events), "bytes": sum(e.bytes for e in seen.events)}


def main() -> None:
    """Serve requests from standard input."""
    replies = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not mix with the replies
    started = time.perf_counter()
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    reply: dict[str, Any] = {"import": time.perf_counter() - started, "memory": memory()}
    print(json.dumps(reply), file=replies, flush=True)
    orders = {"describe": worker.describe, "build": worker.build, "first": worker.first, "run": worker.timed}
    orders |= {"launches": worker.launches, "work": worker.work}
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply = orders[order["do"]](order)
        except Exception as error:  # whatever a library says is an answer
            reply = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        print(json.dumps(reply | {"memory": memory()}), file=replies, flush=True)


if __name__ == "__main__":
    main()

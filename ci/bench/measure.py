"""One workload measured: all contenders side by side, in rounds.

Each contender is a process of its own, so that their thread pools do not meet. What a process does first, it does with cold caches: the
first steps are timed one by one, then comes the memory of all of them, then rounds, in which the contenders take turns; a ratio is that of
two times of the same round. The result is plain data, which `ci/bench/results.json` keeps.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from ci.bench.contender import Contender, Failed
from ci.bench.workload import Workload

__all__ = ["FIRST", "measure", "race"]

ROUND = 0.1  # seconds that a contender works in one round, at least one step
PAUSE = 0.1  # seconds between contenders: the last one's threads spin for a while before they sleep
FIRST = 40  # steps that are timed one by one: an operation becomes machine code at its 24th call
PATIENCE = 1.0  # seconds after which no further first steps are made


def race(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds a step of each contender, one number a round."""
    counts = {name: max(1, int(ROUND / c.ask("run", n=1)["seconds"])) for name, c in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            time.sleep(PAUSE)
            times[name].append(contender.ask("run", n=counts[name])["seconds"])
    return times


class _Field:
    """The contenders of one workload; those that fail leave with a word on standard error."""

    def __init__(self, names: list[str], threads: int) -> None:
        self.known: dict[str, Contender] = {}
        self.failed: dict[str, str] = {}
        for name in names:
            self._try(name, lambda name=name: self.known.__setitem__(name, Contender(name, threads)))

    def _try(self, name: str, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Failed as error:
            self.failed[name] = str(error)[:200]
            print(f"    {name}: {error}", file=sys.stderr, flush=True)
            if name in self.known:
                self.known.pop(name).close()
            return None

    def each(self, what: Callable[[Contender], Any]) -> dict[str, Any]:
        """What every contender answers."""
        found = {name: self._try(name, lambda c=c: what(c)) for name, c in list(self.known.items())}
        return {name: answer for name, answer in found.items() if name in self.known}

    def close(self) -> None:
        for contender in self.known.values():
            contender.close()


def _first(contender: Contender) -> dict[str, Any]:
    """Times of the first steps, with the losses of the first three and the memory after ten."""
    begin = contender.ask("first", n=10, losses=3, limit=PATIENCE)
    after = contender.ask("first", n=FIRST - 10, limit=max(0.0, PATIENCE - sum(begin["times"])))
    return {
        "times": begin["times"] + after["times"], "losses": begin["losses"],
        "memory": begin["memory"] - contender.start["memory"],
    }  # fmt: skip


def measure(
    chosen: Workload, names: list[str], threads: int, rounds: int, inference: tuple[int, ...], **options: Any
) -> dict[str, Any]:
    """All that is measured of one workload."""
    with tempfile.TemporaryDirectory(prefix="anynet-bench-") as folder:
        order = {"workload": chosen.name, **options}
        described: dict[int, str] = {}
        describer = Contender("anynet", threads)
        try:
            for batch in (0, *inference):
                path = str(pathlib.Path(folder) / f"{batch}.npz")
                made = describer.ask("describe", **order, **({"batch": batch} if batch else {}), path=path)
                described[batch] = path
        finally:
            describer.close()
        inference = inference if made["inputs"] else ()
        field = _Field(names, threads)
        try:
            field.each(lambda c: c.ask("build", what="training", **order, path=described[0]))
            first = field.each(_first)
            result: dict[str, Any] = {
                "title": chosen.title, "group": chosen.group, "batch": chosen.batch, "source": chosen.source,
                "parameters": made["parameters"], "first": first, "training": race(field.known, rounds), "inference": {},
                "load": os.getloadavg()[0], "threads": threads, "date": time.strftime("%Y-%m-%d"),
            }  # fmt: skip
            for batch in inference:
                field.each(
                    lambda c, batch=batch: c.ask(
                        "build", what="inference", **order, batch=batch, path=described[batch]
                    )
                )
                field.each(lambda c: c.ask("first", n=FIRST, limit=PATIENCE / 3))  # as warm as after training
                result["inference"][str(batch)] = race(field.known, rounds)
            result["failed"] = field.failed
            return result
        finally:
            field.close()

"""Where the time of one training step goes, measured while the report is made."""

from __future__ import annotations

import copy
import time
from typing import Any

from anynet.autograd.debug.profiler import Event, profile
from anynet.nn.module import Module
from anynet.reports.charts import bars
from anynet.reports.record import objective_of
from anynet.reports.reported import ReportedRun
from anynet.reports.sections import Figure, Section, Table, duration, percent
from anynet.streams import fork_rng
from anynet.train.batches import call
from anynet.train.objectives import Objective, rows

__all__ = ["timing_section"]


def timing_section(run: ReportedRun, model: Module, batch: tuple[Any, Any]) -> Section | None:
    """Forward and backward pass of one batch by layer, on a copy of the network."""
    objective = objective_of(run)
    if objective is None:
        return None
    whole, events = _measured(model, batch, objective)
    order = _by_layer(model, events)
    spent = sum(sum(v) for _, v in order)
    if not spent:
        return None
    title, shown = "Time of a training step by layer", order[:16]
    svg = bars([n for n, _ in shown], [sum(v) for _, v in shown], title=title, say=duration)
    table = Table(
        ["layer", "forward", "backward", "share"],
        [[n, duration(f), duration(b), percent((f + b) / spent)] for n, (f, b) in order],
    )
    count = rows(batch[1])
    lead = (
        f"A training step with {count:,} samples takes {duration(whole)} without the optimizer: "
        f"{count / whole:,.0f} samples a second, measured on the machine that wrote this report."
    )
    epochs = [float(r["seconds"]) for r in run.history if isinstance(r.get("seconds"), (int, float))]
    if epochs:
        median = duration(sorted(epochs)[len(epochs) // 2])
        lead += f" An epoch of the run took {median} (median), the whole training {duration(sum(epochs))}."
    caption = "Forward and backward pass, under the profiler, which slows small operations."
    return Section("Times", [Figure(svg, title, caption, table)], lead)


def _measured(model: Module, batch: tuple[Any, Any], objective: Objective) -> tuple[float, list[Event]]:
    """The seconds of a step, and the operations of another one under the profiler."""
    x, y = batch
    with fork_rng(0):
        twin = copy.deepcopy(model)
        twin.train()

        def step() -> None:
            objective(call(twin, x), y).backward()
            twin.zero_grad()

        step()
        began = time.perf_counter()
        step()
        whole = time.perf_counter() - began
        with profile() as found:
            step()
    return whole, list(found.events)


def _by_layer(model: Module, events: list[Event]) -> list[tuple[str, list[float]]]:
    """Seconds forward and backward of each layer, most first."""
    kinds = {name: type(m).__name__ for name, m in model.named_modules() if name}
    totals: dict[str, list[float]] = {}
    for event in events:
        path = event.layer.partition(".")[2]
        layer = path or ("between layers" if event.layer else "loss")
        label = f"{path} {kinds[path]}" if path in kinds else layer
        totals.setdefault(label, [0.0, 0.0])[event.phase == "backward"] += event.seconds - event.inner
    return sorted(totals.items(), key=lambda item: -sum(item[1]))

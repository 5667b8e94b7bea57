"""What the run's own record says: data and their fingerprints, the environment, and how to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from anynet.nn.module import Module
from anynet.reports.reported import ReportedRun
from anynet.reports.sections import Section, Table, Words, bytes_in_words, duration
from anynet.train.objectives import Objective, loss_of

__all__ = ["facts_of", "loss_name", "noun_of", "objective_of", "record_sections"]

_NOUNS = {"images": "pictures", "table": "rows", "text": "passages"}
_DATA = ("source", "split")
_ENVIRONMENT = ("environment", "versions", "git", "device", "platform", "python", "anynet", "host", "threads")
_ELSEWHERE = ("results", "command", "script", "format", "best", "settings")


def noun_of(run: ReportedRun) -> str:
    """What the samples are called."""
    return _NOUNS.get(getattr(run.preprocessing, "kind", ""), "samples")


def loss_name(run: ReportedRun) -> str | None:
    """The loss by name, where the record says one."""
    return _name(run.info.get("loss"))


def _name(value: Any) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("class") or value.get("function")
    return value if isinstance(value, str) else None


def objective_of(run: ReportedRun) -> Objective | None:
    """The loss of the training, from its name and options; None where it is none of anynet's."""
    value = run.info.get("loss")
    loss = loss_of(value if isinstance(value, Mapping) else loss_name(run))
    return None if loss is None else Objective(loss)


def facts_of(run: ReportedRun, model: Module | None) -> str:
    """One line: network, optimizer, epochs, time, status."""
    parts = []
    if model is not None:
        parts.append(f"{type(model).__name__} with {sum(p.size for p in model.parameters()):,} parameters")
    loss, optimizer = loss_name(run), _name(run.info.get("optimizer"))
    if loss:
        parts.append(f"loss {loss}")
    if optimizer:
        parts.append(optimizer)
    if run.history:
        seconds = sum(float(r.get("seconds") or 0.0) for r in run.history)
        parts.append(
            f"{len(run.history):,} epoch{'s' if len(run.history) != 1 else ''}"
            + (f" in {duration(seconds)}" if seconds else "")
        )
    for key in ("status", "started", "time"):
        value = run.info.get(key)
        if isinstance(value, str) and value:
            parts.append(value if key == "status" else f"{value[:16].replace('T', ' ')}")
            if key != "status":
                break
    return " · ".join(parts)


def record_sections(run: ReportedRun, described: str | None = None) -> list[Section]:
    """The chapters on data (`described` in words), environment, repeating."""
    info = run.info
    sections = []
    data = [row for key in _DATA for row in _flat(info.get(key), "" if key == "source" else key)]
    parts = info.get("data")
    for part, known in parts.items() if isinstance(parts, Mapping) else ():
        if isinstance(known, Mapping) and "data" in known:
            data.append([f"CRC-32 of the arrays for {part}", str(known["data"])])
    blocks: list[Any] = [Table(["what", "value"], data, code=(1,))] if data else []
    if described:
        blocks.insert(0, Words(described, code=True))
    if blocks:
        sections.append(
            Section("Data", blocks, "What it was trained on; equal fingerprints (SHA-256) mean equal bytes.")
        )
    record = {k: v for k, v in info.items() if k not in (*_DATA, "data", *_ENVIRONMENT, *_ELSEWHERE)}
    settings = [row for key, value in record.items() for row in _flat(value, key)]
    environment = [
        row
        for key in _ENVIRONMENT
        for row in _flat(info.get(key), key if key not in ("environment",) else "")
    ]
    if settings:
        sections.append(Section("Settings", [Table(["setting", "value"], settings[:200], code=(1,))]))
    if environment:
        sections.append(Section("Environment", [Table(["what", "value"], environment[:120], code=(1,))]))
    command, script = info.get("command"), info.get("script")
    if command:
        words = shlex.join(map(str, command)) if isinstance(command, (list, tuple)) else str(command)
        repeat: list[Any] = [Words(words, code=True)]
        if script:
            repeat.append(Table(["script", ""], _flat(script, ""), code=(1,)))
        lead = (
            "The same command with the same data, versions and seed gives the same bits on the same backend."
        )
        sections.append(Section("How to repeat it", repeat, lead))
    return sections


def _flat(value: Any, name: str) -> list[list[Any]]:
    """Rows (name, value) of nested plain data."""
    if value is None or value in ("", [], {}):
        return []
    if isinstance(value, Mapping):
        return [
            row for key, inner in value.items() for row in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, bool) or value is None:
        return [[name, json.dumps(value)]]
    if name.rpartition(".")[2] == "bytes" and isinstance(value, int):
        return [[name, f"{value:,} ({bytes_in_words(value)})"]]
    if isinstance(value, (list, tuple)):
        text = json.dumps(value, ensure_ascii=False, default=str)
        return [[name, text if len(text) < 400 else text[:400] + " …"]]
    return [[name, f"{value:.8g}" if isinstance(value, float) else str(value)]]

"""Runs in a folder as a list, and two runs against each other."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anynet.runs.reading import RunError, json_lines
from anynet.runs.run import Run, open_run

__all__ = ["Comparison", "Listing", "apart", "compare", "runs_in", "table"]

_PASSING = frozenset(
    {
        "started",
        "ended",
        "resumed",
        "seconds",
        "results",
        "best",
        "epochs_done",
        "status",
        "reason",
        "format",
        "time",
    }
)
_MACHINE = ("environment.", "git.", "command", "script.")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in plain text: numbers to the right."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [bool(rows) and all(_number(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def _number(cell: Any) -> bool:
    text = str(cell).replace(",", "").removesuffix("s").strip()
    try:
        float(text or "0")
    except ValueError:
        return False
    return True


def html_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same as HTML."""
    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


# ----- listing -----


@dataclass
class Listing(Sequence[Run]):
    """The runs of a folder, the newest last; what could not be opened is in `problems`, with why."""

    folder: Path
    runs: list[Run]
    problems: dict[str, str]

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: Any) -> Any:
        return self.runs[index]

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        header = ["run", "status", "data", "model", "epochs", "seconds", "results"]
        rows = []
        for run in self.runs:
            info = run.info
            source, model = _table_of(info.get("source")), _table_of(info.get("model"))
            path = source.get("path")
            data = Path(str(path)).name if path else str(source.get("kind", ""))
            results = ", ".join(
                f"{k} {v:.4g}" for k, v in list(run.results.items())[:4] if isinstance(v, (int, float))
            )
            seconds, epochs = info.get("seconds"), info.get("epochs_done")
            rows.append([
                str(run.path.relative_to(self.folder)) if run.path.is_relative_to(self.folder) else run.name, run.status, data,
                f"{model.get('class', '')} {model['parameters']:,}" if isinstance(model.get("parameters"), int) else "",
                f"{epochs if epochs is not None else len(run.history)}/{info.get('epochs', '?')}",
                f"{seconds:.1f}" if isinstance(seconds, (int, float)) else "", results,
            ])  # fmt: skip
        return header, rows

    def __str__(self) -> str:
        if not self.runs and not self.problems:
            return f"no runs in {self.folder}"
        lines = [table(*self._rows())] if self.runs else []
        return "\n".join([*lines, *(f"{name}: {why}" for name, why in self.problems.items())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self._rows())

    def to_json(self) -> list[dict[str, Any]]:
        """A dict for each run: path, status, started, seconds, source, model, results."""
        keys = ("started", "seconds", "source", "model", "loss", "optimizer", "best", "epochs", "epochs_done")
        return [
            {
                "path": str(r.path),
                "status": r.status,
                "results": r.results,
                **{k: r.info.get(k) for k in keys},
            }
            for r in self.runs
        ]


def _table_of(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def runs_in(folder: str | os.PathLike[str] = "runs") -> Listing:
    """All runs in a folder and below, in the order in which they began. FileNotFoundError where there is no such folder.

    >>> import tempfile
    >>> len(runs_in(tempfile.mkdtemp()))
    0
    """
    place = Path(folder)
    if not place.is_dir():
        msg = f"there is no folder {place}"
        raise FileNotFoundError(msg)
    runs, problems = [], {}
    for at, below, names in os.walk(place):
        below[:] = sorted(d for d in below if not d.startswith("."))
        if "run.json" in names or ("settings.json" in names and "last.safetensors" in names):
            below[:] = []
            try:
                run = open_run(at)
                _ = run.results, len(run.history)
                runs.append(run)
            except (RunError, OSError) as error:
                problems[os.path.relpath(at, place)] = str(error)
    runs.sort(key=lambda r: (str(r.info.get("started") or ""), str(r.path)))
    return Listing(place, runs, problems)


# ----- comparing -----


@dataclass
class Comparison:
    """Two runs against each other.

    Attributes:
      a, b: the runs.
      settings: (what, value in a, value in b) for what was asked for otherwise; `machine` the same for versions, host and command.
      curves: by quantity, pairs of values epoch by epoch.
      first: where their parameters first differ by a bit: a dict with epoch, batch (0: the end of the epoch), tensors (the names of
        those that differ) and of; None where they never do.
      compared: how many states were compared.
    """

    a: Run
    b: Run
    settings: list[tuple[str, Any, Any]]
    machine: list[tuple[str, Any, Any]]
    curves: dict[str, list[tuple[float | None, float | None]]]
    first: dict[str, Any] | None
    compared: int

    @property
    def identical(self) -> bool:
        """Whether every state that both runs noted is the same to the bit."""
        return self.first is None and self.compared > 0

    def _difference(self) -> str:
        if not self.compared:
            return "the runs have no hashes of one epoch or batch in common"
        if self.first is None:
            return f"same bits: all {self.compared} states that both have noted are equal"
        first = self.first
        names = ", ".join(first["tensors"][:4]) + (
            f" and {len(first['tensors']) - 4} more" if len(first["tensors"]) > 4 else ""
        )
        where = f"epoch {first['epoch']}" + (f", batch {first['batch']}" if first["batch"] else ", its end")
        before = f"; equal until {first['equal']}" if first["equal"] else "; no earlier state is equal"
        return f"first difference: {where}, in {len(first['tensors'])} of {first['of']} tensors ({names}){before}"

    def _curves(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for name, pairs in self.curves.items():
            last = [next((p[i] for p in reversed(pairs) if p[i] is not None), None) for i in (0, 1)]
            gap = max((abs(x - y) for x, y in pairs if x is not None and y is not None), default=math.nan)
            rows.append(
                [
                    name,
                    *("" if v is None else f"{v:.6g}" for v in last),
                    "" if math.isnan(gap) else f"{gap:.3g}",
                ]
            )
        return ["quantity", f"{self.a.name}, last", f"{self.b.name}, last", "largest difference"], rows

    def __str__(self) -> str:
        parts = [f"{self.a.path} and {self.b.path}", self._difference()]
        for title, rows in (("asked for otherwise:", self.settings), ("made otherwise:", self.machine)):
            if rows:
                short = [[k, *apart(x, y)] for k, x, y in rows]
                parts.append(f"{title}\n" + table(["", self.a.name, self.b.name], short))
        if not self.settings:
            parts.append("the same settings")
        header, rows_of = self._curves()
        return "\n\n".join([*parts, *([table(header, rows_of)] if rows_of else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        settings = html_table(
            ["", self.a.name, self.b.name], [(k, *apart(x, y)) for k, x, y in self.settings]
        )
        return f"<p>{html.escape(self._difference())}</p>{settings}{html_table(*self._curves())}"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "a": str(self.a.path), "b": str(self.b.path), "identical": self.identical, "compared": self.compared, "first": self.first,
            "settings": [list(r) for r in self.settings], "machine": [list(r) for r in self.machine],
            "curves": {k: [list(p) for p in v] for k, v in self.curves.items()},
        }  # fmt: skip


def apart(a: Any, b: Any) -> list[str]:
    """Two values in at most 48 characters each, of long ones from a little before the first that differs."""
    texts = ["–" if value is None else str(value) for value in (a, b)]
    shared = next((i for i, (x, y) in enumerate(zip(*texts, strict=False)) if x != y), 0)
    begin = max(shared - 12, 0) if max(map(len, texts)) > 48 else 0
    texts = ["… " * (begin > 0) + text[begin:] for text in texts]
    return [text if len(text) <= 48 else text[:46] + " …" for text in texts]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            k: v
            for key, inner in value.items()
            for k, v in _flat(inner, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: value}


def compare(a: Run | str | os.PathLike[str], b: Run | str | os.PathLike[str]) -> Comparison:
    """What two runs were asked for and made with otherwise, their curves, and the first state at which their parameters differ.

    The states are those whose hashes were noted while training (proof.jsonl): the end of each epoch, and the batches 1, 4, 16, 64, …
    of the first.
    """
    first, second = open_run(a), open_run(b)
    left = {
        k: v
        for k, v in _flat(first.info).items()
        if k.split(".")[0] not in _PASSING and not k.endswith(".time")
    }
    right = {
        k: v
        for k, v in _flat(second.info).items()
        if k.split(".")[0] not in _PASSING and not k.endswith(".time")
    }
    found = [
        (k, left.get(k), right.get(k)) for k in dict.fromkeys((*left, *right)) if left.get(k) != right.get(k)
    ]
    found = [row for row in found if not row[0].startswith("settings.train_on")]
    if _descriptions(first) != _descriptions(second):
        found.append(("network", "model.json", "is another"))
    machine = [row for row in found if row[0].startswith(_MACHINE)]
    settings = [row for row in found if not row[0].startswith(_MACHINE)]
    difference, compared = first_difference(_proof(first), _proof(second))
    return Comparison(first, second, settings, machine, _curves_of(first, second), difference, compared)


def _descriptions(run: Run) -> Any:
    try:
        return run.description
    except (RunError, OSError):
        return None


def _proof(run: Run) -> list[dict[str, Any]]:
    return json_lines(run.path / "proof.jsonl") if run.path.is_dir() else []


def first_difference(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> tuple[dict[str, Any] | None, int]:
    """The first state of two lists of hashes that is not the same in both, and how many both have."""

    def by_place(lines: list[dict[str, Any]]) -> dict[tuple[int, float], dict[str, Any]]:
        found = {}
        for line in lines:
            epoch, batch = line.get("epoch"), line.get("batch")
            if isinstance(epoch, int) and isinstance(batch, int) and isinstance(line.get("tensors"), dict):
                found[epoch, float(batch) if batch else math.inf] = line
        return found

    left, right = by_place(a), by_place(b)
    places = sorted(left.keys() & right.keys())
    equal = ""
    for epoch, batch in places:
        x, y = left[epoch, batch], right[epoch, batch]
        number = 0 if math.isinf(batch) else int(batch)
        if x.get("sha256") != y.get("sha256"):
            names = [
                k
                for k in dict.fromkeys((*x["tensors"], *y["tensors"]))
                if x["tensors"].get(k) != y["tensors"].get(k)
            ]
            return {
                "epoch": epoch,
                "batch": number,
                "tensors": names,
                "of": len({*x["tensors"], *y["tensors"]}),
                "equal": equal,
            }, len(places)
        equal = f"the end of epoch {epoch}" if not number else f"epoch {epoch}, batch {number}"
    return None, len(places)


def _curves_of(a: Run, b: Run) -> dict[str, list[tuple[float | None, float | None]]]:
    left, right = a.history, b.history
    names = [k for k in dict.fromkeys(k for r in (*left, *right) for k in r) if k not in ("epoch", "seconds")]
    count = max(len(left), len(right))

    def value(records: Any, i: int, name: str) -> float | None:
        found = records[i].get(name) if i < len(records) else None
        return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None

    return {name: [(value(left, i, name), value(right, i, name)) for i in range(count)] for name in names}

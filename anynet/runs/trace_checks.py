"""`check_trace`: a trace computed again here, and both sides beside a float64 run of the same program."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from anynet import random
from anynet.nn import init
from anynet.nn.description import DescriptionError, build
from anynet.nn.module import Module
from anynet.ops.precision import SHORT
from anynet.runs.comparing import table
from anynet.runs.reading import RunError, json_of
from anynet.runs.tracing import FORMAT, Program, compute
from anynet.testing.comparing import LIMITS, distance
from anynet_backends import resolve, safetensors_io

__all__ = ["TraceCheck", "TraceRow", "check_trace", "ulps_of"]

_DIGITS = {"float32": 24, "float64": 53}
_SHORT_UNIT = {"tf32": 2.0**-11, "bfloat16": 2.0**-8, "float16": 2.0**-11}
_MOST = 256 << 20  # bytes of a trace
_WHAT = ("output", "loss", "gradient of output", "gradient", "weights")


@dataclass(frozen=True)
class TraceRow:
    """One array of a trace beside the same of the float64 run.

    `recorded`, `here`: ‖x − y‖ / ‖y‖ of the recorded array x, and of the one computed on this machine, with y of float64.
    `recorded_ulps`, `here_ulps`: max |x − y| in units in the last place of max |y| in the dtype of the trace. `apart`: ‖recorded −
    here‖ / ‖here‖. `says`: what is wrong, "" where nothing is.
    """

    step: int
    what: str
    name: str
    recorded: float
    recorded_ulps: float
    here: float
    here_ulps: float
    apart: float
    limit: float
    says: str = ""

    @property
    def ok(self) -> bool:
        """Whether both sides are within the limit."""
        return not self.says


@dataclass
class TraceCheck:
    """What came of checking a trace; `where`: on what it was recorded, `first`: the first row in the order of computing that diverges."""

    path: str
    where: dict[str, Any]
    device: str
    dtype: str
    precision: str | None
    rows: list[TraceRow] = field(default_factory=list)

    @property
    def first(self) -> TraceRow | None:
        """The first row that is not within its limit."""
        return next((row for row in self.rows if not row.ok), None)

    @property
    def ok(self) -> bool:
        """Whether no row diverges."""
        return self.first is None

    def __str__(self) -> str:
        w = self.where
        note = f", {w['note']}" if w.get("note") else ""
        kind = self.dtype if self.precision is None else f"{self.dtype}, {self.precision}"
        head = (
            f"{self.path}: {kind}, recorded by {w.get('library')} on {w.get('device')} ({w.get('backend')}{note}); "
            f"here: {self.device}; both beside float64"
        )
        shown = [
            [
                f"{r.step}", r.what, r.name, f"{r.recorded:.1e}", _short(r.recorded_ulps), f"{r.here:.1e}", _short(r.here_ulps),
                f"{r.apart:.1e}", r.says,
            ]
            for r in self.rows
        ]  # fmt: skip
        columns = ["step", "", "", "recorded", "ulp", "here", "ulp", "apart", ""]
        first = self.first
        end = (
            f"no divergence in {len(self.rows)} arrays"
            if first is None
            else f"first divergence: step {first.step}, {first.what} {first.name}: {first.says}".replace(
                " :", ":"
            )
        )
        return "\n\n".join([head, table(columns, shown), end])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "trace": self.path, "ok": self.ok, "recorded": self.where, "device": self.device, "dtype": self.dtype,
            "precision": self.precision, "first": None if self.first is None else _plain(self.first),
            "rows": [_plain(row) for row in self.rows],
        }  # fmt: skip


def _short(ulps: float) -> str:
    return f"{ulps:,.1f}" if ulps < 1e6 else f"{ulps:.1e}"


def _plain(row: TraceRow) -> dict[str, Any]:
    return {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in asdict(row).items()}


def ulps_of(x: Any, y: Any, dtype: str) -> float:
    """max |x − y| in units in the last place of max |y| in a dtype; inf where a value is not finite or the shapes differ."""
    if x.shape != y.shape:
        return math.inf
    if not x.size:
        return 0.0
    wide = y.astype("float64")
    gap, scale = float(abs(x.astype("float64") - wide).max()), float(abs(wide).max())
    if not (math.isfinite(gap) and math.isfinite(scale)):
        return math.inf
    lowest = {"float32": -149, "float64": -1074}[dtype]
    place = math.ldexp(1.0, max(math.frexp(scale)[1] - _DIGITS[dtype], lowest))
    return gap / place


def check_trace(path: str | os.PathLike[str], model: Any = None, *, device: str = "cpu") -> TraceCheck:
    """Compute a trace's program again on a device and in float64, and compare: `TraceCheck`.

    Parameters:
      path: a trace, written by `record_trace` or `ci.torch_trace`.
      model: the network, or a function that makes it, where it is of the user's own classes: nothing is executed because a trace names it.
      device: where to compute; the float64 run is NumPy's.

    Each side may be as far from float64 as the project promises (float32: 1e-5 of the norm for outputs and losses, 1e-4 for gradients and
    weights; float64: 1e-10; with products in fewer bits 10 and 40 times their unit roundoff).

    Errors: `RunError` (a ValueError) for a file that is no trace, is damaged, or whose network is not the one that is given.
    """
    name = os.fspath(path)
    if os.path.isfile(name) and os.path.getsize(name) > _MOST:
        msg = f"{name} is too large for a trace: {os.path.getsize(name):,} bytes, at most {_MOST:,} are read"
        raise RunError(msg)
    try:
        arrays, metadata = safetensors_io.load(name)
    except ValueError as error:
        raise RunError(str(error)) from None
    if metadata.get("anynet trace") != FORMAT:
        msg = f"{name} is no trace of the format {FORMAT}: record one with `anynet parity record MODEL FILE`"
        raise RunError(msg)
    program = _program(name, arrays, metadata, model)
    recorded = _values(name, arrays, metadata)
    where = _table(name, metadata, "where")
    home = resolve(device)[1]
    here, exact = compute(program, home), compute(program, "cpu", "float64")
    made = TraceCheck(name, where, home, program.dtype, program.precision)
    keys = list(dict.fromkeys([*exact.values, *recorded, *here.values]))
    for key in keys:
        made.rows.append(_row(key, program, recorded.get(key), here.values.get(key), exact.values.get(key)))
    for side, raised in (
        ("recorded", metadata.get("raised", "")),
        ("here", here.raised),
        ("float64", exact.raised),
    ):
        if raised:
            no = math.inf
            made.rows.append(TraceRow(0, f"raised ({side})", "", no, no, no, no, no, no, f"{raised:.200}"))
    return made


def _row(key: tuple[int, str, str], program: Program, recorded: Any, here: Any, exact: Any) -> TraceRow:
    step, what, name = key
    values, gradients = LIMITS[program.dtype]
    if program.precision is not None:
        unit = _SHORT_UNIT[SHORT[program.precision]]
        values, gradients = 10 * unit, 40 * unit
    limit = values if what in ("output", "loss") and step == 1 else gradients
    sides = {"recorded": recorded, "here": here}
    far, steps = {}, {}
    for side, x in sides.items():
        there = x is not None and exact is not None
        far[side] = distance(x, exact) if there else math.inf
        steps[side] = ulps_of(x, exact, program.dtype) if there else math.inf
    apart = distance(recorded, here) if recorded is not None and here is not None else math.inf
    says = []
    if exact is None:
        says.append("not computed in float64")
    for side, x in sides.items():
        if x is None:
            says.append(f"{side}: there is none")
        elif exact is not None and x.shape != exact.shape:
            says.append(f"{side}: shape {tuple(x.shape)}, in float64 {tuple(exact.shape)}")
        elif exact is not None and not far[side] <= limit:
            says.append(f"{side}: beyond {limit:.0e}")
    return TraceRow(
        step,
        what,
        name,
        far["recorded"],
        steps["recorded"],
        far["here"],
        steps["here"],
        apart,
        limit,
        "; ".join(says),
    )


# ----- reading -----


def _table(name: str, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    found = json_of(metadata.get(key, "null"), f"{name}: {key}")
    if not isinstance(found, dict):
        msg = f"{name} is damaged: {key} must be a table, got {type(found).__name__}"
        raise RunError(msg)
    return found


def _values(
    name: str, arrays: Mapping[str, Any], metadata: Mapping[str, str]
) -> dict[tuple[int, str, str], Any]:
    """The recorded arrays by step, kind and name."""
    order = json_of(metadata.get("values", "null"), f"{name}: values")
    found: dict[tuple[int, str, str], Any] = {}
    for i, key in enumerate(order if isinstance(order, list) else [None]):
        fine = (
            isinstance(key, list)
            and len(key) == 3
            and type(key[0]) is int
            and key[1] in _WHAT
            and isinstance(key[2], str)
        )
        if not fine or tuple(key) in found or f"value|{i}" not in arrays:
            msg = f"{name} is damaged: entry {i} of values is {key!r:.80}"
            raise RunError(msg)
        found[key[0], key[1], key[2]] = arrays[f"value|{i}"]
    known = {f"value|{i}" for i in range(len(found))}
    strange = [
        k for k in arrays if k not in known and not k.startswith(("state|", "input|")) and k != "target"
    ]
    if strange:
        msg = f"{name} is damaged: it has the array {strange[0]!r:.80}, which a trace has not"
        raise RunError(msg)
    return found


def _program(name: str, arrays: Mapping[str, Any], metadata: Mapping[str, str], given: Any) -> Program:
    """The program of a trace, with its network and weights."""
    facts = _table(name, metadata, "program")
    state = {k.removeprefix("state|"): v for k, v in arrays.items() if k.startswith("state|")}
    inputs = _inputs(name, arrays)
    program = Program(
        _network(name, facts.get("model"), state, given, training=facts.get("training") is not False), inputs, arrays.get("target"),
        facts.get("loss"), facts.get("optimizer", "sgd"), facts.get("steps", 0), _whole(name, facts.get("seed", 0)),
        facts.get("dtype", ""), facts.get("precision"),
    )  # fmt: skip
    try:
        return program.check()
    except (TypeError, ValueError) as error:
        msg = f"{name}: {error}"
        raise RunError(msg) from None


def _whole(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        msg = f"{name} is damaged: seed must be a whole number from 0, got {value!r:.40}"
        raise RunError(msg)
    return value


def _inputs(name: str, arrays: Mapping[str, Any]) -> Sequence[Any]:
    keys = [k for k in arrays if k.startswith("input|")]
    wanted = [f"input|{i}" for i in range(len(keys))]
    if not keys or sorted(keys) != sorted(wanted):
        msg = f"{name} is damaged: its inputs are {', '.join(sorted(keys)[:5]) or 'none'}"
        raise RunError(msg)
    return [arrays[k] for k in wanted]


def _network(name: str, described: Any, state: Mapping[str, Any], given: Any, *, training: bool) -> Module:
    """The network with the recorded weights: from its description, which names this library alone, or the one that was given."""
    if given is not None:
        module = given if isinstance(given, Module) else given()
        if not isinstance(module, Module):
            msg = f"check_trace: model must be a Module or a function that makes one, got {type(module).__name__}"
            raise RunError(msg)
    elif isinstance(described, dict) and isinstance(described.get("description"), dict):
        try:
            with init.skipped(draw=False), random.fork_rng():
                module = build(described["description"])
        except (DescriptionError, ValueError, TypeError, MemoryError, OverflowError) as error:
            msg = f"{name}: its network cannot be made: {error!s:.200}"
            raise RunError(msg) from None
    else:
        code = described.get("code") if isinstance(described, dict) else None
        msg = f"{name} is of a network of one's own ({code!r:.80}): name it, anynet parity check FILE module:Class (or file.py:make)"
        raise RunError(msg)
    shapes = {k: (tuple(v.shape), v.dtype.name) for k, v in module.state_dict().items()}
    found = {k: (tuple(v.shape), str(v.dtype)) for k, v in state.items()}
    if shapes != found:
        key = next(k for k in (*shapes, *found) if shapes.get(k) != found.get(k))
        msg = f"{name}: the network has {key} {shapes.get(key)}, the trace {found.get(key)}"
        raise RunError(msg)
    module.load_state_dict(dict(state))
    return module.train(training)

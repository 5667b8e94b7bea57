"""`diff`: the first step, layer and number of units in the last place where two runs part.

Each run has noted hashes of its weights (proof.jsonl). Up to the first unequal one both are trained again on this machine, and
compared after every step; at the first that differs, layer by layer.
"""

from __future__ import annotations

import contextlib
import html
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anynet.autograd.pytree import flatten
from anynet.explanations.layers import Call, layer_calls
from anynet.runs.comparing import Comparison, apart, compare, table
from anynet.runs.reading import RunError, checkpoint, json_lines
from anynet.runs.run import Run, open_run
from anynet.runs.verifying import trained_again
from anynet.tensor import unwrap
from anynet.train import Callback
from anynet.train.proof import hashes
from anynet.train.training import Training
from anynet_backends import backend_of, host

__all__ = ["Divergence", "diff"]


@dataclass
class Divergence:
    """Where two runs part.

    Attributes:
      comparison: what `compare` finds: settings, machines, the first noted state that differs.
      step: (epoch, batch) of the first step after which the runs differ when trained again; None where they do not, or were not.
      place: what differs first in that step: "initial weights", "batch", "layer", "loss", "gradient" or "update".
      name: of the layer or parameter; `ulps`: the largest difference in units in the last place; `relative`: the largest difference, by the
        largest number; `count` of `size` numbers differ.
      replayed: what training again has shown, in words.
    """

    comparison: Comparison
    step: tuple[int, int] | None = None
    place: str = ""
    name: str = ""
    ulps: int = 0
    relative: float = 0.0
    count: int = 0
    size: int = 0
    replayed: str = ""
    also: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether all noted states are the same to the bit."""
        return self.comparison.identical

    def _where(self) -> str:
        if self.identical:
            return f"same bits in all {self.comparison.compared} noted states"
        if self.step is None:
            return self.comparison._difference()
        epoch, batch = self.step
        what = {
            "layer": "output of layer",
            "gradient": "gradient of",
            "update": "update of",
            "initial weights": "initial weights,",
        }
        found = (
            f"identical up to epoch {epoch}, batch {batch - 1}"
            if batch > 1
            else f"identical up to the start of epoch {epoch}"
        )
        if self.place == "initial weights":
            found = "different from the start"
        size = f"{self.relative:.1e}, {self.ulps:,} ulp, {self.count} of {self.size} numbers"
        if self.ulps >= 2**62:
            size = "not comparable (NaN, another shape or dtype)"
        thing = f"{what.get(self.place, self.place)} {self.name}".strip()
        return f"{found}; first in epoch {epoch}, batch {batch}: {thing}: {size}"

    def __str__(self) -> str:
        parts = [f"{self.comparison.a.path} and {self.comparison.b.path}", self._where()]
        if self.also:
            parts.append("then: " + "; ".join(self.also))
        if self.replayed:
            parts.append(self.replayed)
        for title, rows in (
            ("asked for otherwise:", self.comparison.settings),
            ("made otherwise:", self.comparison.machine),
        ):
            if rows:
                short = [[k, *apart(x, y)] for k, x, y in rows[:12]]
                parts.append(
                    f"{title}\n" + table(["", self.comparison.a.name, self.comparison.b.name], short)
                )
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "a": str(self.comparison.a.path), "b": str(self.comparison.b.path), "identical": self.identical,
            "compared": self.comparison.compared, "noted": self.comparison.first,
            "step": None if self.step is None else {"epoch": self.step[0], "batch": self.step[1]}, "place": self.place or None,
            "name": self.name or None, "ulps": self.ulps, "relative": self.relative, "count": self.count, "size": self.size,
            "then": self.also, "replayed": self.replayed or None, "settings": [list(r) for r in self.comparison.settings],
            "machine": [list(r) for r in self.comparison.machine],
        }  # fmt: skip


def diff(
    a: Run | str | os.PathLike[str], b: Run | str | os.PathLike[str], *, data: Any = None, options: Mapping[str, Any] | None = None,
    replay: bool = True,
) -> Divergence:  # fmt: skip
    """The first step, layer and number of units in the last place where two runs part.

    Parameters:
      a, b: two runs: of two machines, of two versions, with two settings.
      data, options: as of `verify`, for runs of `fit` in a script, whose folders do not say how they were trained.
      replay: train both again where they differ (with False only the noted states are compared).

    The folders are not touched. Where both give the same bits when trained again here, the difference is one of machines or versions,
    and the result says which of the two runs this machine agrees with.
    """
    found = Divergence(compare(open_run(a), open_run(b)))
    first = found.comparison.first
    if first is None or not replay:
        return found
    target = (first["epoch"], first["batch"])
    try:
        with tempfile.TemporaryDirectory(prefix="anynet-diff-") as scratch:
            left, right = (
                _as_then(_steps, run, Path(scratch) / n, target, data, options)
                for n, run in (("a", found.comparison.a), ("b", found.comparison.b))
            )
            place = next((k for k in sorted(left.keys() & right.keys()) if left[k] != right[k]), None)
            found.replayed = _agreement(found.comparison, target, left, right)
            if place is None:
                found.replayed += _checkpoints(found.comparison)
                return found
            found.step = (max(place[0], 1), max(place[1], 1))
            moments = [
                _as_then(_moment, run, Path(scratch) / n, found.step, data, options)
                for n, run in (("c", found.comparison.a), ("d", found.comparison.b))
            ]
    except (RunError, OSError) as error:
        found.replayed = f"not trained again: {error}"
        return found
    _locate(found, *moments)
    return found


# ----- training again -----


class _Noting(Callback):
    """The hash of the weights before the first step and after each."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], str] = {}

    def on_train_begin(self, run: Training) -> None:
        """The initial weights."""
        self.found[0, 0] = hashes(run.model.state_dict())[0]

    def on_batch_end(self, run: Training) -> None:
        """After a step."""
        self.found[run.epoch, run.batch] = hashes(run.model.state_dict())[0]


class _Looking(Callback):
    """What one step is made of: weights before, batch, outputs of layers, loss, gradients, weights after."""

    def __init__(self, place: tuple[int, int]) -> None:
        self.place = place
        self.parts: list[tuple[str, str, Any]] = []
        self.calls: list[Call] = []
        self.hooks = contextlib.ExitStack()

    def on_batch_begin(self, run: Training) -> None:
        """Watch the layers, where this is the step."""
        if (run.epoch, run.batch + 1) == self.place:
            if self.place == (1, 1):
                self.parts += [("initial weights", k, _host(v)) for k, v in run.model.state_dict().items()]
            self.calls = self.hooks.enter_context(layer_calls(run.model))

    def on_batch_end(self, run: Training) -> None:
        """Note the step."""
        if (run.epoch, run.batch) != self.place:
            return
        self.hooks.close()
        for name, tree in (("inputs", run.inputs), ("targets", run.targets)):
            self.parts += [("batch", name, _host(x)) for x in flatten(tree)[0] if hasattr(x, "shape")]
        for call in self.calls:
            self.parts += [
                ("layer", f"{call.name} ({type(call.module).__name__})", _host(y)) for y in call.outputs
            ]
        self.parts.append(("loss", "", float(run.loss)))
        named = list(run.model.named_parameters())
        self.parts += [
            ("gradient", k, _host(p.grad))
            for k, p in reversed(named)
            if p.edge is not None and p.grad is not None
        ]
        self.parts += [("update", k, _host(v)) for k, v in run.model.state_dict().items()]


def _host(x: Any) -> Any:
    plain = unwrap(x)
    return backend_of(plain).to_host(plain).copy()


def _options(run: Run, options: Mapping[str, Any] | None, mine: Callback, **more: Any) -> dict[str, Any]:
    settings = run.info.get("settings")
    given = settings.get("train_on") if isinstance(settings, Mapping) else None
    chosen = {**((given.get("fit") or {}) if isinstance(given, Mapping) else {}), **(options or {})}
    others = chosen.get("callbacks")
    listed = list(others) if isinstance(others, (list, tuple)) else [] if others is None else [others]
    return {**(options or {}), "callbacks": [*listed, mine], **more}


def _switches(variables: Mapping[str, Any]) -> dict[str, str]:
    """Those of the environment's variables that change what is computed."""
    return {
        k: str(v)
        for k, v in variables.items()
        if k.startswith("ANYNET_") and k not in ("ANYNET_CACHE", "ANYNET_DATA", "ANYNET_DEBUG")
    }


def _as_then(
    function: Callable[..., Any], run: Run, folder: Path, place: tuple[int, int], data: Any, options: Mapping[str, Any] | None
) -> Any:  # fmt: skip
    """The result of `_steps` or `_moment`, in a process with the run's own ANYNET_* variables where they are others than now."""
    environment = run.info.get("environment")
    then = _switches(environment.get("variables") or {}) if isinstance(environment, Mapping) else {}
    if then == _switches(os.environ) or data is not None or options is not None:
        return function(run, folder, place, data, options)
    result = folder.with_suffix(".pickle")
    code = (
        "import pickle, sys, pathlib; from anynet.runs import diverging, open\n"
        "name, run, folder, epoch, batch, out = sys.argv[1:]\n"
        "found = getattr(diverging, name)(open(run), pathlib.Path(folder), (int(epoch), int(batch)), None, None)\n"
        "pathlib.Path(out).write_bytes(pickle.dumps(found))"
    )
    kept = {k: v for k, v in os.environ.items() if k not in _switches(os.environ)}
    args = [function.__name__, str(run.path.resolve()), str(folder), *map(str, place), str(result)]
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env={**kept, **then, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        msg = f"{run.path}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"
        raise RunError(msg)
    return pickle.loads(result.read_bytes())


def _steps(
    run: Run, folder: Path, target: tuple[int, int], data: Any, options: Mapping[str, Any] | None
) -> dict[tuple[int, int], str]:
    """The hashes after each step up to a noted state."""
    noting = _Noting()
    trained_again(run, folder, target, None, data, _options(run, options, noting))
    return noting.found


def _moment(
    run: Run, folder: Path, place: tuple[int, int], data: Any, options: Mapping[str, Any] | None
) -> list[tuple[str, str, Any]]:
    looking = _Looking(place)
    # as it is, and not as a program: layers are watched, and the bits are the same
    trained_again(run, folder, place, None, data, _options(run, options, looking, compile=False))
    return looking.parts


def _agreement(
    comparison: Comparison, target: tuple[int, int], left: Mapping[tuple[int, int], str], right: Mapping[tuple[int, int], str]
) -> str:  # fmt: skip
    """What training again says of the runs themselves."""
    words = []
    for run, steps in ((comparison.a, left), (comparison.b, right)):
        noted = {
            (n.get("epoch"), n.get("batch")): n.get("sha256") for n in json_lines(run.path / "proof.jsonl")
        }
        reached = steps.get(target) if target[1] else steps[max(steps)]
        words.append("its own bits" if noted.get(target) == reached else "other bits than it had")
    a, b = comparison.a.name, comparison.b.name
    said = f"trained again here, {a} gives {words[0]}, {b} gives {words[1]}"
    if all(left[k] == right[k] for k in left.keys() & right.keys()):
        said += "; both give the same bits here, so that the runs differ by their machines or versions"
    return said + "."


def _checkpoints(comparison: Comparison) -> str:
    """How far the weights of two runs are apart at their last checkpoints, where these are of one place."""
    try:
        trees = [checkpoint(run.path / "last.safetensors") for run in (comparison.a, comparison.b)]
    except (RunError, OSError):
        return ""
    (left, right), places = trees, [(t.get("epoch"), t.get("batch")) for t in trees]
    if places[0] != places[1] or left["model"].keys() != right["model"].keys():
        return ""
    steps = {k: host.ulps(_host(v), _host(right["model"][k])) for k, v in left["model"].items()}
    name, most = max(steps.items(), key=lambda item: item[1])
    differ = sum(n > 0 for n in steps.values())
    return f" At their last checkpoints {differ} of {len(steps)} tensors differ, most {name}: {most:,} ulp."


# ----- one step -----


def _locate(found: Divergence, left: list[tuple[str, str, Any]], right: list[tuple[str, str, Any]]) -> None:
    """The first part of a step that differs, and how the difference goes on."""
    worst: dict[str, tuple[int, str]] = {}
    for (place, name, x), (_, other, y) in zip(left, right, strict=False):
        steps, relative, count, size = _gap(x, y)
        if name != other:
            found.also.append(f"{name} in one, {other} in the other")
            break
        if not steps:
            continue
        if not found.place:
            found.place, found.name, found.ulps, found.relative, found.count, found.size = (
                place,
                name,
                steps,
                relative,
                count,
                size,
            )
        elif steps > worst.get(place, (0, ""))[0]:
            worst[place] = (steps, name)
    found.also += [
        f"{f'{place} {name}'.strip()}: {steps:,} ulp"
        for place, (steps, name) in worst.items()
        if steps < 2**62
    ]


def _gap(x: Any, y: Any) -> tuple[int, float, int, int]:
    """Units in the last place, the relative difference, how many numbers differ, of how many."""
    if isinstance(x, float):
        gap = abs(x - y) / max(abs(y), 1e-300)
        return (0 if x == y or (x != x and y != y) else max(1, round(gap * 2**24)), gap, 1, 1)
    steps = host.ulps(x, y)
    if not steps or x.shape != y.shape:
        return steps, 0.0, 0, int(x.size)
    a, b = x.astype("float64"), y.astype("float64")
    scale = float(abs(b).max()) or 1.0
    return steps, float(abs(a - b).max()) / scale, int((x != y).sum()), int(x.size)

"""Operators that run graphs of their own: If, Loop and Scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import anynet as an
from anynet.onnx.operators.calling import give, numbers, room, spend, take

__all__ = ["CONTROL", "check"]


def check(node: Any, graphs: dict[str, Any]) -> None:
    """ValueError where the inputs and outputs of a node are not those of its graphs."""
    if node.op == "If":
        if any(len(g.outputs) != len(node.outputs) or g.inputs for g in graphs.values()):
            raise ValueError(f"its branches must have no inputs, and {len(node.outputs)} outputs")
        return
    body, more = graphs["body"], int(node.op == "Loop")
    if node.op == "Scan" and node.version < 9:
        raise ValueError("it must be of version 9 or later: Scan of version 8 has a batch of its own")
    if len(body.inputs) != len(node.inputs) or len(body.outputs) != len(node.outputs) + more:
        counts = f"{len(node.inputs)} inputs and {len(node.outputs) + more} outputs"
        raise ValueError(f"its body must have {counts}, got {len(body.inputs)} and {len(body.outputs)}")


def _if(node: Any, args: list[Any], values: dict[str, Any], module: Any) -> list[Any]:
    branch = "then_branch" if numbers(args[0], "Number") else "else_branch"
    return list(node.attributes[branch].run(dict(values), module))


class _Outputs:
    """What a body gives at each step, joined along new axes at the end. It counts as held until then."""

    def __init__(self, body: Any, kinds: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        self.kinds, self.size = kinds, 0
        self.found: list[list[Any]] = [[] for _ in kinds]

    def add(self, values: Sequence[Any]) -> None:
        for kept, y in zip(self.found, values, strict=True):
            self.size += take(y)
            kept.append(y)

    def joined(self, axes: Sequence[int], backwards: Sequence[int]) -> list[Any]:
        made = []
        for kept, (dtype, shape), axis, back in zip(self.found, self.kinds, axes, backwards, strict=True):
            if kept:
                room((len(kept), *kept[0].shape))
            whole = (
                an.stack(kept[::-1] if back else kept, axis=axis)
                if kept
                else an.zeros((0, *shape), dtype=dtype)
            )
            made.append(whole)
        return made

    def give(self) -> None:
        give(self.size)


def _loop(node: Any, args: list[Any], values: dict[str, Any], module: Any) -> list[Any]:
    """So many times, as long as the condition holds: what is carried on, then what each step gives."""
    body, carried = node.attributes["body"], args[2:]
    limit = math.inf if args[0] is None else int(numbers(args[0], "Number"))
    going = args[1] is None or bool(numbers(args[1], "Number"))
    n, step = len(carried), 0
    outputs = _Outputs(body, node.attributes["kinds"][1 + n :])
    try:
        while going and step < limit:
            spend(1 + len(body.nodes))
            first = [an.asarray(step, dtype=an.int64, device="cpu"), an.asarray(going, device="cpu")]
            found = body.run(values | dict(zip(body.inputs, [*first, *carried], strict=True)), module)
            going, carried = bool(numbers(found[0], "Number")), found[1 : 1 + n]
            outputs.add(found[1 + n :])
            step += 1
        return [*carried, *outputs.joined([0] * len(outputs.kinds), [0] * len(outputs.kinds))]
    finally:
        outputs.give()


def _scan(node: Any, args: list[Any], values: dict[str, Any], module: Any) -> list[Any]:
    """Along an axis of its last inputs: the states, then what each step gives."""
    a, body = node.attributes, node.attributes["body"]
    count = a["num_scan_inputs"]
    if not 1 <= count <= len(args):
        raise ValueError(f"num_scan_inputs must be from 1 to {len(args)}, got {count}")
    states, scanned = args[: len(args) - count], args[len(args) - count :]
    n = len(states)
    outputs = _Outputs(body, a["kinds"][n:])
    k = len(outputs.kinds)
    axes, backwards = (a.get(f"scan_input_{name}") or [0] * count for name in ("axes", "directions"))
    lengths = {x.shape[axis] for x, axis in zip(scanned, axes, strict=True)}
    if len(lengths) != 1:
        raise ValueError(f"it must go along one length, got {sorted(lengths)}")
    (length,) = lengths
    moved = [an.moveaxis(x, axis, 0) for x, axis in zip(scanned, axes, strict=True)]
    try:
        for i in range(length):
            spend(1 + len(body.nodes))
            parts = [x[length - 1 - i if back else i, ...] for x, back in zip(moved, backwards, strict=True)]
            found = body.run(values | dict(zip(body.inputs, [*states, *parts], strict=True)), module)
            states = found[:n]
            outputs.add(found[n:])
        return [
            *states,
            *outputs.joined(a.get("scan_output_axes") or [0] * k, a.get("scan_output_directions") or [0] * k),
        ]
    finally:
        outputs.give()


CONTROL: dict[str, Callable[[Any, list[Any], dict[str, Any], Any], list[Any]]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
}
"""By the operator's name: its outputs, from the node, its inputs, all values around it, and the module."""

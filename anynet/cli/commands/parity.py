"""anynet parity."""

from __future__ import annotations

import os
from dataclasses import asdict, is_dataclass
from typing import Any

import click

from anynet import random
from anynet.cli.commands.networks import network_named
from anynet.cli.grammar import Choice, Number, Output, Result, Whole, argument, command, option
from anynet.runs.reading import RunError
from anynet.runs.trace_checks import check_trace
from anynet.runs.tracing import FORMAT, LONGEST, Program, record_trace
from anynet.tensor import Tensor, no_grad
from anynet.testing.parity import check, measure, record, table
from anynet.train.objectives import Objective
from anynet_backends import philox, registry, safetensors_io

__all__ = ["parity"]


@command(
    "parity", argument("words", "devices, or record [MODEL] FILE [DEVICE], or check FILE [MODEL]", count=-1, required=False),
    option("input", click.STRING, "the shape of random inputs: 8x784; int:8x16:100 for integers below 100", metavar="SHAPE",
           shown="what MODEL gives"),
    option("loss", click.STRING, "cross_entropy, mse, …, to random targets", shown="mean of squares", metavar="NAME"),
    option("optimizer", click.STRING, "sgd, adam, …", "sgd", metavar="NAME"),
    option("lr", Number(0), "the learning rate", shown="the optimizer's"),
    option("steps", Whole(1), "steps of the optimizer", 3),
    option("seed", Whole(0), "of weights, inputs and what is drawn", 0),
    option("dtype", Choice("float32", "float64"), "of the network", "float32"),
    option("precision", Choice("tf32", "mixed-bf16", "mixed-fp16"), "of the products", shown="that of the network"),
    option("note", click.STRING, "what else is to be said of where it ran", "", shown="none", metavar="TEXT"),
    option("device", click.STRING, "where check computes", "cpu", metavar="DEVICE"),
)  # fmt: skip
def parity(output: Output, words: tuple[str, ...], **options: Any) -> Result:
    """Every operation on every device of this machine, against NumPy; traces of a network that another machine checks.

    \b
    anynet parity [DEVICE …]                    compare every operation now
    anynet parity record FILE [DEVICE]          keep what a device computes for every operation
    anynet parity record MODEL FILE [DEVICE]    keep some steps of a training: each layer, gradient, weight
    anynet parity check FILE [MODEL]            compare such a file with what this machine computes

    MODEL is module:Name or file.py:name, a network or a function that makes it, or (network, inputs …, target);
    or a .json file with a network as plain data (the model.json of a run). Nothing but that is executed. A trace is
    compared array by array with a float64 run of the same program. The exit code is 1 where something diverges.
    """
    if words[:1] == ("record",):
        return _record(words[1:], options)
    if words[:1] == ("check",):
        return _check(words[1:], options)
    rows = measure(list(words) or None)
    return Result([_plain(row) for row in rows], table(rows), 0 if all(row.ok for row in rows) else 1)


def _record(words: tuple[str, ...], options: dict[str, Any]) -> Result:
    named = bool(words) and (":" in words[0] or words[0].endswith(".json"))
    if not words or len(words) - named not in (1, 2):
        raise click.UsageError(
            "parity record takes a file and at most one device: anynet parity record [MODEL] FILE [DEVICE]"
        )
    if not named:
        written = record(words[0], words[1] if len(words) == 2 else "auto")
        return Result({"file": words[0], "arrays": written}, f"{written} arrays in {words[0]}")
    file, device = words[1], words[2] if len(words) == 3 else "cpu"
    size = record_trace(file, _program(words[0], options), device, code=_code(words[0]), note=options["note"])
    return Result({"file": file, "bytes": size}, f"{size:,} bytes in {file}")


def _check(words: tuple[str, ...], options: dict[str, Any]) -> Result:
    if len(words) not in (1, 2):
        raise click.UsageError("parity check takes one file: anynet parity check FILE [MODEL]")
    if _is_trace(words[0]):
        model = network_named(words[1])[0] if len(words) == 2 else None
        found = check_trace(words[0], model, device=options["device"])
        return Result(found.to_json(), str(found), 0 if found.ok else 1)
    if len(words) == 2:
        raise click.UsageError(f"{words[0]} is no trace of a network, so that there is no use for {words[1]}")
    rows = check(words[0])
    return Result([_plain(row) for row in rows], table(rows), 0 if all(row.ok for row in rows) else 1)


def _is_trace(path: str) -> bool:
    try:
        return safetensors_io.load(path)[1].get("anynet trace") == FORMAT
    except ValueError as error:
        raise RunError(str(error)) from None


def _plain(row: Any) -> dict[str, Any]:
    return asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(vars(row))


# ----- what is traced -----


def _code(model: str) -> str | None:
    """How a trace says which code made its network: without folders, which are of this machine."""
    place, _, name = model.rpartition(":")
    return f"{os.path.basename(place)}:{name}" if place else None


def _program(model: str, options: dict[str, Any]) -> Program:
    random.manual_seed(options["seed"])
    network, given = network_named(model)
    seed, loss = options["seed"], options["loss"]
    target = None
    if options["input"] is not None:
        given = [_drawn(part, seed, i) for i, part in enumerate(options["input"].split(","))]
    elif loss is not None and len(given) > 1:
        *given, target = given
    if not given:
        raise click.UsageError("MODEL gives no inputs: say their shape, input=8x784")
    made: dict[str, Any] = {"name": options["optimizer"]} | (
        {} if options["lr"] is None else {"lr": options["lr"]}
    )
    program = Program(
        network.to(options["dtype"]), [registry.asarray(_host(x)) for x in given], None if target is None else _host(target), loss, made,
        min(options["steps"], LONGEST + 1), seed, options["dtype"], options["precision"],
    )  # fmt: skip
    if loss is not None and target is None:
        program.target = _target(program, seed)
    return program


def _host(x: Any) -> Any:
    return x.numpy() if hasattr(x, "numpy") else x


def _drawn(text: str, seed: int, stream: int) -> Any:
    """Inputs of a shape such as 8x784, normally distributed, or integers: int:8x16:100."""
    parts = text.split(":")
    try:
        sizes = parts[0] if len(parts) == 1 else parts[1]
        shape = tuple(int(n) for n in sizes.split("x"))
        top = int(parts[2]) if len(parts) == 3 and parts[0] == "int" else 0
        if min(shape) < 1 or len(parts) not in (1, 3) or (len(parts) == 3 and top < 1):
            raise ValueError
    except (ValueError, IndexError):
        raise click.UsageError(f"input={text!r}: expected a shape such as 8x784, or int:8x16:100") from None
    if top:
        return registry.asarray(philox.uniform(seed, 21, stream, shape, 0.0, float(top)), dtype="int64")
    return registry.asarray(philox.normal(seed, 21, stream, shape), dtype="float32")


def _target(program: Program, seed: int) -> Any:
    """A random target of the loss: classes, or numbers of the output's shape."""
    inputs = [
        Tensor(x).to(program.dtype) if Tensor(x).dtype.is_floating else Tensor(x) for x in program.inputs
    ]
    with no_grad(), random.fork_rng(seed):
        out = program.model(*inputs)
    labels = Objective(program.loss).labels
    if labels is not None and labels[0] == "classes":
        shape = (out.shape[0], *out.shape[2:])
        return registry.asarray(philox.uniform(seed, 22, 0, shape, 0.0, float(out.shape[1])), dtype="int64")
    return registry.asarray(philox.uniform(seed, 22, 0, tuple(out.shape)), dtype=program.dtype)

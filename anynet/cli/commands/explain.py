"""anynet explain."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from anynet import nn, random
from anynet.cli.commands.networks import network_named
from anynet.cli.grammar import Output, Result, Whole, argument, command, option
from anynet.data import default_collate
from anynet.explanations import Explanation
from anynet.explanations import explain as explained
from anynet.explanations.expressions import value_of
from anynet.ops.creation import asarray
from anynet.runs import open as open_run
from anynet.runs.scoring import objective_of
from anynet.train.objectives import Objective

__all__ = ["explain"]


@command(
    "explain", argument("target", "an expression, such as \"tanh(w*x+b)\", a layer, loss, optimizer or function, a run, or file.py:network",
                        kind=click.STRING),
    option("sample", Whole(0), "of a run: which sample of the held-out part, counted from 0", shown="0"),
    option("digits", Whole(1), "how many digits numbers are shown with", 6),
    option("out", click.Path(), "write the explanation to a file: .html, .tex, .json or .txt", metavar="FILE"),
    variables=True,
)  # fmt: skip
def explain(output: Output, target: str, sample: int | None, digits: int, out: str | None) -> Result:
    """The mathematics of something, with its numbers, each of them checked.

    \b
    anynet explain "tanh(w*x+b)" w=-2 x=1.5 b=0     the chain rule of an expression
    anynet explain "sum((A@v)**2)" A=[[1,2],[3,4]] v=1,2
    anynet explain nn.LSTM | F.gelu | optim.Adam    equation, gradient, source, and a check made now
    anynet explain RUN sample=17                    a sample of the held-out part through the network, layer by layer
    anynet explain net.py:net x=[[1,2]] y=[[0.5]] loss=mse     a network of one's own, layer by layer

    Each derivative is computed by the textbook's formula, by autograd and by finite differences in double precision. The exit code is 1
    where these do not agree.
    """
    variables = click.get_current_context().meta["variables"]
    path = Path(target)
    misspelt = "/" in target and not variables and path.parent.is_dir()  # open_run says what is not there
    if target.strip() and (path.exists() or misspelt):
        found = _of_run(target, sample or 0, digits, variables)
    elif ":" in target:
        found = _of_network(target, digits, variables)
    else:
        if sample is not None:
            variables["sample"] = str(sample)
        found = explained(target, digits=digits, **variables)
    if out is not None:
        found.save(out)
        output.say(f"written to {out}")
    return Result(found.to_json(), "" if out else str(found), 0 if found.ok else 1)


def _of_network(target: str, digits: int, variables: dict[str, str]) -> Explanation:
    """A network of the user's with the inputs that are given, else with those that come with it. Numbers without a point stay integers
    where indices or classes are expected."""
    loss = variables.pop("loss", None)
    random.manual_seed(0)  # the same numbers at each call
    network, inputs = network_named(target)
    if variables:
        order = _in_order(network, list(variables), loss is not None)
        given = [value_of(variables[name]) for name in order]
        target_given = [given.pop()] if loss is not None else []
        indices = any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in network.modules())
        classes = loss is not None and Objective(loss).labels is not None
        inputs = [
            *(x if indices else asarray(x, dtype="float64") for x in given),
            *(y if classes else asarray(y, dtype="float64") for y in target_given),
        ]
    if not inputs:
        raise click.UsageError(
            f"{target} needs inputs: x=[[1,2]], and a target with its loss: y=[[0.5]] loss=mse"
        )
    return explained(network, *inputs, loss=loss, digits=digits)


def _in_order(network: nn.Module, names: list[str], with_target: bool) -> list[str]:
    """The names of inputs in the order in which `forward` takes them, that of a target last; as they are given where `forward` has none
    of them."""
    taken = list(inspect.signature(network.forward).parameters)
    own = [name for name in taken if name in names]
    others = [name for name in names if name not in taken]
    if not own or len(names) == 1:
        return names
    missing = [name for name in taken[: len(own)] if name not in names]
    if missing or len(others) != with_target:
        target = ", and a target under another name" if with_target else ""
        raise click.UsageError(f"forward takes {', '.join(taken)}{target}; got {', '.join(names)}")
    return own + others


def _of_run(path: str, sample: int, digits: int, variables: dict[str, Any]) -> Explanation:
    """One sample of the held-out part of a run."""
    if variables:
        raise click.UsageError(f"a run has no variables, got {', '.join(variables)}")
    run = open_run(path)
    data = run.validation()
    if data is None:
        msg = f"{path} has no held-out data to take a sample from"
        raise ValueError(msg)
    if sample >= len(data):
        msg = f"sample must be in [0, {len(data) - 1}], got {sample}"
        raise ValueError(msg)
    inputs, target = default_collate([data[sample]])[:2]  # of one sample a weight changes nothing
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    return explained(run.model().eval(), *given, target, loss=objective_of(run.info), digits=digits)

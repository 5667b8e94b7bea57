"""anynet plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anynet import models
from anynet._hints import nearest
from anynet.cli.commands.settings import DATA, NETWORK, SEED, given_of, source_given
from anynet.cli.grammar import Names, Output, Result, Switch, Whole, argument, command, option
from anynet.nn.module import Module
from anynet.planning import plan as planned

__all__ = ["plan"]


@command(
    "plan", argument("what", "a source (table, folder, text, name of a data set) or a network of anynet.models"),
    option("input", Names(Whole(1), "N,N,…"), "the shape of a network's input with the batch, such as 32,3,224,224"),
    option("memory", click.STRING, "what there is, such as 12GB: the largest batch that fits", metavar="SIZE"),
    option("batch_size", Whole(1), "samples a step", shown="that of input, or by the data"),
    option("optimizer", click.STRING, "its state counts", "adam", metavar="NAME"),
    option("trial", Switch(), "measure a small batch on this machine; 0: by shapes alone", True, shown="1"),
    SEED, *DATA, *NETWORK,
)  # fmt: skip
def plan(
    output: Output, what: str, input: tuple[int, ...] | None, memory: str | None, batch_size: int | None, optimizer: str, trial: bool,
    **given: Any,
) -> Result:  # fmt: skip
    """What a training would take, before it begins: layers, parameters, operations, memory, time; the largest batch that fits.

    \b
    anynet plan houses.csv target=price          anynet plan resnet50 input=32,3,224,224 memory=12GB

    The exit code is 1 where the batch does not fit into memory=.
    """
    asked, network = _of(what, input, given)
    found = planned(
        asked, input, network=network, batch_size=batch_size, optimizer=optimizer, memory=memory, trial=trial
    )
    return Result(found.to_json(), str(found), 1 if found.fits is False else 0)


def _of(what: str, shape: tuple[int, ...] | None, given: dict[str, Any]) -> tuple[Any, Module | None]:
    """The source or network of a name, and the network of a source."""
    settings = given_of(given, NETWORK)
    known = {n.lower(): n for n in models.__all__}
    if what.lower() in known and not Path(what).exists():
        if shape is None:
            raise click.UsageError(
                f"{what} needs the shape of its input with the batch: input=32,3,224,224, say"
            )
        if other := [*given_of(given, DATA), *given_of(given, NETWORK[:1])]:
            raise click.UsageError(f"{what} is a network, which has no option {other[0]}")
        made = getattr(models, known[what.lower()])(**settings)
        if not isinstance(made, Module):
            raise click.UsageError(f"{what} is no network{nearest(what, known)}")
        return made, None
    source = source_given(what, given)
    return source, source.network(settings.pop("model", None), **settings)

"""Networks that the user names on the command line."""

from __future__ import annotations

import importlib
import os
import runpy
from pathlib import Path
from typing import Any

import click

from anynet import nn
from anynet.nn.description import build
from anynet.runs.reading import json_table

__all__ = ["network_named"]


def network_named(model: str) -> tuple[nn.Module, list[Any]]:
    """The network of ``module:Name``, ``file.py:name`` or a ``.json`` file, and what follows it: inputs, a target. Only what the
    user has named is imported or run."""
    made = _named(model)
    first, *rest = made if isinstance(made, (tuple, list)) else (made,)
    if not isinstance(first, nn.Module):
        raise click.UsageError(
            f"MODEL must give a network, or (network, inputs …), got {type(first).__name__}"
        )
    return first, rest


def _named(model: str) -> Any:
    if model.endswith(".json"):
        return build(json_table(Path(model)))
    place, _, name = model.rpartition(":")
    if not place or not name:
        raise click.UsageError(f"MODEL must be module:Name, file.py:name or a .json file, got {model!r}")
    if place.endswith(".py"):
        if not os.path.isfile(place):
            raise click.UsageError(f"there is no file {place}")
        found = runpy.run_path(place, run_name=Path(place).stem).get(name)
    else:
        try:
            found = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise click.UsageError(f"MODEL {model!r}: {error}") from None
        for part in name.split("."):
            found = getattr(found, part, None)
    if found is None:
        raise click.UsageError(f"MODEL {model!r}: {place} has no {name}")
    return found if isinstance(found, (nn.Module, tuple, list)) else found()

"""The path of the layer that is being called, for messages of anomaly mode and profiling."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from anynet.autograd.location import locators
from anynet_backends.concurrency import ThreadStack

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["current_layer", "path_of", "paths", "watch"]

paths: ThreadStack[list[Module]] = ThreadStack("layer_paths")
"""Stacks of the modules being called in a thread, outermost first: one stack for each active observer (anomaly mode, profiler)."""


_known: dict[tuple[int, ...], str] = {}
"""The paths of stacks by the identities of their modules, while the same observers are active: finding one walks through the modules."""


def current_layer() -> str:
    """The path of the layer that is being called, such as "Net.encoder.2"; "" outside of layers or while no observer is active."""
    stack = paths.own[-1] if paths and paths.own else []
    if not stack:
        return ""
    key = tuple([id(m) for m in stack])
    found = _known.get(key)
    if found is None:
        found = _known[key] = path_of(stack)
    return found


def watch(on: bool) -> None:
    """Start (or, with False, stop) recording the path of the layers being called in this thread; calls nest."""
    _known.clear()
    if on:
        paths.append(paths.own[-1] if paths.own else [])
    else:
        paths.pop()


def path_of(chain: list[Module]) -> str:
    """Such as "Net.encoder.2", for modules each of which lies within the one before."""
    names = [type(chain[0]).__name__]
    for outer, inner in itertools.pairwise(chain):
        name = next((n for n, m in outer.named_modules() if m is inner), None)
        names.append(name or type(inner).__name__)
    return ".".join(names)


locators.append((watch, current_layer))

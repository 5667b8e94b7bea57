"""In which layer an operation runs: `anynet.nn` knows, and says it here to those who observe operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["location", "locators", "watching"]

locators: list[tuple[Callable[[bool], None], Callable[[], str]]] = []
"""Pairs (switch on or off, path of the layer that is running), which `anynet.nn` registers."""


def location() -> str:
    """The path of the layer that is running; "" outside of layers, or where nobody is `watching`."""
    return next((name for _, where in locators if (name := where())), "")


@contextmanager
def watching() -> Iterator[None]:
    """Within the block the layers that run are followed."""
    for switch, _ in locators:
        switch(True)
    try:
        yield
    finally:
        for switch, _ in locators:
            switch(False)

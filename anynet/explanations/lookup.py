"""Things by the names that people write: ``nn.LSTM``, ``F.gelu``, ``optim.Adam``, ``tanh``."""

from __future__ import annotations

import difflib
import inspect
import sys
from typing import Any

from anynet import fft, linalg, losses, nn, optim, special
from anynet.explanations.recording import ExplanationError
from anynet.ops import elementwise, linear, manipulation, reductions
from anynet.optim import lr_scheduler

__all__ = ["object_named"]

_NAMESPACES: dict[str, tuple[Any, ...]] = {
    "nn": (nn,), "F": (nn.functional,), "functional": (nn.functional,), "nn.functional": (nn.functional,), "optim": (optim,),
    "optim.lr_scheduler": (lr_scheduler,), "lr_scheduler": (lr_scheduler,), "losses": (losses,), "special": (special,),
    "linalg": (linalg,), "fft": (fft,), "init": (nn.init,), "nn.init": (nn.init,),
    "": (nn, optim, elementwise, nn.functional, special, reductions, linear, manipulation, losses, lr_scheduler, linalg, nn.init),
}  # fmt: skip


def object_named(name: str) -> Any:
    """The class or function of a name; `ExplanationError` with the nearest one where there is none.

    >>> object_named("nn.GELU"), object_named("an.tanh"), object_named("optim.Adam").__name__
    (<class 'anynet.nn.activations.GELU'>, <primitive tanh(x: 'Array', /)>, 'Adam')
    """
    plain = name.removeprefix("anynet.").removeprefix("an.").removeprefix("torch.")
    where, _, last = plain.rpartition(".")
    spaces = _NAMESPACES.get(where)
    if spaces is None:
        msg = f"there is no {where!r} with layers or functions in it; there are nn, F, init, optim, losses, special, linalg, fft"
        raise ExplanationError(msg)
    if not where:
        spaces = (
            *spaces,
            sys.modules["anynet"],
        )  # what the package itself has; it is being imported when this module is
    for space in spaces:
        if _explainable(space, last):
            return getattr(space, last)
    known = sorted({n for space in spaces for n in dir(space) if _explainable(space, n)})
    if plain in _NAMESPACES:
        first = next(n for n in dir(_NAMESPACES[plain][0]) if _explainable(_NAMESPACES[plain][0], n))
        msg = f"{name!r} holds layers or functions: give one of them, such as {plain}.{first}"
        raise ExplanationError(msg)
    close = [n for n in known if n.lower() == last.lower()] or difflib.get_close_matches(last, known, 1)
    msg = f"there is no {name!r}" + (
        f"; did you mean {f'{where}.' if where else ''}{close[0]}?" if close else ""
    )
    raise ExplanationError(msg)


def _explainable(space: Any, name: str) -> bool:
    found = getattr(space, name, None)
    return not name.startswith("_") and callable(found) and not inspect.ismodule(found)

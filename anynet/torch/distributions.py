"""`torch.distributions`: the families of `anynet.distributions`, whose values are tensors of this room.

A family is a class derived from anynet's, so that `isinstance` and the divergences of `kl_divergence` hold for both.
"""

from __future__ import annotations

import functools
import re
import sys
from types import ModuleType
from typing import Any

from anynet import distributions as _families
from anynet.distributions import Distribution
from anynet.distributions import constraints as _constraints
from anynet.tensor import Tensor as _Tensor
from anynet.torch.sizes import Size
from anynet.torch.tensor import adopt

_METHODS = ("sample", "rsample", "log_prob", "cdf", "icdf", "entropy", "perplexity", "enumerate_support")
_PROPERTIES = (
    "mean",
    "mode",
    "variance",
    "stddev",
    "probs",
    "logits",
    "covariance_matrix",
    "precision_matrix",
    "scale_tril",
)


def _method(of: Any) -> Any:
    @functools.wraps(of)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return adopt(of(self, *args, **kwargs))

    return call


def _size(of: Any) -> property:
    return property(lambda self: Size(of.fget(self)), doc=of.__doc__)


def _family(kind: Any) -> type:
    """A family, whose attributes and results are tensors of this room."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, *args, **kwargs)
        for value in vars(self).values():
            if isinstance(value, _Tensor):
                adopt(value)

    made: dict[str, Any] = {
        "__init__": functools.wraps(kind.__init__)(init),
        "__doc__": kind.__doc__,
        "__module__": __name__,
    }
    made |= {name: _method(found) for name in _METHODS if (found := getattr(kind, name, None)) is not None}
    for name in _PROPERTIES:
        found = getattr(kind, name, None)
        if isinstance(found, property):
            made[name] = property(_method(found.fget), doc=found.__doc__)
    for name in ("batch_shape", "event_shape"):
        made[name] = _size(getattr(kind, name))
    return type(kind.__name__, (kind,), made)


def _transform(kind: type) -> type:
    """A transform, whose results are tensors of this room, also of numbers."""
    made: dict[str, Any] = {"__doc__": kind.__doc__, "__module__": __name__}
    names = ("__call__", "inv", "log_abs_det_jacobian")
    made |= {name: _method(found) for name in names if callable(found := getattr(kind, name, None))}
    return type(kind.__name__, (kind,), made)


class dependent_property(property):  # noqa: N801 - PyTorch's name
    """A constraint that depends on the distribution: ``@constraints.dependent_property(is_discrete=False, event_dim=0)``."""

    def __new__(cls, fn: Any = None, **about: Any) -> Any:
        """The property of a function; without one the decorator."""
        return property(fn) if fn is not None else property


def _extended_shape(self: Any, sample_shape: Any = ()) -> Size:
    """The shape of a sample."""
    return Size(self._shape(sample_shape))


def _validate_sample(self: Any, value: Any) -> None:
    """ValueError for a value of another shape or outside of the support."""
    self._checked(value)


def _sample_n(self: Any, n: int) -> Any:
    """``sample((n,))``"""
    return self.sample((n,))


# what distributions that scripts define call of themselves; the base is anynet's own, so it stands there
Distribution._extended_shape, Distribution._validate_sample = _extended_shape, _validate_sample  # type: ignore[attr-defined]
Distribution.sample_n = _sample_n  # type: ignore[attr-defined]
Distribution._validate_args = property(lambda self: self._validate)  # type: ignore[attr-defined]


def _all() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _families.__all__:
        value = getattr(_families, name)
        if isinstance(value, type) and issubclass(value, Distribution) and value is not Distribution:
            value = _family(value)
        elif isinstance(value, type) and name not in ("Transform", "ComposeTransform"):
            value = _transform(value)
        found[name] = value
    return found


__all__ = list(_families.__all__)
globals().update(_all())
constraints = ModuleType(f"{__name__}.constraints", _constraints.__doc__)
vars(constraints).update(
    {n: getattr(_constraints, n) for n in _constraints.__all__}, dependent_property=dependent_property
)
transforms = ModuleType(f"{__name__}.transforms", _families.transforms.__doc__)
vars(transforms).update(
    {n: v for n, v in globals().items() if n.endswith("Transform") or n == "identity_transform"}
)


def kl_divergence(p: Any, q: Any) -> Any:
    """KL(p ‖ q) of two distributions of which there is a closed form."""
    return adopt(_families.kl_divergence(p, q))


def _paths() -> None:
    """PyTorch's modules of one family each: `torch.distributions.normal`, `.log_normal`, …"""
    here = sys.modules[__name__]
    names = {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in __all__ if name[0].isupper()}
    for name in sorted(names - {"distribution"} | {"distribution", "kl", "studentT"}):
        sys.modules[f"{__name__}.{name}"] = here
        vars(here).setdefault(name, here)
    sys.modules[f"{__name__}.constraints"] = constraints
    sys.modules[f"{__name__}.transforms"] = transforms


_paths()

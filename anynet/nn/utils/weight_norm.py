"""Weight and spectral normalization as PyTorch's older functions have them: by a hook that runs before forward.

`anynet.nn.utils.parametrizations` has the newer ones, which keep the attribute itself up to date; these serve models whose
files hold ``weight_g`` and ``weight_v``, or ``weight_orig``, ``weight_u`` and ``weight_v``.
"""

from __future__ import annotations

from typing import Any

from anynet import streams
from anynet.nn.hooks import MakesAttribute
from anynet.nn.module import Module
from anynet.nn.utils.parametrizations import (
    as_matrix,
    check_power,
    norm_but,
    over_largest,
    power_method,
    unit,
    usual_dim,
)
from anynet.tensor import Buffer, Parameter, Tensor, no_grad

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _Hook(MakesAttribute):
    """Before each forward pass, sets the attribute `name` of a module to what its other parameters make of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def value(self, module: Module) -> Any:
        raise NotImplementedError

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.value(module))

    def present(self, module: Module) -> Any:
        """The value for the parameters as they are: a spectral norm moves its vectors in training only."""
        training = module.training
        try:
            module.training = False
            return self.value(module)
        finally:
            module.training = training


def _parameter(module: Module, name: str, where: str) -> Any:
    """The value of the parameter that a hook is to make."""
    for other in module._forward_pre_hooks:
        if isinstance(other, _Hook) and other.name == name:
            msg = f"{where}: {name!r} of {type(module).__name__} is already made by {type(other).__name__.strip('_')}"
            raise RuntimeError(msg)
    weight = getattr(module, name, None)
    if not isinstance(weight, Parameter):
        msg = f"{where}: {type(module).__name__} has no parameter {name!r}, got {type(weight).__name__}"
        raise ValueError(msg)
    return weight.detach()


def _replace(module: Module, hook: _Hook, parts: dict[str, Tensor]) -> Module:
    """Put the parts in the place of the parameter that the hook makes of them."""
    delattr(module, hook.name)
    for part, value in parts.items():
        setattr(module, hook.name + part, value)
    hook(module, ())
    module.register_forward_pre_hook(hook)
    return module


def _remove(module: Module, name: str, kind: type[_Hook], parts: tuple[str, ...], where: str) -> Module:
    found = [h for h in module._forward_pre_hooks if isinstance(h, kind) and h.name == name]
    if not found:
        msg = f"{where}: {name!r} of {type(module).__name__} is not made by {where.removeprefix('remove_')}"
        raise ValueError(msg)
    with no_grad():
        weight = found[0].present(module)
    delattr(module, name)
    for part in parts:
        delattr(module, name + part)
    setattr(module, name, Parameter(weight))
    module._forward_pre_hooks = tuple(h for h in module._forward_pre_hooks if h is not found[0])
    return module


class _WeightNorm(_Hook):
    def __init__(self, name: str, dim: int | None) -> None:
        super().__init__(name)
        self.dim = dim

    def value(self, module: Module) -> Any:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_but(v, self.dim))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """w = g v / ‖v‖ with the parameters ``weight_g`` and ``weight_v`` (Salimans & Kingma 2016), ‖v‖ over all axes but `dim`, or
    over all with None.

    >>> import anynet as an
    >>> layer = an.nn.utils.weight_norm(an.nn.Linear(3, 2))
    >>> {k: v.shape for k, v in layer.state_dict().items()}
    {'bias': (2,), 'weight_g': (2, 1), 'weight_v': (2, 3)}
    """
    weight = _parameter(module, name, "weight_norm")
    hook = _WeightNorm(name, None if dim == -1 else dim)  # −1 is None in PyTorch
    return _replace(module, hook, {"_g": Parameter(norm_but(weight, hook.dim)), "_v": Parameter(weight)})


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make `name` a parameter again, with the value that it has.

    >>> import anynet as an
    >>> layer = an.nn.utils.weight_norm(an.nn.Linear(3, 2))
    >>> list(an.nn.utils.remove_weight_norm(layer).state_dict())
    ['bias', 'weight']
    """
    return _remove(module, name, _WeightNorm, ("_g", "_v"), "remove_weight_norm")


class _SpectralNorm(_Hook):
    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__(name)
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim, eps

    def value(self, module: Module) -> Any:
        weight = getattr(module, f"{self.name}_orig")
        left, right = getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        matrix = as_matrix(weight, self.dim)
        if module.training:  # v before u, as PyTorch's older function does
            power_method(matrix.T, right, left, self.eps, self.n_power_iterations)
        return over_largest(weight, matrix, left, right)


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """w / σ(w), σ the largest singular value of w as a matrix with the axis `dim` first (Miyato et al. 2018); by the power
    method, `n_power_iterations` at each forward pass in training. The parameter is ``weight_orig``; ``weight_u`` and
    ``weight_v`` are buffers. `dim` is 1 for transposed convolutions, else 0.

    >>> import anynet as an
    >>> layer = an.nn.utils.spectral_norm(an.nn.Linear(3, 2))
    >>> {k: v.shape for k, v in layer.state_dict().items()}
    {'bias': (2,), 'weight_orig': (2, 3), 'weight_u': (2,), 'weight_v': (3,)}
    """
    weight = _parameter(module, name, "spectral_norm")
    dim = check_power(weight, n_power_iterations, usual_dim(module) if dim is None else dim)
    parts: dict[str, Tensor] = {"_orig": Parameter(weight)}
    for part, n in zip(("_u", "_v"), as_matrix(weight, dim).shape, strict=True):
        drawn = Tensor(streams.normal((n,)), dtype=weight.dtype, device=weight.device)
        parts[part] = Buffer(unit(drawn, eps))
    return _replace(module, _SpectralNorm(name, n_power_iterations, dim, eps), parts)


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make `name` a parameter again, with the value that it has.

    >>> import anynet as an
    >>> layer = an.nn.utils.spectral_norm(an.nn.Linear(3, 2))
    >>> list(an.nn.utils.remove_spectral_norm(layer).state_dict())
    ['bias', 'weight']
    """
    return _remove(module, name, _SpectralNorm, ("_orig", "_u", "_v"), "remove_spectral_norm")

"""Weight and spectral normalization as PyTorch's older functions have them: by a hook that runs before forward.

`anynet.nn.utils.parametrizations` has the newer ones, which keep the attribute itself up to date; these serve models whose
files hold ``weight_g`` and ``weight_v``, or ``weight_orig``, ``weight_u`` and ``weight_v``.
"""

from __future__ import annotations

from typing import Any

from anynet import random
from anynet.nn.module import Module
from anynet.nn.utils.parametrizations import as_matrix, check_power, norm_but, unit, usual_dim
from anynet.ops.reductions import sum
from anynet.tensor import Buffer, Parameter, Tensor, no_grad

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _Hook:
    """Before each forward pass, sets the attribute `name` of a module to what its other parameters make of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def value(self, module: Module) -> Any:
        raise NotImplementedError

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.value(module))


def _begin(module: Module, hook: _Hook, where: str) -> Parameter:
    """The parameter that the hook will make, taken away from the module."""
    for other in module._forward_pre_hooks:
        if isinstance(other, _Hook) and other.name == hook.name:
            msg = f"{where}: {hook.name!r} of {type(module).__name__} is already made by {type(other).__name__.strip('_')}"
            raise RuntimeError(msg)
    weight = getattr(module, hook.name, None)
    if not isinstance(weight, Parameter):
        msg = f"{where}: {type(module).__name__} has no parameter {hook.name!r}, got {type(weight).__name__}"
        raise ValueError(msg)
    delattr(module, hook.name)
    return weight


def _end(module: Module, hook: _Hook) -> Module:
    hook(module, ())
    module.register_forward_pre_hook(hook)
    return module


def _remove(module: Module, name: str, kind: type[_Hook], parts: tuple[str, ...], where: str) -> Module:
    found = [h for h in module._forward_pre_hooks if isinstance(h, kind) and h.name == name]
    if not found:
        msg = f"{where}: {name!r} of {type(module).__name__} is not made by {where.removeprefix('remove_')}"
        raise ValueError(msg)
    training = module.training
    try:  # a spectral norm moves its vectors in training only
        module.training = False
        with no_grad():
            weight = found[0].value(module)
    finally:
        module.training = training
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
    hook = _WeightNorm(name, None if dim == -1 else dim)  # −1 is None in PyTorch
    weight = _begin(module, hook, "weight_norm").detach()
    setattr(module, f"{name}_g", Parameter(norm_but(weight, hook.dim)))
    setattr(module, f"{name}_v", Parameter(weight))
    return _end(module, hook)


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
        u, v = left.detach(), right.detach()
        if module.training:
            with no_grad():
                plain = matrix.detach()
                for _ in range(self.n_power_iterations):
                    v = unit(plain.T @ u, self.eps)
                    u = unit(plain @ v, self.eps)
                left.assign_(u)
                right.assign_(v)
        return weight / sum((u + 0.0) * (matrix @ (v + 0.0)))  # as they are now: a later call moves them on


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
    weight = getattr(module, name, None)
    if isinstance(weight, Parameter):
        dim = check_power(weight, n_power_iterations, usual_dim(module) if dim is None else dim)
    hook = _SpectralNorm(name, n_power_iterations, dim or 0, eps)
    kept = _begin(module, hook, "spectral_norm").detach()
    setattr(module, f"{name}_orig", Parameter(kept))
    for part, n in zip(("_u", "_v"), as_matrix(kept, hook.dim).shape, strict=True):
        drawn = Tensor(random.normal((n,)), dtype=kept.dtype, device=kept.device)
        setattr(module, name + part, Buffer(unit(drawn, eps)))
    return _end(module, hook)


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make `name` a parameter again, with the value that it has.

    >>> import anynet as an
    >>> layer = an.nn.utils.spectral_norm(an.nn.Linear(3, 2))
    >>> list(an.nn.utils.remove_spectral_norm(layer).state_dict())
    ['bias', 'weight']
    """
    return _remove(module, name, _SpectralNorm, ("_orig", "_u", "_v"), "remove_spectral_norm")

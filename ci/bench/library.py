"""The library under test as a workload sees it: `from ci.bench.library import F, nn, xp`.

A process measures one library. The environment variable ANYNET_BENCH_LIBRARY, `anynet` (the default) or `torch`, says which; the same
source then builds the network of either. `nn` and `F` are the library's own, under PyTorch's names. `xp` has the functions of the array
API, with the axis by its name: ``xp.mean(x, axis=-1, keepdims=True)``, ``xp.concat([a, b], axis=1)``, ``xp.permute_dims(x, (0, 2, 1))``.
What the two spell in different ways has one name here:

=====================================  ==========================================================================================
`array(a)`                             a NumPy array as a Tensor
`grad(f)`, `value_and_grad(f)`         derivatives of a scalar function by its first argument, an array or a dictionary of arrays;
                                       they can be differentiated again; ``has_aux=True`` as in JAX
`functional_call(net, parameters, x)`  the network with other parameters
`no_grad()`                            a context without recording
`optimizer(parameters, name, lr)`      "adam", "adamw", "sgd", "momentum" or "sparse adam"
`index_add(x, index, values)`          x with values[k] added to row index[k]
`parameters(*nets)`                    those of all
`synchronize()`                        waits for the device: the environment variable ANYNET_BENCH_DEVICE, cpu by default
=====================================  ==========================================================================================
"""

from __future__ import annotations

import os
from typing import Any

__all__ = [
    "LIBRARY", "F", "array", "compile", "functional_call", "grad", "index_add", "nn", "no_grad", "optimizer", "parameters",
    "synchronize", "to_double", "value_and_grad", "xp",
]  # fmt: skip

LIBRARY = os.environ.get("ANYNET_BENCH_LIBRARY", "anynet")
"""The name of the library of this process."""

if LIBRARY == "anynet":
    from ci.bench.library_anynet import (
        F,
        array,
        compile,
        functional_call,
        grad,
        index_add,
        make_optimizer,
        nn,
        no_grad,
        synchronize,
        to_double,
        value_and_grad,
        xp,
    )
elif LIBRARY == "torch":
    from ci.bench.library_torch import (
        F,
        array,
        compile,
        functional_call,
        grad,
        index_add,
        make_optimizer,
        nn,
        no_grad,
        synchronize,
        to_double,
        value_and_grad,
        xp,
    )
else:
    raise ValueError(f"ANYNET_BENCH_LIBRARY must be 'anynet' or 'torch', got {LIBRARY!r}")


def optimizer(given: Any, name: str = "adam", lr: float = 1e-3) -> Any:
    """An optimizer of the library; "momentum" is SGD with momentum 0.9."""
    return make_optimizer(list(given), name, lr)


def parameters(*nets: Any) -> list[Any]:
    """The parameters of all networks."""
    return [p for net in nets for p in net.parameters()]

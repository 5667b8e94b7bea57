"""`torch.nn.parallel`: a network on the one device of a process, and in several processes; on several devices of one, an error."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from anynet.nn import parallel as _parallel
from anynet.torch import nn

__all__ = ["DataParallel", "data_parallel", "parallel"]


def _one_device(device_ids: Any, what: str) -> None:
    if device_ids is not None and len(list(device_ids)) > 1:
        msg = f"{what}: device_ids must name at most one device, got {list(device_ids)}; batches are not divided among devices here"
        raise NotImplementedError(msg)


class DataParallel(nn.Module):  # type: ignore[misc,valid-type]
    """A module under the name ``module``, called as it is: PyTorch's for one device, or none.

    NotImplementedError for several `device_ids`.

    >>> import anynet.torch as torch
    >>> net = torch.nn.DataParallel(torch.nn.Linear(2, 3))
    >>> net(torch.ones(4, 2)).shape, list(net.state_dict())
    (torch.Size([4, 3]), ['module.weight', 'module.bias'])
    """

    def __init__(self, module: Any, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        _one_device(device_ids, "DataParallel")
        self.dim, self.device_ids, self.output_device = dim, list(device_ids or ()), output_device
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The module's result."""
        return self.module(*inputs, **kwargs)


def data_parallel(
    module: Any,
    inputs: Any,
    device_ids: Any = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: Any = None,
) -> Any:
    """The module of the inputs, on one device."""
    _one_device(device_ids, "data_parallel")
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return module(*given, **(module_kwargs or {}))


class DistributedDataParallel(_parallel.DistributedDataParallel):
    """`anynet.nn.parallel.DistributedDataParallel` with PyTorch's arguments; the processes are those of `torch.distributed`.

    NotImplementedError for several `device_ids`.

    >>> import anynet.torch as torch
    >>> net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 3))
    >>> net(torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self, module: Any, device_ids: Any = None, output_device: Any = None, dim: int = 0, broadcast_buffers: bool = True,
        init_sync: bool = True, process_group: Any = None, bucket_cap_mb: float | None = None, find_unused_parameters: bool = False,
        check_reduction: bool = False, gradient_as_bucket_view: bool = False, static_graph: bool = False,
    ) -> None:  # fmt: skip
        _one_device(device_ids, "DistributedDataParallel")
        super().__init__(
            module, process_group, bucket_cap_mb=bucket_cap_mb, broadcast_buffers=broadcast_buffers
        )


parallel = ModuleType("anynet.torch.nn.parallel", "torch.nn.parallel")
vars(parallel).update(
    DataParallel=DataParallel, data_parallel=data_parallel, DistributedDataParallel=DistributedDataParallel
)
parallel.distributed = parallel  # type: ignore[attr-defined]
for _name in (parallel.__name__, f"{parallel.__name__}.distributed"):
    sys.modules[_name] = parallel
nn.DataParallel, nn.parallel = DataParallel, parallel  # type: ignore[attr-defined]

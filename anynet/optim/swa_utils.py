"""Averages of weights: stochastic weight averaging (Izmailov et al. 2018) and exponential moving averages (Polyak)."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

from anynet import dtypes
from anynet.autograd.jit.host_callback import host_callback
from anynet.nn.modes import modes_kept
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.optim.groups import choice, integer, plain, real
from anynet.optim.lr_scheduler.scheduler import LRScheduler, per_group
from anynet.optim.optimizer import Optimizer
from anynet.tensor import Buffer, Tensor, no_grad, to_plain

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
    "update_bn",
]  # fmt: skip


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Any, Any, Any], Any]:
    """average ← decay · average + (1 − decay) · new."""
    if not 0 <= decay <= 1:
        msg = f"get_ema_avg_fn: decay must be in [0, 1], got {decay}"
        raise ValueError(msg)
    return functools.partial(_ema, decay)


def _ema(decay: float, average: Any, new: Any, n: Any) -> Any:
    return decay * average + (1 - decay) * new


def get_swa_avg_fn() -> Callable[[Any, Any, Any], Any]:
    """average ← average + (new − average) / (n + 1): the mean of all."""
    return _mean


def _mean(average: Any, new: Any, n: Any) -> Any:
    return average + (new - average) / (float(n) + 1)


def _for_all(one: Callable[[Any, Any, Any], Any], averages: list[Any], news: list[Any], n: Any) -> None:
    for average, new in zip(averages, news, strict=True):
        if average.dtype.is_floating:
            average.assign_(one(average.detach(), new.detach(), n))
        else:
            average.assign_(new.detach())


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[list[Any], list[Any], Any], None]:
    """`get_ema_avg_fn` of lists of Tensors, in place."""
    return functools.partial(_for_all, get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Callable[[list[Any], list[Any], Any], None]:
    """`get_swa_avg_fn` of lists of Tensors, in place."""
    return functools.partial(_for_all, get_swa_avg_fn())


class AveragedModel(Module):
    """A copy of a model whose weights are averages of the model's: call `update_parameters` after each step (or epoch).

    The first update copies. `avg_fn` (of one average, the new value and the count) or `multi_avg_fn` (of lists, in place)
    say how, the plain mean unless given. With `use_buffers` buffers are averaged too, else they are the model's own.

    >>> import anynet as an
    >>> net = an.nn.Linear(1, 1)
    >>> average = an.optim.swa_utils.AveragedModel(net)
    >>> average.update_parameters(net)
    >>> average(an.zeros((1, 1))).item() == net.bias.item()
    True
    """

    def __init__(
        self,
        model: Module,
        device: str | None = None,
        avg_fn: Callable[[Any, Any, Any], Any] | None = None,
        multi_avg_fn: Callable[[list[Any], list[Any], Any], None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            msg = "AveragedModel: got both avg_fn and multi_avg_fn; give one of them"
            raise ValueError(msg)
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.n_averaged = Buffer(creation.zeros((), dtype=dtypes.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model computes."""
        return self.module(*args, **kwargs)

    def _parts(self, model: Module) -> list[Tensor]:
        return [*model.parameters(), *(model.buffers() if self.use_buffers else ())]

    @host_callback
    def update_parameters(self, model: Module) -> None:
        """Take the model's weights into the average."""
        mine, theirs = self._parts(self.module), self._parts(model)
        shapes = [t.shape for t in mine], [t.shape for t in theirs]
        if shapes[0] != shapes[1]:
            msg = f"AveragedModel: another model than the one it was made of: {type(model).__name__} has other shapes"
            raise ValueError(msg)
        with no_grad():
            news = [Tensor(to_plain(t.detach(), device=a.device)) for a, t in zip(mine, theirs, strict=True)]
            n = int(self.n_averaged)
            if n == 0:
                for average, new in zip(mine, news, strict=True):
                    average.assign_(new)
            else:
                update = self.multi_avg_fn or functools.partial(_for_all, self.avg_fn or get_swa_avg_fn())
                update(mine, news, n)
            if not self.use_buffers:
                for own, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                    own.assign_(to_plain(buffer.detach(), device=own.device))
            self.n_averaged.assign_(n + 1)


def update_bn(loader: Iterable[Any], model: Module, device: str | None = None) -> None:
    """Compute the running statistics of all batch norms again, as plain averages over the batches of `loader` (of inputs,
    or of tuples that begin with them).

    >>> import anynet as an
    >>> net = an.nn.BatchNorm1d(1, momentum=None)
    >>> an.optim.swa_utils.update_bn([an.asarray([[1.0], [3.0]])], net)
    >>> net.running_mean.tolist()
    [2.0]
    """
    modules: list[Any] = list(model.modules())
    norms = [m for m in modules if getattr(m, "running_mean", None) is not None]
    if not norms:
        return
    before = [m.momentum for m in norms]
    try:
        with no_grad(), modes_kept(model):
            model.train()
            for m in norms:
                m.reset_running_stats()
                m.momentum = None
            for batch in loader:
                x = batch[0] if isinstance(batch, (tuple, list)) else batch
                model(
                    creation.asarray(x, device=device)
                    if device is not None or not isinstance(x, Tensor)
                    else x
                )
    finally:
        for m, momentum in zip(norms, before, strict=True):
            m.momentum = momentum


class SWALR(LRScheduler):
    """η goes from its value to `swa_lr` in `anneal_epochs` steps, by a cosine or linearly, and stays (Izmailov 2018).

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.nn.Parameter(an.zeros(1))], lr=1.0)
    >>> schedule = an.optim.swa_utils.SWALR(optimizer, swa_lr=0.1, anneal_epochs=1)
    >>> optimizer.step(); schedule.step()
    >>> [float(lr) for lr in schedule.get_last_lr()]
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self.anneal_epochs: int = self._read("anneal_epochs", integer(0), anneal_epochs)
        self.anneal_strategy = self._read("anneal_strategy", choice("cos", "linear"), anneal_strategy)
        groups = optimizer.param_groups
        rates = [self._read("swa_lr", real(0), rate) for rate in per_group("SWALR", swa_lr, groups, "rates")]
        for group, rate in zip(groups, rates, strict=True):
            group["swa_lr"] = rate
        super().__init__(optimizer, last_epoch)

    def _share(self, t: float) -> float:
        t = max(0.0, min(1.0, t))
        return (1 - math.cos(math.pi * t)) / 2 if self.anneal_strategy == "cos" else t

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if self.anneal_epochs == 0:
            step = max(1, step)
        n = max(1, self.anneal_epochs)
        before = self._share((step - 1) / n)
        now = self._share(step / n)
        out = []
        for group in self.optimizer.param_groups:
            goal, rate = group["swa_lr"], plain(group["lr"])
            start = goal if before == 1 else (rate - before * goal) / (1 - before)
            out.append(goal * now + start * (1 - now))
        return out

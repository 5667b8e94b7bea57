"""Every optimizer: the parameters after ten steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet import optim
from anynet.ops import reductions
from anynet.ops.manipulation import concat
from anynet.ops.manipulation import reshape as reshaped
from anynet.sparse_rows import SparseRows
from anynet.tensor import Parameter, Tensor
from anynet.testing.cases import Case


def _steps(make: Callable[[Any], optim.Optimizer]) -> Callable[[Tensor], Tensor]:
    """The parameters after ten steps down a quartic, times a function of x, so that there is a gradient to compare."""

    def function(x: Tensor) -> Tensor:
        first, second = Parameter(x.detach() + 0.1), Parameter(x.detach()[0, ...] * 0.5)
        optimizer = make([{"params": [first]}, {"params": [second], "lr": 0.003}])

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = reductions.sum(first**4 + (first - second) ** 2 + second)
            loss.backward()
            if optimizer.sparse_only:
                for p in (first, second):
                    p.grad = SparseRows(range(p.shape[0]), p.grad, p.shape)
            return loss

        for _ in range(10):
            optimizer.step(closure)
        final = concat([reshaped(first.detach(), (-1,)), second.detach()])
        return final * reductions.mean(x)

    return function


def _case(name: str, make: Callable[[Any], optim.Optimizer]) -> Case:
    return Case(name, _steps(make), ((2, 3),), 0.2, 0.9, second_order=False, steps=True)


CASES: tuple[Case, ...] = (
    _case("SGD", lambda p: optim.SGD(p, lr=0.01)),
    _case("SGD, Nesterov", lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01)),
    _case("SGD, dampening", lambda p: optim.SGD(p, lr=0.01, momentum=0.9, dampening=0.5)),
    _case("Adagrad", lambda p: optim.Adagrad(p, lr=0.01, lr_decay=0.1)),
    _case("SparseAdam", lambda p: optim.SparseAdam(p, lr=0.01)),
    _case("RMSprop", lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True)),
    _case("Adam", lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.01)),
    _case("Adadelta", lambda p: optim.Adadelta(p, lr=0.5)),
    _case("Adamax", lambda p: optim.Adamax(p, lr=0.01)),
    _case("NAdam", lambda p: optim.NAdam(p, lr=0.01, decoupled_weight_decay=True, weight_decay=0.01)),
    _case("RAdam", lambda p: optim.RAdam(p, lr=0.01)),
    _case("Rprop", lambda p: optim.Rprop(p, lr=0.01)),
    _case("AdamW", lambda p: optim.AdamW(p, lr=0.01)),
    _case("ASGD", lambda p: optim.ASGD(p, lr=0.01, t0=3)),
    _case("Adafactor", lambda p: optim.Adafactor(p, lr=0.01)),
    _case("LAMB", lambda p: optim.LAMB(p, lr=0.01, weight_decay=0.01)),
    _case("LARS", lambda p: optim.LARS(p, lr=0.1, nesterov=True)),
    _case("Lion", lambda p: optim.Lion(p, lr=0.01, weight_decay=0.01)),
    _case("AdaBound", lambda p: optim.AdaBound(p, lr=0.01, amsbound=True)),
    _case("ScheduleFreeAdamW", lambda p: optim.ScheduleFreeAdamW(p, lr=0.01, warmup_steps=3)),
    _case("Muon", lambda p: optim.Muon(p[0]["params"], lr=0.01)),
    _case("ZeroRedundancyOptimizer", lambda p: optim.ZeroRedundancyOptimizer(p, optim.Adam, lr=0.01)),
    _case("LBFGS", lambda p: optim.LBFGS([p[0]["params"][0], p[1]["params"][0]], lr=0.02, max_iter=1)),
)

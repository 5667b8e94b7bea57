"""`check_optimizer`: whether an optimizer does all that an optimizer has to do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from anynet import random
from anynet.autograd.jit.compile import CompileError
from anynet.autograd.jit.compile import compile as compiled
from anynet.autograd.primitive import use_kernels
from anynet.ops import reductions
from anynet.optim.optimizer import Optimizer
from anynet.sparse_rows import SparseRows
from anynet.tensor import Parameter, Tensor, no_grad
from anynet.testing.comparing import all_finite, dtypes_of, norm, require_same_bits, to_host
from anynet.testing.comparing import devices as usable_devices
from anynet.testing.report import NotApplicable, Report
from anynet_backends import philox

__all__ = ["check_optimizer"]

Shape = tuple[int, ...]
Make = Callable[[Any], Any]
# how far parameters after `STEPS` steps may be from those in float64, as a share of their change, and of their own norm
LIMITS = {"float64": (1e-9, 1e-14), "float32": (1e-4, 1e-6)}
STEPS = 12


def check_optimizer(
    make: Make,
    *,
    shapes: Sequence[Shape] = ((4, 3), (2, 5)),
    steps: int = 100,
    devices: Sequence[str] | None = None,
    raise_exception: bool = True,
) -> Report:
    """Check an optimizer: everything that training, saving, copies and other devices rely on.

    - `steps` steps down a quartic make the loss smaller and leave the parameters finite; gradients stay as they were;
      parameters without a gradient stay as they were.
    - A `state_dict` loaded into a new optimizer, a pickle and a deep copy each go on as the optimizer itself, bit for bit.
    - Parameters in one group, in two groups, and each in an optimizer of its own, are updated alike, bit for bit.
    - One that is `sparse_only` gets all gradients as rows (`SparseRows`).
    - A learning rate below 0 is refused, and nothing changes.
    - `anynet.compile` gives the same bits; the code without kernels, float32 and other devices (every backend that is
      installed) the same parameters but for rounding; float16 parameters stay float16, and finite.

    Parameters
    ----------
    make: called with the parameters, returns the optimizer: a class, or ``lambda p: MyOptimizer(p, lr=0.1)``.
    shapes: of the parameters; the default are two matrices.
    steps: how many steps have to make the loss smaller.
    devices: the devices to check, all usable ones of this machine by default.
    raise_exception: with False, failures are only in the report.

    Errors: `CheckError` with the table of all checks where one failed.

    >>> import anynet as an
    >>> from anynet.testing import check_optimizer
    >>> check_optimizer(lambda p: an.optim.AdamW(p, lr=0.01), devices=["cpu"]).ok
    True
    >>> class Forgetful(an.optim.Optimizer):
    ...     def __init__(self, params, lr=0.01):
    ...         super().__init__(params, {"lr": lr})
    ...         self.velocity = {}
    ...
    ...     def update(self, xp, p, g, state, step, group):
    ...         v = self.velocity[p.shape] = 0.9 * self.velocity.get(p.shape, 0.0) + g  # not in `slots`
    ...         p -= group["lr"] * v
    >>> report = check_optimizer(Forgetful, devices=["cpu"], raise_exception=False)
    >>> [check.name for check in report.failures][:1]
    ['state_dict into another optimizer']
    """
    names = usable_devices() if devices is None else list(devices)
    with random.fork_rng(7):
        run = _Run(make, [tuple(shape) for shape in shapes])
        run.descent(steps)
        run.copies()
        run.grouping()
        run.refusals()
        run.other_code()
        for device in names:
            for dtype in dtypes_of(device):
                if (device, dtype) != ("cpu", "float64"):
                    run.elsewhere(device, dtype)
    return run.report.finish(raise_exception)


class _Training:
    """Parameters, an optimizer, and a loss that has its minimum at 0.7 in each number."""

    def __init__(
        self, make: Make, shapes: Sequence[Shape], dtype: str = "float64", device: str = "cpu"
    ) -> None:
        self.params = [
            Parameter(Tensor(philox.uniform(3, 9, i, shape, -1.0, 1.0), dtype=dtype, device=device))
            for i, shape in enumerate(shapes)
        ]
        self.optimizer = make(self.params)

    def loss(self) -> Tensor:
        """Σ (p − 0.7)² + (p − 0.7)⁴."""
        total = Tensor(0.0, dtype=self.params[0].dtype, device=self.params[0].device)
        for p in self.params:
            total = total + reductions.sum((p - 0.7) ** 2 + (p - 0.7) ** 4)
        return total

    def closure(self) -> Tensor:
        """The loss, with its gradients."""
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        if self.optimizer.sparse_only:
            for p in self.params:
                if p.grad is not None:
                    p.grad = SparseRows(range(p.shape[0]), p.grad, p.shape)
        return loss

    def run(self, steps: int) -> _Training:
        """Some steps."""
        for _ in range(steps):
            self.optimizer.step(self.closure)
        return self

    def values(self) -> list[Tensor]:
        """The parameters now, as copies."""
        with no_grad():
            return [p.detach() + 0.0 for p in self.params]


class _Run:
    """The checks of one optimizer."""

    def __init__(self, make: Make, shapes: list[Shape]) -> None:
        self.make, self.shapes = make, shapes
        some = _Training(make, shapes).optimizer
        if not isinstance(some, Optimizer):
            msg = f"check_optimizer: make must return an anynet.optim.Optimizer, got {type(some).__name__}"
            raise TypeError(msg)
        self.report = Report(type(some).__name__)

    def training(self, dtype: str = "float64", device: str = "cpu") -> _Training:
        """A new training from the same start."""
        return _Training(self.make, self.shapes, dtype, device)

    def after(self, steps: int) -> list[Tensor]:
        """The parameters after some steps in float64 on the CPU."""
        return self.training().run(steps).values()

    def descent(self, steps: int) -> None:
        """What a step does."""
        check = self.report.check
        with check(f"{steps} steps make the loss smaller"):
            t = self.training()
            before = t.loss().item()
            t.run(steps)
            after = t.loss().item()
            assert after < before, f"it went from {before:.6g} to {after:.6g}"
            for p in t.params:
                assert all_finite(to_host(p)), "a parameter is not finite"
        with check("a step leaves the gradients as they were"):
            t = self.training()
            t.optimizer.step(t.closure)
            t.closure()
            before_step = [p.grad.detach() + 0.0 for p in t.params if p.grad is not None]
            t.optimizer.step(lambda: t.loss())
            require_same_bits("a gradient", [p.grad for p in t.params if p.grad is not None], before_step)
        with check("parameters without a gradient stay as they were"):
            t = self.training().run(3)
            first = t.values()[0]
            for _ in range(2):
                t.closure()
                t.params[0].grad = None
                t.optimizer.step(lambda: t.loss())
            require_same_bits("a parameter without a gradient", [t.values()[0]], [first])

    def copies(self) -> None:
        """Optimizers that go on from here."""
        with self.report.check("state_dict into another optimizer"):
            t = self.training().run(STEPS)
            other = self.training().run(1)
            with no_grad():
                for p, q in zip(other.params, t.params, strict=True):
                    p.assign_(q.detach())
            other.optimizer.load_state_dict(t.optimizer.state_dict())
            require_same_bits("a parameter", other.run(STEPS).values(), self.after(2 * STEPS))
        duplicates: dict[str, Callable[[Any], Any]] = {
            "pickle": lambda x: pickle.loads(pickle.dumps(x)), "deep copy": copy.deepcopy,
        }  # fmt: skip
        for name, duplicate in duplicates.items():
            with self.report.check(name):
                t = self.training().run(STEPS)
                t.params, t.optimizer = duplicate((t.params, t.optimizer))
                require_same_bits("a parameter", t.run(STEPS).values(), self.after(2 * STEPS))

    def grouping(self) -> None:
        """How parameters are grouped is nothing to their updates."""
        with self.report.check("one group or several"):
            together = self.after(STEPS)
            apart = [_Training(self.make, self.shapes) for _ in self.shapes]
            for i, t in enumerate(apart):
                t.params = [t.params[i]]
                t.optimizer = self.make(t.params)
            if self._one_by_one_differs():
                reason = "its update depends on all parameters together"
                raise NotApplicable(reason)
            require_same_bits(
                "a parameter of an optimizer of its own", [t.run(STEPS).values()[0] for t in apart], together
            )
            t = self.training()
            try:
                t.optimizer = self.make([{"params": [p]} for p in t.params])
            except (TypeError, ValueError) as error:
                raise NotApplicable(str(error)) from None
            require_same_bits("a parameter of a group of its own", t.run(STEPS).values(), together)

    def _one_by_one_differs(self) -> bool:
        """Whether `step` itself is the optimizer's own (L-BFGS): then the parameters are one vector to it."""
        return type(self.training().optimizer).step is not Optimizer.step

    def refusals(self) -> None:
        """What cannot be right is refused before anything changes."""
        with self.report.check("a negative learning rate is refused"):
            t = self.training().run(2)
            group = t.optimizer.param_groups[0]
            if "lr" not in group:
                reason = "it has no option lr"
                raise NotApplicable(reason)
            before, rate = t.values(), group["lr"]
            try:
                group["lr"] = -1.0
                t.run(1)
            except ValueError:
                require_same_bits("a parameter", t.values(), before)
                assert group["lr"] == rate, f"lr is {group['lr']!r} after the refusal, expected {rate!r}"
            else:
                msg = 'param_groups[0]["lr"] = -1.0 was taken'
                raise AssertionError(msg)

    def other_code(self) -> None:
        """Compiled, and without kernels."""
        with self.report.check("the same when compiled"):
            t = self.training()
            if self._one_by_one_differs():
                reason = "its step calls the closure as often as it needs to"
                raise NotApplicable(reason)

            def step() -> Any:
                loss = t.closure()
                t.optimizer.step()
                return loss

            replayed: Callable[[], Any] = compiled(step)
            try:
                for _ in range(STEPS):
                    replayed()
            except CompileError as error:
                raise NotApplicable(str(error)) from None
            require_same_bits("a parameter", t.values(), self.after(STEPS))
        with self.report.check("the same without kernels"), use_kernels(False):
            self.near(self.training().run(STEPS).values(), "float64")

    def elsewhere(self, device: str, dtype: str) -> None:
        """Another dtype, another device."""
        with self.report.check(f"{dtype} on {device}"):
            t = self.training(dtype, device).run(STEPS)
            for p in t.params:
                assert p.dtype == dtype, f"a parameter is {p.dtype} after the steps, expected {dtype}"
                assert p.device == Tensor(0.0, device=device).device, (
                    f"a parameter is on {p.device}, expected {device}"
                )
            self.near(t.values(), dtype)
        if dtype == "float32":
            with self.report.check(f"float16 on {device}"):
                try:
                    Tensor(0.0, dtype="float16", device=device)
                except TypeError as error:
                    raise NotApplicable(str(error)) from None
                t = self.training("float16", device)
                before = t.loss().item()
                t.run(STEPS)
                assert all(p.dtype == "float16" for p in t.params), "a parameter is not float16 any more"
                assert t.loss().item() <= before, f"the loss went from {before:.4g} to {t.loss().item():.4g}"

    def near(self, got: list[Tensor], dtype: str) -> None:
        """Whether parameters after `STEPS` steps are those of float64 on the CPU."""
        share_of_change, share_of_norm = LIMITS[dtype]
        start, expected = self.after(0), self.after(STEPS)
        for begin, a, b in zip(*(map(to_host, part) for part in (start, got, expected)), strict=True):
            error, change = norm(a - b), norm(b - begin)
            allowed = share_of_change * change + share_of_norm * norm(b)
            assert error <= allowed, (
                f"a parameter differs from that in float64 on the CPU by {error:.2g}, allowed {allowed:.2g}; it changed by {change:.2g}"
            )

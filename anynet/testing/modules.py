"""`check_module`: whether a layer does all that a layer has to do."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import pickle
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from anynet import dtypes, random
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.autograd.jit.compile import CompileError
from anynet.autograd.jit.compile import compile as compiled
from anynet.autograd.primitive import use_kernels
from anynet.nn.module import Module
from anynet.ops import reductions
from anynet.tensor import Parameter, Tensor, no_grad
from anynet.testing.comparing import (
    LIMITS,
    all_finite,
    distance,
    dtypes_of,
    require_same_bits,
    tensors_in,
    to_host,
)
from anynet.testing.comparing import (
    devices as usable_devices,
)
from anynet.testing.report import NotApplicable, Report
from anynet_backends import philox, registry, safetensors_io

__all__ = ["check_module"]

SEED = 11


def check_module(
    module: Module,
    *inputs: Any,
    order: int = 2,
    allow_unused: Sequence[str] = (),
    devices: Sequence[str] | None = None,
    raise_exception: bool = True,
    **keywords: Any,
) -> Report:
    """Check a Module on example inputs: everything that training, saving and other devices rely on.

    - In training and in evaluation mode: the outputs are Tensors of the module's dtype, finite, the same again with the same
      seed; inputs and parameters are left as they were; every parameter gets a gradient; gradients agree with finite
      differences in float64, to second order.
    - In evaluation mode nothing is random and no buffer changes; `train` and `eval` reach all submodules.
    - A `state_dict`, a safetensors file, a pickle and a deep copy each give a module with the same output, bit for bit.
    - float32, other devices (every backend that is installed) and the reference code without kernels agree with float64 on
      the CPU: values within 1e-10 in float64 and 1e-5 in float32, gradients within 1e-10 and 1e-4, relative to their norms.
    - `anynet.compile` gives the same bits; where it refuses, the report says why.

    Parameters
    ----------
    module: the layer; it is copied, and stays as it is.
    inputs, keywords: example arguments of a call, small ones: finite differences take two calls for each number. Arrays and
        Tensors of floating dtypes are converted to the dtype and moved to the device of each check.
    order: the highest derivative to check: 2, 1, or 0 for modules without gradients.
    allow_unused: names of parameters that need not get a gradient from these inputs.
    devices: the devices to check, all usable ones of this machine by default.
    raise_exception: with False, failures are only in the report.

    Errors: `CheckError` with the table of all checks where one failed; TypeError where `module` is not a Module.

    >>> import anynet as an
    >>> from anynet.testing import check_module
    >>> print(check_module(an.nn.Linear(3, 2), an.ones((4, 3)), devices=["cpu"]))
    Linear: 0 of 21 checks failed
      ok      training: forward
      ok      training: the same again with the same seed
      ...

    A layer that is wrong in evaluation mode:

    >>> class Noisy(an.nn.Module):
    ...     def forward(self, x):
    ...         return an.nn.functional.dropout(x, 0.5)  # without training=self.training
    >>> report = check_module(Noisy(), an.ones((4, 3)), devices=["cpu"], raise_exception=False)
    >>> report.failures[0].name
    'evaluation: nothing random, no state changed'
    """
    if not isinstance(module, Module):
        msg = f"check_module: module must be an anynet.nn.Module, got {type(module).__name__}"
        raise TypeError(msg)
    if order not in (0, 1, 2):
        msg = f"check_module: order must be 0, 1 or 2, got {order!r}"
        raise ValueError(msg)
    names = usable_devices() if devices is None else list(devices)
    with random.fork_rng():
        report = _Run(module, inputs, keywords, tuple(allow_unused), order).everything(names)
    return report.finish(raise_exception)


class _Run:
    """The checks of one module."""

    def __init__(
        self,
        module: Module,
        inputs: tuple[Any, ...],
        keywords: dict[str, Any],
        unused: tuple[str, ...],
        order: int,
    ) -> None:
        self.report = Report(type(module).__name__)
        self.inputs, self.keywords, self.unused, self.order = inputs, keywords, unused, order
        self.works = False  # whether a call has returned
        self.module = copy.deepcopy(module)
        if any(m.waiting for m in self.module.modules()):  # a lazy layer gets its shapes at its first call
            self.call(self.module, self.arguments(dtypes.default_float().name))

    def everything(self, devices: Sequence[str]) -> Report:
        """All checks; where no call works, the others would only say so again."""
        self.modes()
        if not self.works:
            return self.report
        self.copies()
        self.without_kernels()
        self.when_compiled()
        for device in devices:
            for dtype in dtypes_of(device):
                if (device, dtype) != ("cpu", "float64"):
                    self.elsewhere(device, dtype)
        return self.report

    # ----- calls -----

    def net(self, dtype: str = "float64", device: str = "cpu", training: bool = True) -> Module:
        """A copy of the module."""
        return copy.deepcopy(self.module).to(device).to(dtype).train(training)

    def arguments(
        self, dtype: str | None = "float64", device: str = "cpu", grad: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """Copies of the inputs."""

        def one(value: Any) -> Any:
            if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
                return type(value)([one(v) for v in value])
            if not isinstance(value, Tensor) and not registry.is_array(value):
                return value
            tensor = Tensor(value)
            kind = dtype if tensor.dtype.is_floating else None
            return Tensor(
                to_host(tensor), dtype=kind, device=device, requires_grad=grad and tensor.dtype.is_floating
            )

        return [one(x) for x in self.inputs], {k: one(v) for k, v in self.keywords.items()}

    @staticmethod
    def call(net: Module, arguments: tuple[list[Any], dict[str, Any]], seed: int = SEED) -> Any:
        """One call, with the same random numbers each time."""
        random.manual_seed(seed)
        return net(*arguments[0], **arguments[1])

    def outputs(
        self, net: Module, dtype: str = "float64", device: str = "cpu", seed: int = SEED
    ) -> list[Tensor]:
        """The Tensors that a call returns, without a graph."""
        with no_grad():
            return tensors_in(self.call(net, self.arguments(dtype, device), seed))

    def gradients(
        self, net: Module, dtype: str, device: str
    ) -> tuple[list[Tensor], dict[str, Tensor | None]]:
        """The outputs, and the gradients of a weighted sum of them by the names of inputs and parameters."""
        given, named = self.arguments(dtype, device, grad=True)
        found = tensors_in(self.call(net, (given, named)))
        total: Any = 0.0
        for i, y in enumerate(found):
            if y.dtype.is_floating and y.requires_grad:
                weights = Tensor(
                    philox.uniform(6, 9, i, tuple(y.shape), 0.5, 1.5), dtype=y.dtype, device=y.device
                )
                total = total + reductions.sum(y * weights)
        if isinstance(total, Tensor):
            total.backward()
        variables = {
            f"input {i}": x for i, x in enumerate(tensors_in([*given, *named.values()])) if x.requires_grad
        }
        variables |= {f"parameter {k}": p for k, p in net.named_parameters() if p.requires_grad}
        return found, {name: v.grad for name, v in variables.items()}

    # ----- checks -----

    def modes(self) -> None:
        """Training and evaluation mode on the CPU in float64."""
        for training in (True, False):
            mode = "training" if training else "evaluation"
            check = self.report.check
            with check(f"{mode}: forward"):
                self.forward(training)
            if not self.works:
                return
            with check(f"{mode}: the same again with the same seed"):
                first, again = (self.outputs(self.net(training=training)) for _ in range(2))
                require_same_bits("output", again, first)
            with check(f"{mode}: inputs and parameters stay as they were"):
                self.unchanged(training)
            with check(f"{mode}: gradients"):
                self.every_gradient(training)
            with check(f"{mode}: first derivatives"):
                self.derivatives(training, 1, gradcheck)
            with check(f"{mode}: second derivatives"):
                self.derivatives(training, 2, gradgradcheck)
        with self.report.check("evaluation: nothing random, no state changed"):
            self.evaluation()

    def forward(self, training: bool) -> None:
        net = self.net(training=training)
        wrong = [n for n, m in net.named_modules() if m.training is not training]
        assert not wrong, (
            f"train({training}) does not reach {', '.join(n or 'the module itself' for n in wrong)}"
        )
        found = tensors_in(self.call(net, self.arguments()))
        self.works = True
        assert found, "forward must return a Tensor, or a tuple, list or dict with Tensors"
        # after the call: what hooks such as weight_norm's compute is no leaf then
        loose = [
            f"{n}.{k}" if n else k
            for n, m in net.named_modules()
            for k, v in vars(m).items()
            if isinstance(v, Tensor) and v.requires_grad and v.is_leaf and not isinstance(v, Parameter)
        ]
        assert not loose, (
            f"{', '.join(loose)} must be an.Parameter to be trained and saved; it is a Tensor that requires a gradient"
        )
        for i, y in enumerate(found):
            which = "output" if len(found) == 1 else f"output {i}"
            if y.dtype.is_floating:
                assert y.dtype == "float64", f"{which} is {y.dtype} where module and inputs are float64"
                values = to_host(y)
                bad = values.size - int((abs(values) < math.inf).sum())
                assert not bad, f"{which}: {bad} of {values.size} values are not finite"

    def unchanged(self, training: bool) -> None:
        net, (given, named) = self.net(training=training), self.arguments()
        tensors = tensors_in([*given, *named.values()])
        watched = {f"input {i}": x for i, x in enumerate(tensors)} | dict(net.named_parameters())
        before = {name: to_host(t) for name, t in watched.items()}
        with no_grad():
            self.call(net, (given, named))
        for name, t in watched.items():
            after = to_host(t)
            assert after.shape == before[name].shape, f"{name} has another shape after the call"
            assert (after == before[name]).all(), f"{name} was changed by the call"

    def every_gradient(self, training: bool) -> None:
        if self.order == 0:
            raise NotApplicable("order=0")
        net = self.net(training=training)
        _, found = self.gradients(net, "float64", "cpu")
        for name, g in found.items():
            if g is None:
                unused = name.removeprefix("parameter ") in self.unused or name.startswith("input")
                assert unused, (
                    f"no gradient reaches {name}: is it used? (allow_unused=[…] where that is meant)"
                )
            else:
                assert g.dtype == "float64", f"the gradient of {name} is {g.dtype}, expected float64"
                assert all_finite(to_host(g)), f"the gradient of {name} is not finite"

    def derivatives(self, training: bool, order: int, compare: Callable[..., bool]) -> None:
        if self.order < order:
            raise NotApplicable(f"order={self.order}")
        net, (given, named) = self.net(training=training), self.arguments(grad=True)
        state = [(b, b.detach() + 0 if b.dtype != "bool" else b.detach()) for b in net.buffers()]
        tensors = [x for x in tensors_in([*given, *named.values()]) if x.requires_grad]
        if not tensors and not any(p.requires_grad for p in net.parameters()):
            raise NotApplicable("neither an input nor a parameter has a gradient")

        if self.feeds_back(training):
            reason = "the output depends on buffers that a call changes"
            raise NotApplicable(reason)

        def function(*_: Tensor) -> Any:
            with no_grad():
                for buffer, value in state:  # such as running statistics, which each call moves
                    buffer.assign_(value)
            return self.call(net, (given, named))

        compare(function, tensors, parameters=net)

    def feeds_back(self, training: bool) -> bool:
        """Whether a call changes buffers on which its output depends, as the power iteration of `spectral_norm` does: then it is
        not the function that its gradient belongs to."""
        net, other = self.net(training=training), self.net(training=training)
        with no_grad():
            for b in other.buffers():
                if b.dtype.is_floating:
                    b[...] = b * 1.5 + 0.1
        before = [to_host(b) for b in other.buffers()]
        pairs = zip(self.outputs(net), self.outputs(other), strict=True)
        depends = any(not (to_host(a) == to_host(b)).all() for a, b in pairs)
        return depends and any(
            not (to_host(b) == old).all() for b, old in zip(other.buffers(), before, strict=True)
        )

    def evaluation(self) -> None:
        net = self.net(training=False)
        before = {name: to_host(b) for name, b in net.named_buffers()}
        first, other = self.outputs(net, seed=SEED), self.outputs(net, seed=SEED + 1)
        require_same_bits("output with another seed", other, first)
        for name, b in net.named_buffers():
            assert (to_host(b) == before[name]).all(), (
                f"buffer {name} was changed by a call in evaluation mode"
            )

    def copies(self) -> None:
        """State, files, pickles and copies."""
        net = self.net(training=False)
        # a first call with another seed, so that what it keeps outside its state shows in the copies below
        with contextlib.suppress(Exception):  # reported above
            self.outputs(net, seed=SEED + 1)
        with self.report.check("state_dict into another module"):
            other = self.changed(self.module)
            other.load_state_dict(net.state_dict())
            require_same_bits("output", self.outputs(other), self.outputs(net))
        with self.report.check("state_dict in a safetensors file"), tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "state.safetensors")
            safetensors_io.save(path, {k: to_host(t) for k, t in net.state_dict().items()})
            arrays, _ = safetensors_io.load(path)
            other = self.changed(self.module)
            other.load_state_dict({k: Tensor(a) for k, a in arrays.items()})
            require_same_bits("output", self.outputs(other), self.outputs(net))
        with self.report.check("pickle"):
            require_same_bits("output", self.outputs(pickle.loads(pickle.dumps(net))), self.outputs(net))
        with self.report.check("a deep copy shares nothing"):
            expected = self.outputs(net)
            self.changed(net)
            require_same_bits("output after the copy was changed", self.outputs(net), expected)

    @staticmethod
    def changed(net: Module) -> Module:
        """A copy with other values of all parameters and buffers of its state."""
        other = copy.deepcopy(net).to("float64").eval()
        with no_grad():
            for t in other.state_dict().values():
                if t.dtype.is_floating:
                    t[...] = t * 0.5 + 0.25
        return other

    def without_kernels(self) -> None:
        """The reference code of every operation."""
        with self.report.check("the same without kernels"):
            net = self.net(training=False)
            with use_kernels(False):
                plain = self.outputs(net)
            self.near("output", self.outputs(net), plain, LIMITS["float64"][0])

    def when_compiled(self) -> None:
        """A call recorded and replayed."""
        with self.report.check("the same when compiled"):
            net = self.net(training=False)
            given, named = self.arguments()
            expected = self.outputs(net)
            try:
                step = compiled(lambda *args: net(*args, **named))
                with no_grad():
                    for _ in range(3):
                        random.manual_seed(SEED)
                        got = tensors_in(step(*given))
            except CompileError as error:
                raise NotApplicable(str(error)) from None
            require_same_bits("output", got, expected)

    def elsewhere(self, device: str, dtype: str) -> None:
        """Another dtype, another device."""
        for training in (True, False) if device == "cpu" else (True,):
            mode = "training" if training else "evaluation"
            with self.report.check(f"{mode}: {dtype} on {device}"):
                reference, expected = self.gradients(self.net(training=training), "float64", "cpu")
                got, gradients = self.gradients(self.net(dtype, device, training), dtype, device)
                for y in got:
                    assert not y.dtype.is_floating or y.dtype == dtype, (
                        f"the output is {y.dtype}, expected {dtype}"
                    )
                    assert y.device == Tensor(0.0, device=device).device, (
                        f"the output is on {y.device}, expected {device}"
                    )
                value, gradient = LIMITS[dtype]
                self.near("output", got, reference, value)
                if self.order:
                    for name, g in gradients.items():
                        want = expected[name]
                        assert (g is None) == (want is None), (
                            f"{name}: a gradient here, none in float64 on the CPU, or the reverse"
                        )
                        if g is not None and want is not None:
                            assert g.dtype == dtype, f"the gradient of {name} is {g.dtype}, expected {dtype}"
                            self.near(f"the gradient of {name}", [g], [want], gradient)

    @staticmethod
    def near(what: str, got: list[Tensor], expected: list[Tensor], limit: float) -> None:
        assert len(got) == len(expected), f"{what}: got {len(got)} Tensors, expected {len(expected)}"
        for a, b in zip(got, expected, strict=True):
            error = distance(to_host(a), to_host(b))
            assert error <= limit, (
                f"{what} differs from that in float64 on the CPU by {error:.2g} of its norm, allowed {limit:g}"
            )

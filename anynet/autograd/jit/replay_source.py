"""The source of a compiled step's replay: one Python function without loops, for a step whose arguments are Tensors.

It tests the arguments and guards, makes the calls of the program, and returns the result, or `NOT_APPLICABLE` where a guard
fails or something observes the replay. It is written as text and compiled by `exec`: a loop over a handful of arrays takes
several times as long as a small network (see `Step.run`, which is that loop).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anynet.autograd.jit.host_callback import HostCall
from anynet.tensor import Parameter, Tensor
from anynet_backends import Array
from anynet_backends.concurrency import this_thread
from anynet_backends.jit import native_call, segment
from anynet_backends.jit.program import owner, replay_observers
from anynet_backends.jit.tracer import COMPILING

if TYPE_CHECKING:
    from anynet.autograd.jit.step import Step

__all__ = ["NOT_APPLICABLE", "ReplaySource"]

NOT_APPLICABLE = object()
"""Sentinel: the fast path does not apply."""
_GONE = (AttributeError, LookupError, NameError, ValueError)


class ReplaySource:
    """Lines of Python and the objects that they name, for one step. Argument i is ``a{i}``, its array ``d{i}``."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.arguments = range(len(step.given))
        self.scope: dict[str, Any] = {
            "new": Tensor.__new__,
            "ELSE": NOT_APPLICABLE,
            "active": COMPILING,
            "callers": replay_observers,
        }

    def compiled(self) -> Callable[[tuple[Any, ...]], Any]:
        """The function of the tuple of arguments."""
        native = self._native()
        body = self._unpacked(checked=native is None)
        body += self._run_native(native) if native is not None else self._run_calls()
        exec("def replay(args):\n" + "\n".join(f"    {line}" for line in body), self.scope)  # noqa: S102
        replay: Callable[[tuple[Any, ...]], Any] = self.scope.pop(
            "replay"
        )  # no cycle that would outlive the step
        return replay

    def _wrapped(self, array: str) -> list[str]:
        """Lines that return an array as a Tensor: `wrap`, without a call."""
        cls = self._name(self.step.constants[0].cls)
        return [f"y = new({cls})", f"y._data = {array}", "y.edge = None", "return y"]

    def _name(self, x: Any) -> str:
        """A name for an object."""
        self.scope[f"x{len(self.scope)}"] = x
        return f"x{len(self.scope) - 1}"

    def _unpacked(self, *, checked: bool) -> list[str]:
        """The arrays of the arguments, and with `checked` that they are like those of the trace."""
        step = self.step
        lines = [f"if len(args) != {len(self.arguments)} or active or callers: return ELSE"]
        lines += [f"{''.join(f'a{i}, ' for i in self.arguments)}= args"] if self.arguments else []
        for i, (value, shape, dtype, strides) in enumerate(step.given):
            lines += [
                f"if type(a{i}) is not {self._name(step.classes[i])} or a{i}.edge is not None: return ELSE",
                f"d{i} = a{i}._data",
            ]
            if checked:
                lines.append(
                    f"if type(d{i}) is not {self._name(type(value))} or d{i}.shape != {shape} "
                    f"or d{i}.dtype is not {self._name(dtype)} or d{i}.strides != {strides}: return ELSE"
                )
        return lines

    def _guarded(self) -> list[str]:
        """Return where a guard fails or an argument shares memory that the program writes."""
        step, lines = self.step, []
        changed = self._changes()
        if changed:  # a name or an item may be gone
            test = f"    if {' or '.join(changed)}: return ELSE"
            lines += ["try:", test, f"except {self._name(_GONE)}: return ELSE"]
        if step.hazards:
            inside = [
                f"{self._name(id)}({self._name(owner)}(d{i})) in {self._name(step.hazards)}"
                for i in self.arguments
            ]
            if not step.exposed:  # an array that owns its memory is none of them
                inside = [
                    f"d{i}.base is not None and {test}"
                    for i, test in zip(self.arguments, inside, strict=True)
                ]
            lines += [f"if {' or '.join(inside)}: return ELSE"] if inside else []
        return lines

    def _changes(self) -> list[str]:
        """Conditions in Python, of which one is true where `Step.fits` is not."""
        step, tests = self.step, []
        for x, data, edge in step.variables:
            own = self._name(x)
            tests.append(f"{own}._data is not {self._name(data)}")
            if not isinstance(x, Parameter):  # whose edges the guard watches
                tests.append(f"{own}.edge is not {self._name(edge)}")
        tests += [f"({self._name(leaf)}.grad is None) is not {none}" for leaf, none in step.leaves]
        if step.mode is not None:
            tests.append(f"{self._name(this_thread)}.recording is not {step.mode}")
        return tests + step.guard.tests(self._name)

    def _native(self) -> Callable[..., Array | None] | None:
        """The program as a built-in function of its arguments, where it is machine code alone and gives one array."""
        step, program = self.step, self.step.program
        if not step.single or step.fresh or step.after or not native_call.available():
            return None
        made = program.function(program.outputs)
        if (
            made is None
            or made.gives != [len(made.arguments)]
            or segment.bytes_touched(made.rows) > segment.SMALL_BYTES
        ):
            return None
        table = native_call.DispatchTable()
        table.add(native_call.NativePlan(made.rows, made.arguments, made.results, ()))
        return table.call

    def _run_native(self, call: Callable[..., Array | None]) -> list[str]:
        """One call of the built-in function, which checks the arrays itself."""
        run = f"z = {self._name(call)}({', '.join(f'd{i}' for i in self.arguments)})"
        guards = self._guarded()
        if any(
            isinstance(f, segment.NativeSegment) and f.waits for f, _ in self.step.program.segments
        ):  # in the same memory
            lines = [*guards, f"with {self._name(self.step.lock)}:", f"    {run}"]
        else:
            lines = [*guards, run]
        return [*lines, "if z is None: return ELSE", *self._wrapped("z")]

    def _run_calls(self) -> list[str]:
        """The calls of the program one after the other, within the lock: another thread may be in the middle of a step."""
        step, program, name = self.step, self.step.program, self._name
        lines = self._guarded()
        lines += [f"{name(put)}(..., d{i})" for i, put in enumerate(program.puts)]
        for f, args in program.fast:
            host: Any = f
            made = (host.function, host.args) if isinstance(host, HostCall) and host.plain else (f, args)
            lines.append(f"{name(made[0])}({', '.join(map(name, made[1]))})")
        lines += [f"{name(leaf)}.grad = {name(grad)}" for leaf, grad in step.after]
        copies = [
            name(r) if live else f'{name(r)}.copy("K")'
            for r, live in zip(program.results, program.live, strict=True)
        ]
        if step.single and not step.fresh:
            lines += self._wrapped(copies[0])
        else:
            lines += [f"return {name(step.results)}([{', '.join(copies)}])"]
        return [f"with {name(step.lock)}:", *(f"    {line}" for line in lines)]

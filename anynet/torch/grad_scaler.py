"""`torch.amp.GradScaler`: the scale of the loss in loops of one's own, also in a step that `anynet.compile` makes a program or a graph.

A program multiplies the loss with a Tensor that holds the scale, and calls the rest on the host. A graph looks at the gradients on the
device, and the update changes nothing there where one is not finite; after each launch the host reads what was found, and changes the
scale.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from anynet.autograd.jit.host_callback import IN_A_GRAPH, GraphRule, host_callback
from anynet.dtypes import float64
from anynet.nn.utils.clip_grad import write_gradient
from anynet.optim.flat_group import FlatGroup
from anynet.optim.optimizer import Optimizer
from anynet.optim.planned_update import capture_programs, counted, prepared, uncount
from anynet.sparse_rows import SparseRows, numbers_of
from anynet.tensor import Tensor, unwrap, wrap
from anynet.train.precision import LossScale
from anynet_backends import backend_of, resolve
from anynet_backends.backend import Watch
from anynet_backends.jit.errors import CaptureError
from anynet_backends.jit.tracer import CAPTURING, COMPILING

__all__ = ["GradScaler"]


class GradScaler:
    """Multiplies the loss, so that small gradients in float16 do not vanish, and skips steps whose gradients overflowed: by the
    scale that `fit(precision="mixed-fp16")` has (`anynet.train.precision.LossScale`)."""

    _replayed: ClassVar[bool] = True  # what it changes in a compiled step it changes at each call

    def __init__(
        self, device: str = "cuda", init_scale: float = 65536.0, growth_factor: float = 2.0, backoff_factor: float = 0.5,
        growth_interval: int = 2000, enabled: bool = True,
    ) -> None:  # fmt: skip
        self._scale = LossScale(init_scale, growth_factor, backoff_factor, growth_interval)
        self._enabled = enabled
        self._finite: dict[int, bool] = {}  # of the optimizers whose gradients were looked at
        self._factors: dict[tuple[str, str], Tensor] = {}  # the scale, for compiled steps
        self._watches: dict[int, _Watched] = {}

    def scale(self, outputs: Any) -> Any:
        """The loss times the scale."""
        if not self._enabled:
            return outputs
        capturing = CAPTURING.own if CAPTURING else None
        if not capturing and not (COMPILING and COMPILING.own):
            if backend_of(unwrap(outputs)).captures:
                self._factor(outputs)  # a graph makes none
            return outputs * self._scale.value
        factor = self._factor(outputs)
        if capturing:
            capturing[-1].checks.append(
                lambda: self._enabled and any(f is factor for f in self._factors.values())
            )
        return outputs * factor

    def _factor(self, outputs: Tensor) -> Tensor:
        """The scale as a Tensor where the loss is."""
        key = outputs.device, "float64" if outputs.dtype == float64 else "float32"
        if key not in self._factors:
            xp, device = resolve(key[0])  # a plain array, also where a program is recorded
            self._factors[key] = wrap(
                xp.asarray(self._scale.value, dtype=getattr(xp, key[1]), device=xp.native_device(device))
            )
        return self._factors[key]

    @host_callback
    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients by the scale, once before a step."""
        if not self._enabled or id(optimizer) in self._finite:
            return
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for p in params:
            if isinstance(p.grad, SparseRows):
                p.grad = p.grad.detach() / self._scale.value
            else:
                write_gradient(p, unwrap(p.grad) / self._scale.value)
        if isinstance(optimizer, Optimizer):
            finite = optimizer.finite_gradients()
        else:
            grads = [numbers_of(p.grad) for p in params]
            finite = all(backend_of(g).all_finite(g) for g in grads)
        self._finite[id(optimizer)] = finite

    @host_callback
    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step, unless a gradient is infinite or no number."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        self.unscale_(optimizer)
        made = optimizer.step(*args, **kwargs) if self._finite[id(optimizer)] else None
        if isinstance(optimizer, Optimizer):
            self._watch(optimizer)
        return made

    @host_callback
    def update(self, new_scale: float | None = None) -> None:
        """Another scale, after each step: smaller after an overflow, larger after many steps without one."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale.value = float(new_scale)
        else:
            self._scale.update(all(self._finite.values()))
        self._finite = {}
        self._put()

    def _put(self) -> None:
        for factor in self._factors.values():
            unwrap(factor)[...] = self._scale.value

    def get_scale(self) -> float:
        """The scale."""
        return self._scale.value if self._enabled else 1.0

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, by what it changes, and how long it has held."""
        if not self._enabled:
            return {}
        of = self._scale
        return {
            "scale": of.value, "growth_factor": of.growth, "backoff_factor": of.backoff, "growth_interval": of.interval,
            "_growth_tracker": of.good,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a scale."""
        if state_dict:
            of = self._scale
            changes = (
                ("growth_factor", of.growth),
                ("backoff_factor", of.backoff),
                ("growth_interval", of.interval),
            )
            self._scale = LossScale(
                float(state_dict["scale"]), *(state_dict.get(name, now) for name, now in changes)
            )
            self._scale.good = state_dict["_growth_tracker"]
            self._put()

    def __getstate__(self) -> dict[str, Any]:
        """Without what stands for it on devices, which is made again."""
        return {**self.__dict__, "_finite": {}, "_factors": {}, "_watches": {}}

    # ----- in a step that is captured as a graph -----

    def _watch(self, optimizer: Optimizer) -> _Watched | None:
        """What looks at the gradients of an optimizer, where there is such a thing."""
        groups: list[Any] = optimizer.param_groups
        flats = [flat for group in groups for flat in getattr(group, "flats", ()) if flat.grads is not None]
        known = self._watches.get(id(optimizer))
        if known is None or known.flats != flats:
            watch = None
            if flats and flats[0].xp.captures and all(flat.device == flats[0].device for flat in flats):
                watch = flats[0].xp.watch([f.grads for f in flats], [f.offsets[1:] for f in flats], 1)
            self._watches.pop(id(optimizer), None)
            if watch is not None:
                self._watches[id(optimizer)] = _Watched(flats, watch)
        return self._watches.get(id(optimizer))

    def _look(self, recording: Any, optimizer: Optimizer) -> _Watched:
        """Take the scale out of the gradients and look at them, once; after a launch the host reads what was found."""
        watched, todo = self._watches.get(id(optimizer)), prepared(recording, optimizer)
        if not todo or watched is None or watched.flats != [u.flat for u in todo]:
            msg = f"GradScaler steps {type(optimizer).__name__}, whose step is not one kernel for each vector of parameters"
            raise CaptureError(msg)
        if id(optimizer) in recording.watched:
            return watched
        recording.watched.add(id(optimizer))
        factor = next(
            unwrap(f) for (device, _), f in self._factors.items() if device == watched.flats[0].device
        )
        for flat in watched.flats:
            flat.grads /= factor
        watched.watch.look(None)
        recording.checks.append(lambda: self._watches.get(id(optimizer)) is watched)
        recording.after.append(lambda: self._read(optimizer, watched))
        return watched

    def _read(self, optimizer: Optimizer, watched: _Watched) -> None:
        seen = watched.watch.read()
        self._finite[id(optimizer)] = not seen.wrong
        if seen.wrong:
            uncount(watched.before)
        if seen.error is not None:
            self._finite = {}
            raise seen.error


class _Watched:
    """The vectors of an optimizer, and what looks at their gradients."""

    def __init__(self, flats: list[FlatGroup], watch: Watch) -> None:
        self.flats, self.watch = flats, watch
        self.before: list[tuple[FlatGroup, int, dict[str, float]]] = []  # of the latest step


def _capture_unscale(recording: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    scaler, optimizer = args
    if scaler._enabled:
        scaler._look(recording, optimizer)


def _capture_step(recording: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    scaler, optimizer = args
    if not scaler._enabled:
        optimizer.step()
        return
    watched = scaler._look(recording, optimizer)

    def before() -> None:
        watched.before = counted(watched.flats)

    recording.actions.append(before)
    capture_programs(recording, optimizer, watched.watch)


def _capture_update(recording: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    recording.after.append(lambda: function(*args, **kwargs))


def _obstacle(args: Any, kwargs: Any) -> str | None:
    if len(args) != 2 or kwargs or not isinstance(args[1], Optimizer):
        return "is given more than an optimizer of anynet"
    return None


IN_A_GRAPH[inspect.unwrap(GradScaler.unscale_)] = GraphRule(_obstacle, _capture_unscale)
IN_A_GRAPH[inspect.unwrap(GradScaler.step)] = GraphRule(_obstacle, _capture_step)
IN_A_GRAPH[inspect.unwrap(GradScaler.update)] = GraphRule(lambda *_: None, _capture_update)

"""Tensors from outside that a compiled function binds to new arrays: averages of weights, code books, counters.

``mp.data = new``, ``buffer *= 0.9`` and ``p.copy_(q)`` give a constant another array; whoever else holds the old one keeps its values.
A program does the same. The array that such a Tensor has at the beginning of a replay is an argument of the program, and what the function
binds it to is a result, a fresh array at each replay. Nothing is ever written into an array that somebody else may hold.

Views of `anynet.torch` show a Tensor and not an array: they follow it where the function writes through it (``p.mul_(2)``), and keep the
old values where it takes another array (``p.data = q``). A replay does what the function did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from anynet.tensor import Tensor, frozen_leaf
from anynet_backends import Array
from anynet_backends.jit.tracer import Trace, TracedArray, fingerprint

__all__ = ["Rebinding", "bind", "has_views_to_follow"]


def bind(x: Tensor, array: Array, how: str | None) -> None:
    """Let x have another array, and the views of x follow (how: "written") or keep the old values ("apart")."""
    memory = getattr(x, "_memory", None)
    if memory is not None and how == "apart":
        memory.part(x)
    x._data = array
    if memory is not None and how == "written":
        memory.moved(x)


def has_views_to_follow(x: Tensor, how: str | None) -> bool:
    """Whether something shows the memory of x of which a replay would not know what becomes of it."""
    memory = getattr(x, "_memory", None)
    return not (memory is None or memory.alone() or (how is not None and memory.is_first()))


def _how(events: list[str]) -> str | None:
    """What becomes of the views of a Tensor to which this has happened."""
    if events[:2] == ["apart", "new"]:  # there are none from then on
        return "apart"
    pairs = list(zip(events[::2], events[1::2], strict=False))
    return "written" if len(events) == 2 * len(pairs) and set(pairs) == {("written", "new")} else None


class Rebinding:
    """What a trace knows of Tensors from outside that have other arrays at its end."""

    def __init__(self, recording: Trace, there: Mapping[int, Tensor]) -> None:
        self.recording = recording
        # Tensors that were there before the function ran, by their identities
        self.there = dict(there)
        # those whose arrays are arguments of the program, with the arrays that they had, and what becomes of their views
        self.taken: list[tuple[Tensor, Array, str | None]] = []
        # all that is no error: what Tensors are bound to, by their identities
        self.new: dict[int, TracedArray] = {}
        # the arrays that they have after this call, where no result of the program is one
        self.final: dict[int, Array] = {}
        # as a call on the host has found them: the recorded array, the plain one, and the number of its instruction
        self._at_host: dict[int, tuple[Tensor, TracedArray, Array, int]] = {}
        self._before_host: dict[int, tuple[Array, int]] = {}
        self._touched: set[int] = set()  # what was written on the host

    # ----- calls on the host -----

    def bind_for_host(
        self, variables: Iterable[tuple[Tensor, Array]]
    ) -> list[tuple[Tensor, TracedArray, str | None]]:
        """Before a call on the host, which may read any Tensor: those that have recorded arrays get plain ones. Which, and what each
        replay has to give them before the call."""
        found = []
        for x, _ in variables:
            new = x._data
            if not isinstance(new, TracedArray):
                continue
            known = self._at_host.get(id(x))
            if known is None or known[1] is not new or self._is_written(new, known[3]):
                known = x, new, new.value.copy("K"), len(self.recording.instructions)
                if id(x) in self.there:  # views follow
                    found.append((x, new, self._becomes(x)))
            self._at_host[id(x)] = known
            x._data = known[2]
        self._before_host = {
            key: (x._data, fingerprint(x._data))
            for key, x in self.there.items()
            if x.edge is None and type(x._data) is self.recording.base.array_type
        }
        return found

    def take_back(self) -> bool:
        """After it: they have recorded arrays again. Whether the call has changed one of these, which the trace does not know."""
        for key, (data, before) in self._before_host.items():
            now = self.there[key]._data
            if now is not data or fingerprint(now) != before:
                self._touched.add(key)
        changed = False
        for x, new, array, _ in self._at_host.values():
            if x._data is array and fingerprint(array) == fingerprint(new.value):
                x._data = new
            elif id(x) in self._touched:
                changed = True
        return changed

    def _is_written(self, x: TracedArray, since: int) -> bool:
        return self.recording.written_at.get(x.variable.root, -1) >= since

    def _becomes(self, x: Tensor) -> str | None:
        return _how(self.recording.rebound.get(id(x), []))

    # ----- at the end -----

    def settle(self, variables: dict[int, tuple[Tensor, Array]], leaves: Mapping[int, Any]) -> bool:
        """When the function has returned: find what it has bound anew, and a program can bind anew, and take it out of the variables.
        The rest will be refused. Returns whether only this call can do it, and no replay."""
        bound = [(x, data) for x, data in variables.values() if isinstance(x._data, TracedArray)]
        views = [(x, data) for x, data in bound if id(x) not in self.there and _first(x) is not x]
        apart = {id(x) for x, _ in views}
        again = [(x, data) for x, data in bound if id(x) not in apart]
        possible = [(x, data) for x, data in again if self._can_be_bound(x, data, leaves)]
        if not bound or len(possible) < len(again):
            self.new = {id(x): x._data for x, _ in (*possible, *views)}
            return False
        self.new = {id(x): x._data for x, _ in bound}
        holders = Counter(id(data) for x, data in variables.values() if id(x) not in apart)
        roots = Counter(x._data.variable.root for x, _ in again)
        follow = all(id(_first(x)) in self.new for x, _ in views)
        own = all(
            holders[id(data)] == roots[x._data.variable.root] == 1 and self._has_its_own(x, data)
            for x, data in again
        )
        if not (follow and own):
            self.final = {id(x): x._data.value for x, _ in bound}
            return True
        self.taken = [(x, data, self._becomes(x)) for x, data in again]
        for x, _ in bound:
            del variables[id(x)]
        return False

    def _can_be_bound(self, x: Tensor, data: Any, leaves: Mapping[int, Any]) -> bool:
        """Whether a program can bind x to a result: a constant, whose values are new and nobody else's."""
        new: Any = x._data
        recording = self.recording
        frozen = frozen_leaf(x)
        captured = recording.captured.get(id(data))
        return (
            id(x) in self.there
            and x.edge is None
            and (frozen is None or id(frozen) not in leaves)
            and (new.shape, new.dtype) == (data.shape, data.dtype)
            and type(data) is recording.base.array_type
            and _lies_without_gaps(new.value)
            and new.variable.root not in recording.outside
            and new.variable.root not in recording.given
            and (captured is None or captured.variable.root not in recording.written_at)
        )

    def _has_its_own(self, x: Tensor, data: Array) -> bool:
        """Whether the array that x had is read as that of x alone: what the next call finds is another one."""
        captured = self.recording.captured.get(id(data))
        return (
            (captured is None or captured.var not in self.recording.borrowed)
            and id(x) not in self._touched
            and not has_views_to_follow(x, self._becomes(x))
            and _lies_without_gaps(data)
        )

    def is_shared(self, array: Any) -> bool:
        """Whether an array lies in the memory of one that a Tensor is bound to."""
        return isinstance(array, TracedArray) and any(
            array.variable.root == new.variable.root for new in self.new.values()
        )

    def is_bound_on_host(self, x: Tensor) -> bool:
        """Whether the last call on the host has bound x to what it is bound to at the end."""
        known = self._at_host.get(id(x))
        if known is None or known[1] is not self.new[id(x)] or self._is_written(known[1], known[3]):
            return False
        self.final[id(x)] = known[2]
        return True

    def put_back(self, variables: Mapping[int, tuple[Tensor, Array]], done: bool) -> None:
        """No recorded array stays in a Tensor: they have what they had, or what the function has left."""
        for x, data, how in self.taken:
            if done and id(x) in self.final:
                bind(x, self.final[id(x)], how)
            else:  # or is bound to a result
                bind(x, data, "written")
        for x, data in variables.values():
            if isinstance(x._data, TracedArray):
                x._data = self.final.get(id(x), data) if done else data


def _first(x: Tensor) -> Tensor:
    """The Tensor that x shows a part of, or x itself."""
    while (memory := getattr(x, "_memory", None)) is not None and not memory.is_first():
        x = memory.parent() if memory.detached else memory.parent
    return x


def _lies_without_gaps(array: Array) -> bool:
    """Whether a copy lies in memory as the array does: the bits of products and sums depend on that."""
    return array.copy("K").strides == array.strides  # type: ignore[no-any-return]

"""A program: the instructions of a trace after the passes, with their memory, lowered to NumPy calls that a replay makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends import allocator, machine
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.instructions import Instruction, Variable, made_by, substitute
from anynet_backends.jit.lowering import _POSITIONAL, _calls, _host_into, _is_basic, _is_pair, _scalar
from anynet_backends.jit.memory_plan import _Place, aligned, shaped
from anynet_backends.jit.tracer import Trace, TracedArray
from anynet_backends.protocol import Array
from anynet_backends.results import fill
from anynet_backends.threads import PerThread, once_property

__all__ = ["Program", "replay_observers", "owner"]

_CONSTANTS: Final = (bool, int, float, complex, str, slice, type(None), type(...), np.dtype)


class _Function(NamedTuple):
    """A program as the code of a function: see `anynet_backends.builtins.Plan`."""

    rows: list[machine.Row]
    arguments: list[Array]
    results: list[Array]
    gives: list[int]


replay_observers: PerThread[Callable[[str, Callable[..., Any], tuple[Any, ...]], None]] = PerThread()
"""Observers that make each call of a replay, given the name of its instruction (the profiler)."""


class Program:
    """A trace after the passes, with planned memory: `run` replays it."""

    def __init__(self, trace: Trace, recorded: list[TracedArray], *, scratch: Array | None = None) -> None:
        """`scratch`: memory for all that lives only within a run."""
        self.trace = trace
        self.scratch = scratch
        outputs = [x.variable for x in recorded]
        self.seed = self.step = 0
        self.draws = trace.draws
        self.arrays: dict[int, Array] = {}  # variable → its array, for good
        self.text: list[str] = []
        self.peak = 0
        self.straight: dict[
            int, int
        ] = {}  # results that are written into arrays from outside at once, and which
        self.own: set[int] = set()  # the variables whose arrays are results and nothing else
        self.root = self._roots(trace.instructions)
        notes, outputs = self._shared(trace.instructions, outputs)
        self.outputs = outputs
        self.notes = live = self._checks_first(self._live(notes, outputs))
        self._plan(live, outputs)
        self.puts = [x.value.__setitem__ for x in trace.inputs]  # half the time of np.copyto
        self.results = [self.arrays[o.var] for o in outputs]
        # what lies in an array from outside is given as it lies there, the rest as copies
        self.live = [self.root[o.var] in trace.outside for o in outputs]
        self.recorded = len(trace.instructions)
        trace.instructions.clear()
        if scratch is None:
            allocator.give_back()

    # ----- what is needed -----

    def _live(self, notes: list[Instruction], outputs: list[Variable]) -> list[Instruction]:
        """Without what nobody reads. A write into a variable counts where the variable, or one it is a view of, is
        needed."""
        root = self.root
        outside = {root[x.var] for x in self.trace.captured.values()}
        needed = {root[o.var] for o in outputs} | outside | self.trace.changed.keys()
        keep: list[Instruction] = []
        for note in reversed(notes):
            outs = made_by(note)
            wanted = (
                note.kind in ("host", "check")
                or (note.writes is not None and root[note.writes] in needed)
                or any(o.var in needed or root[o.var] in needed for o in outs)
            )
            if wanted:
                keep.append(note)
                needed.update(note.reads)
                needed.update(root[v] for v in note.reads)
        return keep[::-1]

    def _checks_first(self, notes: list[Instruction]) -> list[Instruction]:
        """Checks with what they look at before all else, where that depends on nothing that is written or drawn: what they
        refuse then leaves everything as it was."""
        root = self.root
        made = {o.var: at for at, note in enumerate(notes) for o in made_by(note)}
        written = {root[note.writes] for note in notes if note.writes is not None}
        host = next((at for at, note in enumerate(notes) if note.kind == "host"), len(notes))
        front: set[int] = set()
        for at, note in enumerate(notes):
            if note.kind != "check":
                continue
            needed, todo = set(front), [at]
            while todo:
                i = todo.pop()
                if i in needed:
                    continue
                needed.add(i)
                reads = notes[i].reads
                outside = any(v not in made for v in reads)
                if notes[i].kind not in ("call", "check") or (outside and i > host):
                    break
                if any(root[v] in written for v in reads):
                    break
                todo += [made[v] for v in reads if v in made]
            else:
                front = needed
        return [notes[i] for i in sorted(front)] + [n for i, n in enumerate(notes) if i not in front]

    def _shared(
        self, notes: list[Instruction], outputs: list[Variable]
    ) -> tuple[list[Instruction], list[Variable]]:
        """The instructions without those that compute again, from the same values, what is there already."""
        root = self.root
        written = {root[note.writes] for note in notes if note.writes is not None}
        version: dict[int, int] = {}
        known: dict[Any, Variable] = {}
        same: dict[int, Variable] = {}

        def first(x: Variable) -> Variable:
            return same.get(x.var, x)

        def key(item: Any) -> Any:
            if isinstance(item, Variable):
                return "array", item.var, version.get(root[item.var], 0)
            if isinstance(item, (tuple, list)):
                return type(item), tuple(map(key, item))
            return (type(item), repr(item)) if isinstance(item, _CONSTANTS) else id(item)

        keep: list[Instruction] = []
        for note in notes:
            if same:
                note.args = substitute(note.args, Variable, first)
                note.kwargs = {k: substitute(v, Variable, first) for k, v in note.kwargs.items()}
                note.reads = [same[v].var if v in same else v for v in note.reads]
            out = note.out
            if note.kind == "host":
                known.clear()  # it may write whatever it holds
            elif note.kind != "call" and note.writes is not None:
                version[root[note.writes]] = version.get(root[note.writes], 0) + 1
            elif note.kind == "call" and isinstance(out, Variable) and "#" not in note.name:
                if root[out.var] == out.var and out.var not in written:
                    before = known.setdefault(
                        (note.name, key(note.args), key(tuple(sorted(note.kwargs.items())))), out
                    )
                    if before is not out:
                        same[out.var] = before
                        continue
            keep.append(note)
        for var, owner in root.items():
            if owner in same:
                root[var] = same[owner].var
        return keep, [first(o) for o in outputs]

    def _roots(self, notes: list[Instruction]) -> dict[int, int]:
        """For each variable the one in whose memory it lies."""
        found = {x.var: x.variable.root for x in (*self.trace.captured.values(), *self.trace.inputs)}
        for note in notes:
            for o in made_by(note):
                found[o.var] = o.root
        return found

    # ----- where it goes -----

    def _plan(self, notes: list[Instruction], outputs: list[Variable]) -> None:
        root = self.root
        forms: dict[int, Variable] = {}
        places: dict[int, _Place] = {}
        constants: set[int] = set()
        fixed = {x.var for x in (*self.trace.captured.values(), *self.trace.inputs)}
        for x in self.trace.captured.values():
            self.arrays[x.var] = x.value
        for x in self.trace.inputs:
            self.arrays[x.var] = x.value
        written = {root[note.writes] for note in notes if note.writes is not None}
        made = {o.var: o for note in notes for o in made_by(note)}
        for r in {root[o.var] for o in outputs}.intersection(made):  # results share their memory with nothing
            fixed.add(r)
            self.own.add(r)
            self.arrays[r] = shaped(aligned(made[r].nbytes), made[r])
        rest: list[Instruction] = []
        for note in notes:  # what depends on nothing is computed once
            outs = made_by(note)
            constant = note.kind == "call" and all(v in constants for v in note.reads)
            if constant and not any(root[o.var] in written for o in outs):
                for o in outs:
                    constants.add(o.var)
                    fixed.add(root[o.var])
                    self.own.discard(root[o.var])
                    self.arrays[o.var] = o.value
            else:
                rest.append(note)
        notes = self._straight(rest, fixed)
        self.hazards = self._hazards(notes)
        end = len(notes)
        for at, note in enumerate(notes):
            for o in made_by(note):
                forms[o.var] = o
            touched = list(note.reads)
            for o in made_by(note):
                touched.append(o.var)
            for v in touched:
                r = root[v]
                if r in fixed:
                    continue
                place = places.setdefault(r, _Place(at))
                place.last = max(place.last, at)
        for o in outputs:
            if root[o.var] in places:
                places[root[o.var]].last = end
        self._allocate(places, forms)
        code: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.labels: list[str] = []  # of the calls: which instruction each belongs to
        memory: list[tuple[tuple[Array, ...], tuple[Array, ...]]] = []  # what each call reads and writes
        outside = tuple(x.value for x in self.trace.captured.values())
        outside += tuple(x.value for x in self.trace.inputs if x.var in self.trace.changed)
        for note in notes:
            self._lower(note, code)
            new = len(code) - len(self.labels)
            self.labels += [note.name.partition("#")[0]] * new
            outs = made_by(note)
            writes = tuple(self.arrays[o.var] for o in outs)
            reads = tuple(self.arrays[v] for v in note.reads)
            if note.kind == "host":
                reads += outside
            if new > 1:  # the later calls of an instruction read what the first wrote
                reads += writes
            memory += [(reads, writes)] * new
        self.code = code
        self.calls = [machine.Call(f, args, *t) for (f, args), t in zip(code, memory, strict=True)]
        self.kept = (*outside, *(self.arrays[o.var] for o in outputs))

    def _straight(self, notes: list[Instruction], fixed: set[int]) -> list[Instruction]:
        """Without the copies of results into arrays from outside: what is read nowhere else is written there at once.
        Gradients are, into an optimizer's buffer."""
        root, outside = self.root, {x.var: x for x in self.trace.captured.values()}
        made = {o.var: at for at, note in enumerate(notes) if note.kind == "call" for o in made_by(note)}
        readers: dict[int, list[int]] = {}
        for at, note in enumerate(notes):
            for v in {root[v] for v in note.reads}:
                readers.setdefault(v, []).append(at)
        changed = {root[note.writes] for note in notes if note.writes is not None}
        names: dict[int, str] = getattr(self.trace, "names", {})
        gone: set[int] = set()
        for at, note in enumerate(notes):
            if note.kind != "write":
                continue
            target, key, value = note.args
            if not isinstance(value, Variable) or target.var not in outside or not _is_basic(key):
                continue
            v, view = value.var, outside[target.var].value[key]
            if v not in made or v in fixed or v in changed or root[v] != v or readers[v] != [at]:
                continue
            form = value.shape, value.strides, value.dtype
            if not isinstance(view, np.ndarray) or (view.shape, view.strides, view.dtype) != form:
                continue
            same = {x.var for x in outside.values() if np.may_share_memory(x.value, view)}
            if any(self._touches(n, same) for n in notes[made[v] : at]):
                continue
            self.arrays[v] = view
            self.straight[v] = target.var
            fixed.add(v)
            gone.add(at)
            names[v] = f"{self._name(target)}[{self._show(key)}]"
        return [note for at, note in enumerate(notes) if at not in gone]

    def _hazards(self, notes: list[Instruction]) -> list[Array]:
        """Arrays that no argument may share memory with, since an argument is read after these are written, or written
        itself: the program has copies of its arguments."""
        outside = self.trace.outside
        if self.trace.changed:
            return list(outside.values())
        inputs = {x.var for x in self.trace.inputs}
        written: set[int] = set()
        found: set[int] = set()
        for note in notes:
            if written and any(self.root[v] in inputs for v in note.reads):
                found |= written
            written |= {self.straight[o.var] for o in made_by(note) if o.var in self.straight}
            if note.kind == "host":
                written |= outside.keys()
            elif note.writes is not None and self.root[note.writes] in outside:
                written.add(self.root[note.writes])
        return [outside[v] for v in sorted(found)]

    def _touches(self, note: Instruction, roots: set[int]) -> bool:
        """Whether an instruction reads or writes memory of these arrays from outside, or may."""
        used = [*note.reads, *([] if note.writes is None else [note.writes])]
        return note.kind == "host" or any(self.root[v] in roots for v in used)

    @once_property
    def segments(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """The calls, with machine code in place of what it can do."""
        return machine.translate(self.calls, self.kept) if machine.available() else self.code

    @once_property
    def fast(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """The calls of a replay."""
        return [(f.run if isinstance(f, machine.Segment) else f, args) for f, args in self.segments]

    def function(self, wanted: Sequence[Any]) -> _Function | None:
        """What a built-in function of the arguments needs; None where the program is more than machine code, where it
        writes into arrays that are not its own (the function may have to be done again), or where what it gives is no
        whole array of its own or an argument. `wanted` has None where it gives nothing."""
        written = {self.root[note.writes] for note in self.notes if note.writes is not None}
        given = [x.variable for x in self.trace.inputs]
        outside = (x.var for x in (*self.trace.inputs, *self.trace.captured.values()))
        if not machine.available() or not written.isdisjoint(outside):
            return None
        segments = machine.translate(self.calls, self.kept)
        own_rows = [f.rows if isinstance(f, machine.Segment) else None for f, _ in segments]
        if None in own_rows:
            return None
        places = {x.var: i for i, x in enumerate(given)}  # of arguments and results, by their variables
        roots: set[int] = set()
        results: list[Array] = []
        slots: list[int] = []
        variables = iter(self.outputs)
        for x in wanted:
            out = None if x is None else next(variables)
            if out is not None and out.var not in places:
                root, array = self.root[out.var], self.arrays[out.var]
                own = self.arrays[root]
                whole = array.nbytes == own.nbytes and machine.address(array) == machine.address(own)
                if root in places or root in roots or root not in self.own or not whole or not array.nbytes:
                    return None
                roots.add(root)
                places[out.var] = len(given) + len(results)
                results.append(array)
            slots.append(-1 if out is None else places[out.var])
        rows = [row for some in own_rows for row in some or ()]
        return _Function(rows, [x.value for x in self.trace.inputs], results, slots) if rows else None

    def _allocate(self, places: dict[int, _Place], forms: dict[int, Variable]) -> None:
        """Greedy: each result takes the smallest free block that is large enough, or a new one."""
        free: list[tuple[int, Array]] = []
        busy: list[tuple[int, int, Array]] = []
        total = 0
        for r, place in sorted(places.items(), key=lambda item: item[1].first):
            value = forms[r]
            size = max(-(-value.nbytes // 64) * 64, 64)
            still: list[tuple[int, int, Array]] = []
            for last, n, block in busy:
                if last < place.first:
                    free.append((n, block))
                else:
                    still.append((last, n, block))
            busy = still
            fit = min(
                (i for i, (n, _) in enumerate(free) if size <= n <= 4 * size),
                key=lambda i: free[i][0],
                default=None,
            )
            if fit is None:
                block = aligned(size) if self.scratch is None else self.scratch[total : total + size]
                if len(block) < size:
                    msg = f"{total + size} bytes of scratch memory are needed, there are {len(self.scratch)}"  # type: ignore[arg-type]
                    raise CompileError(msg)
                total += size
                n = size
            else:
                n, block = free.pop(fit)
            busy.append((place.last, n, block))
            self.arrays[r] = shaped(block, value)
        self.peak = total

    def _lower(self, note: Instruction, code: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
        arrays = self.arrays

        def place(x: Variable) -> Array:
            return arrays[x.var]

        if note.kind == "host":
            if note.out is None:
                code.append((note.args[0], ()))
            else:
                target, function = arrays[note.out.var], note.args[0]  # type: ignore[union-attr]
                code.append((_host_into, (target, function)))
            self._say(f"{note.name}()")
            return
        if note.kind == "check":
            code.append((note.args[0], substitute(note.args[1:], Variable, place)))
            self._say(
                f"{note.name}({', '.join(self._show(x) for x in note.args[1:] if isinstance(x, Variable))})"
            )
            return
        if note.kind == "random":
            key, stream, step, n, device, offset = note.args
            target = arrays[note.out.var]  # type: ignore[union-attr]
            code.append((self._draw, (target, key, stream, step, n, device, offset)))
            self._say(f"{self._name(note.out)} = random_bits({n})")  # type: ignore[arg-type]
            return
        if note.kind == "update":
            target, other = note.args
            a = place(target)
            code.append(
                (
                    _POSITIONAL.get(note.name) or getattr(np, note.name),
                    (a, _scalar(substitute(other, Variable, place), a), a),
                )
            )
            self._say(f"{self._name(target)} {note.name}= {self._show(other)}")
            return
        if note.kind == "write":
            target, key, value = note.args
            a, k, v = place(target), substitute(key, Variable, place), substitute(value, Variable, place)
            if _is_basic(k) and isinstance(a[k], np.ndarray):
                code.append((np.copyto, (a[k], v, "unsafe")))
            elif _is_pair(a, k):
                code.append((machine.scatter, (a, *k, v)))
            elif isinstance(k, np.ndarray) and k.dtype == bool and k.shape == a.shape and not np.ndim(v):
                code.append((machine.set_where, (a, k, v)))
            else:
                code.append((a.__setitem__, (k, v)))
            self._say(f"{self._name(target)}[{self._show(key)}] = {self._show(value)}")
            return
        out = note.out
        args = substitute(note.args, Variable, place)
        kwargs = {k: substitute(v, Variable, place) for k, v in note.kwargs.items()}
        f = self.trace.functions[note.name]
        if isinstance(out, tuple):
            if all(self.root[o.var] != o.var for o in out):  # views of places: made once
                for o, view in zip(out, f(*args, **kwargs), strict=True):
                    arrays[o.var] = view
                self._say(
                    f"{', '.join(map(self._name, out))} = {note.name}({self._show(note.args)})  (views)"
                )
                return
            targets = tuple(arrays[o.var] for o in out)
            code.append((fill, (targets, f, args, kwargs)))
            self._say(f"{', '.join(self._name(o) for o in out)} = {note.name}({self._show(note.args)})")
            return
        assert out is not None
        r = self.root[out.var]
        if r != out.var:  # a view of a place: made once
            view = f(*args, **kwargs)
            if np.shares_memory(view, arrays[r]):
                arrays[out.var] = view
                self._say(f"{self._name(out)} = {note.name}({self._show(note.args)})  (a view)")
                return
            arrays[out.var] = np.empty_like(view)
            self.peak += view.nbytes
        target = arrays[out.var]
        made = f.calls(target, *args) if hasattr(f, "calls") else None
        code.extend(_calls(note.name, f, args, kwargs, target) if made is None else made)
        self._say(f"{self._name(out)} = {note.name}({self._show(note.args)})")

    def _draw(
        self, target: Array, key: int, stream: int, step: int, n: int, device: str, offset: int | None
    ) -> None:
        if offset is not None:
            key, step = self.seed, self.step + offset
        target[...] = self.trace.base.random_bits(key, stream, step, n, device)

    def run(self, inputs: list[Array], seed: int = 0, step: int = 0) -> list[Array]:
        """Replay; the results are fresh copies, but for those that lie in arrays from outside."""
        self.seed, self.step = seed, step
        for put, new in zip(self.puts, inputs):  # noqa: B905 - equal by construction
            put(..., new)
        if replay_observers and replay_observers.own:
            for label, (f, args) in zip(self.labels, self.code, strict=True):
                replay_observers.own[-1](label, f, args)
        else:
            for f, args in self.fast:
                f(*args)
        return [r if live else r.copy() for r, live in zip(self.results, self.live)]  # noqa: B905 - equal by construction

    # ----- to read -----

    def _name(self, x: Variable) -> str:
        names: dict[int, str] = getattr(self.trace, "names", {})
        return names.get(x.var, f"%{x.var}")

    def _show(self, item: Any) -> str:
        if isinstance(item, Variable):
            return self._name(item)
        if isinstance(item, (tuple, list)):
            return ", ".join(self._show(x) for x in item)
        return repr(item) if not isinstance(item, np.ndarray) else f"array{item.shape}"

    def _say(self, line: str) -> None:
        self.text.append(line)

    def __str__(self) -> str:
        head = (
            f"program of {len(self.text)} instructions, {len(self.code)} calls{machine.summary(self.segments)}, "
            f"{self.peak / 1024:.0f} KiB of memory; recorded {self.recorded}"
        )
        return "\n".join([head, *(f"  {line}" for line in self.text)])


def owner(array: Any) -> Any:
    """The object whose memory an array is a part of."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array

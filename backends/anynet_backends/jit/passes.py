"""Passes over the instructions of a trace: dead code, common subexpressions, constants, stores into arrays from outside.

Each takes instructions and gives instructions; `root` maps each variable to the one in whose memory it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.instructions import Instruction, Variable, is_basic_key, made_by, show, substitute
from anynet_backends.jit.iteration import supported
from anynet_backends.jit.tracer import Trace

__all__ = [
    "Forwarded",
    "eliminate_common_subexpressions",
    "eliminate_dead_code",
    "find_hazards",
    "fold_constants",
    "fuse_taken_rows",
    "forward_stores",
    "hoist_checks",
    "hoist_small",
    "memory_roots",
    "streaming",
    "writes",
    "written_roots",
]

Roots = dict[int, int]

_BY_VALUE: Final = (bool, int, float, complex, str, slice, type(None), type(...), np.dtype)
"""Types of arguments that are equal where they are written alike; all others are compared by identity."""


def memory_roots(trace: Trace) -> Roots:
    """For each variable the one in whose memory it lies."""
    found = {x.var: x.variable.root for x in (*trace.captured.values(), *trace.inputs)}
    for instruction in trace.instructions:
        for o in made_by(instruction):
            found[o.var] = o.root
    return found


def written_roots(instructions: Sequence[Instruction], root: Roots) -> set[int]:
    """The roots of the variables that are changed in place."""
    return {root[i.writes] for i in instructions if i.writes is not None}


def writes(i: Instruction) -> bool:
    """Whether an instruction changes an array, or may."""
    return i.kind == "host" or i.writes is not None


def eliminate_common_subexpressions(
    instructions: Sequence[Instruction], outputs: list[Variable], root: Roots
) -> tuple[list[Instruction], list[Variable]]:
    """The instructions and outputs without those calls that compute, from the same values, what an earlier one has computed."""
    written = written_roots(instructions, root)
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
        return (type(item), repr(item)) if isinstance(item, _BY_VALUE) else id(item)

    keep: list[Instruction] = []
    for i in instructions:
        if same:
            i.args = substitute(i.args, Variable, first)
            i.kwargs = {k: substitute(v, Variable, first) for k, v in i.kwargs.items()}
            i.reads = [same[v].var if v in same else v for v in i.reads]
        out = i.out
        if i.kind == "host":
            known.clear()  # it may write any array that it holds
        elif i.kind != "call" and i.writes is not None:
            version[root[i.writes]] = version.get(root[i.writes], 0) + 1
        elif i.kind == "call" and isinstance(out, Variable) and "#" not in i.name:
            if root[out.var] not in written:
                before = known.setdefault((i.name, key(i.args), key(tuple(sorted(i.kwargs.items())))), out)
                if before is not out:
                    same[out.var] = before
                    continue
        keep.append(i)
    for var, lies_in in root.items():
        if lies_in in same:
            root[var] = same[lies_in].var
    return keep, [first(o) for o in outputs]


def eliminate_dead_code(
    instructions: Sequence[Instruction], outputs: Sequence[Variable], root: Roots, trace: Trace
) -> list[Instruction]:
    """The instructions without those whose results are never read. A write into a variable is needed where the variable, or
    the one that it is a view of, is."""
    outside = {root[x.var] for x in trace.captured.values()}
    needed = {root[o.var] for o in outputs} | outside | trace.changed.keys()
    keep: list[Instruction] = []
    for i in reversed(instructions):
        wanted = (
            i.kind in ("host", "check")
            or (i.writes is not None and root[i.writes] in needed)
            or any(o.var in needed or root[o.var] in needed for o in made_by(i))
        )
        if wanted:
            keep.append(i)
            needed.update(i.reads)
            needed.update(root[v] for v in i.reads)
    return keep[::-1]


def hoist_checks(instructions: Sequence[Instruction], root: Roots) -> list[Instruction]:
    """Checks, and what computes their arguments, before all other instructions, where those arguments depend on nothing that is
    written or drawn: a value that is refused then leaves everything as it was."""
    made = {o.var: at for at, i in enumerate(instructions) for o in made_by(i)}
    written = written_roots(instructions, root)
    host = next((at for at, i in enumerate(instructions) if i.kind == "host"), len(instructions))
    front: set[int] = set()
    for check, instruction in enumerate(instructions):
        if instruction.kind != "check":
            continue
        needed, todo = set(front), [check]
        while todo:
            at = todo.pop()
            if at in needed:
                continue
            needed.add(at)
            reads = instructions[at].reads
            outside = any(v not in made for v in reads)
            if instructions[at].kind not in ("call", "check") or (outside and at > host):
                break
            if any(root[v] in written for v in reads):
                break
            todo += [made[v] for v in reads if v in made]
        else:
            front = needed
    return [instructions[at] for at in sorted(front)] + [
        i for at, i in enumerate(instructions) if at not in front
    ]


class Forwarded(NamedTuple):
    """A result that is computed in an array from outside: the view where, and the variable of that array."""

    view: Array
    target: int


def streaming(i: Instruction) -> bool:
    """Whether an instruction goes over arrays number by number or row by row, or only shows one, so that it may become a part of a loop
    with others of the kind: everything but products, kernels, and what the host does."""
    return i.kind in ("write", "update") or (i.kind == "call" and i.writes is None and supported(i.name))


_SMALL: Final = 1 << 14
"""Bytes of a result that may be kept for longer than it has to be."""


def hoist_small(
    instructions: Sequence[Instruction], root: Roots, trace: Trace, forwarded: dict[int, Forwarded]
) -> list[Instruction]:
    """Small results and views before each run of `streaming` instructions with large ones, where they depend on nothing in it: they would
    stand between these, which become one loop or one parallel region where they are neighbours. What lies in arrays from outside stays."""
    outside = {root[x.var] for x in trace.captured.values()}  # some may share memory
    done: list[Instruction] = []
    run: list[Instruction] = []
    front: list[Instruction] = []
    rest: list[Instruction] = []
    made: set[int] = set()  # by the rest, or changed there

    def end() -> None:
        large = any(o.nbytes > _SMALL for i in rest for o in made_by(i))
        done.extend((*front, *rest) if large else run)
        for part in (run, front, rest, made):
            part.clear()

    for i in instructions:
        if not streaming(i):
            end()
            done.append(i)
            continue
        run.append(i)
        outs = made_by(i)
        stored = any(o.var in forwarded for o in outs)
        small = not stored and all(o.nbytes <= _SMALL or root[o.var] != o.var for o in outs)
        if i.kind == "call" and small and made.isdisjoint(v for read in i.reads for v in (read, root[read])):
            front.append(i)
            continue
        rest.append(i)
        made |= {o.var for o in outs}
        if i.writes is not None:
            made |= {i.writes, root[i.writes]}
        if stored or (i.writes is not None and root[i.writes] in outside):
            made |= outside
    end()
    return done


def fold_constants(
    instructions: Sequence[Instruction], root: Roots
) -> tuple[list[Instruction], list[Variable]]:
    """The instructions without those that depend on nothing from outside, and the variables that these make: they have had their
    values since the trace."""
    written = written_roots(instructions, root)
    constants: dict[int, Variable] = {}
    rest: list[Instruction] = []
    for i in instructions:
        outs = made_by(i)
        constant = i.kind == "call" and all(v in constants for v in i.reads)
        if constant and not any(root[o.var] in written for o in outs):
            constants |= {o.var: o for o in outs}
        else:
            rest.append(i)
    return rest, list(constants.values())


def forward_stores(
    instructions: Sequence[Instruction], root: Roots, trace: Trace, fixed: set[int]
) -> tuple[list[Instruction], dict[int, Forwarded]]:
    """Store forwarding: a result that is only copied into an array from outside is computed there directly. Gradients are, in an
    optimizer's buffer. `fixed`: variables whose memory is not the program's to choose."""
    outside = {x.var: x for x in trace.captured.values()}
    made = {o.var: at for at, i in enumerate(instructions) if i.kind == "call" for o in made_by(i)}
    readers: dict[int, list[int]] = {}
    for at, i in enumerate(instructions):
        for v in {root[v] for v in i.reads}:
            readers.setdefault(v, []).append(at)
    changed = written_roots(instructions, root)
    forwarded: dict[int, Forwarded] = {}
    gone: set[int] = set()
    for at, i in enumerate(instructions):
        if i.kind != "write":
            continue
        target, key, value = i.args
        if not isinstance(value, Variable) or target.var not in outside or not is_basic_key(key):
            continue
        v, view = value.var, outside[target.var].value[key]
        if (
            v not in made
            or v in fixed
            or v in forwarded
            or v in changed
            or root[v] != v
            or readers[v] != [at]
        ):
            continue
        form = value.shape, value.strides, value.dtype
        if not isinstance(view, np.ndarray) or (view.shape, view.strides, view.dtype) != form:
            continue
        same = {x.var for x in outside.values() if np.may_share_memory(x.value, view)}
        if any(_touches(between, same, root) for between in instructions[made[v] : at]):
            continue
        forwarded[v] = Forwarded(view, target.var)
        gone.add(at)
        trace.names[v] = f"{show(target, trace.names)}[{show(key, trace.names)}]"
    return [i for at, i in enumerate(instructions) if at not in gone], forwarded


def fuse_taken_rows(
    instructions: Sequence[Instruction], root: Roots, trace: Trace, fixed: set[int]
) -> list[Instruction]:
    """Sums of rows that are taken, ``sum_rows(take(x, source), index)``, as one call each, for which what is taken need not be in memory.
    Only where nothing else reads that, and nothing is written meanwhile."""
    made: dict[int, int] = {}
    readers: dict[int, int] = {}
    for at, i in enumerate(instructions):
        made |= {o.var: at for o in made_by(i) if i.kind == "call"}
        for v in {root[v] for v in i.reads}:
            readers[v] = readers.get(v, 0) + 1
    gone: set[int] = set()
    for at, i in enumerate(instructions):
        fused = getattr(trace.functions.get(i.name), "of_taken", None) if i.kind == "call" else None
        if fused is None or not isinstance(i.args[0], Variable):
            continue
        values, index = i.args
        v = values.var
        if v not in made or v in fixed or root[v] != v or readers[v] > 1:
            continue
        taken = instructions[made[v]]
        if taken.name != "take" or taken.kwargs != {"axis": 0} or len(taken.args) != 2:
            continue
        if any(map(writes, instructions[made[v] : at])):
            continue
        name = f"sum_taken_rows#{v}"
        trace.functions[name] = fused()
        both = Instruction("call", name, (*taken.args, index), {}, i.out)
        both.origin = i.origin
        instructions = [*instructions[:at], both, *instructions[at + 1 :]]
        gone.add(made[v])
    return [i for at, i in enumerate(instructions) if at not in gone]


def _touches(instruction: Instruction, roots: set[int], root: Roots) -> bool:
    """Whether an instruction reads or writes memory of these arrays from outside, or may."""
    used = [*instruction.reads, *([] if instruction.writes is None else [instruction.writes])]
    return instruction.kind == "host" or any(root[v] in roots for v in used)


def find_hazards(
    instructions: Sequence[Instruction], root: Roots, trace: Trace, forwarded: dict[int, Forwarded]
) -> list[Array]:
    """Arrays that no argument may share memory with, since an argument is read after these are written, or is written itself:
    the program has copies of its arguments."""
    outside = trace.outside
    if trace.changed:
        return list(outside.values())
    inputs = {x.var for x in trace.inputs}
    written: set[int] = set()
    found: set[int] = set()
    for i in instructions:
        if written and any(root[v] in inputs for v in i.reads):
            found |= written
        written |= {forwarded[o.var].target for o in made_by(i) if o.var in forwarded}
        if i.kind == "host":
            written |= outside.keys()
        elif i.writes is not None and root[i.writes] in outside:
            written.add(root[i.writes])
    return [outside[v] for v in sorted(found)]

"""Programs as built-in functions of Python: small operations without the interpreter's and NumPy's cost per call.

A call of a NumPy function on a small array takes 0.4 to 1 µs, most of it spent on finding the loop to run, and one of
anynet's operations makes several such calls. Here the NumPy calls of one operation, planned as a program
(`anynet_backends.jit.tracer`) and translated into a segment (`anynet_backends.machine`), become a built-in function: it
looks at its arguments as they lie in memory (`PyArrayObject`), finds the segment that was made for such shapes, makes
the results (`PyArray_NewFromDescr`), enters the addresses and runs. What it computes are the same loops on the same
numbers in the same order, so the same bits.

It gives None, and nothing has happened, where it knows no such shapes, or where a floating-point exception is raised
on the way: NumPy then does it again and warns, or not, as the user has asked it to.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.concurrency import once
from anynet_backends.jit import availability, native_function, segment
from anynet_backends.jit.compiler import compiler
from anynet_backends.memory.layout import axes_in_memory
from anynet_backends.memory.outputs import empty_output

__all__ = ["DTYPE", "MOST", "Plan", "Table", "available", "exceptions", "primitive"]

DTYPE: Final = np.dtype

MOST: Final = 24
"""Arguments and results of one function."""

_AT: Final = {"data": 16, "ndim": 24, "shape": 32, "strides": 40, "dtype": 56, "flags": 64}
"""Where `PyArrayObject` (numpy/ndarraytypes.h, unchanged since NumPy 1.7) has what is asked here."""
_ALIGNED: Final = 0x0100
_NEW_FROM_DESCR: Final = 94  # in the table of NumPy's C API, which its ABI fixes


def available() -> bool:
    """Whether machine code is installed, and can be called in this way."""
    return availability.installed() and _fits()


@once
def _fits() -> bool:
    """Whether Python's and NumPy's objects are laid out as this module expects: asked of an array."""
    fits = (
        sys.maxsize == 2**63 - 1 and sys.implementation.name == "cpython" and not hasattr(sys, "getobjects")
    )
    if not fits or platform.machine() not in _EXCEPTIONS:
        return False
    if not all(hasattr(ctypes.pythonapi, name) for name in ("feclearexcept", "fetestexcept")):
        return False
    x = np.zeros((3, 4), np.float32)[:, ::2]
    at = id(x)
    read = ctypes.c_int64.from_address
    shape, strides = (read(at + _AT[name]).value for name in ("shape", "strides"))
    if (
        read(at + 8).value != id(np.ndarray)
        or read(at + _AT["data"]).value != x.__array_interface__["data"][0]
        or ctypes.c_int32.from_address(at + _AT["ndim"]).value != 2
        or (read(shape).value, read(shape + 8).value) != x.shape
        or (read(strides).value, read(strides + 8).value) != x.strides
        or read(at + _AT["dtype"]).value != id(x.dtype)
        or not ctypes.c_int32.from_address(at + _AT["flags"]).value & _ALIGNED
    ):
        return False
    made = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_int, ctypes.c_void_p, *[ctypes.c_void_p] * 2,
        ctypes.c_int, ctypes.c_void_p,
    )(_new_array())  # fmt: skip
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(x.dtype))  # which the call takes
    y = made(id(np.ndarray), x.dtype, 2, shape, None, None, 0, None)
    return type(y) is np.ndarray and (y.shape, y.dtype) == (x.shape, x.dtype)


_EXCEPTIONS: Final = {"x86_64": 1 | 4 | 8, "AMD64": 1 | 4 | 8, "aarch64": 1 | 2 | 4, "arm64": 1 | 2 | 4}
"""FE_INVALID, FE_DIVBYZERO and FE_OVERFLOW in <fenv.h>."""


def exceptions() -> int:
    """The exceptions of real numbers of which NumPy warns, as this processor counts them."""
    return _EXCEPTIONS[platform.machine()]


@functools.cache
def _new_array() -> int:
    """The address of `PyArray_NewFromDescr`."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    form = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    table = form(("PyCapsule_GetPointer", ctypes.pythonapi))(_multiarray_umath._ARRAY_API, None)
    return ctypes.c_int64.from_address(table + 8 * _NEW_FROM_DESCR).value


# ----- the functions -----

_CODE: Final = """
declare i32 @feclearexcept(i32)
declare i32 @fetestexcept(i32)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyCFunction_NewEx(ptr, ptr, ptr)
declare ptr @PyObject_CallFunctionObjArgs(ptr, ...)

; whether x is an array of the form that spec says: (dtype, axes, lengths …, strides …)
define internal i1 @fits(ptr %x, ptr %spec, ptr %type) {
entry:
  %xt = getelementptr i8, ptr %x, i64 8
  %own = load ptr, ptr %xt
  %array = icmp eq ptr %own, %type
  br i1 %array, label %form, label %no
form:
  %dp = getelementptr i8, ptr %x, i64 56
  %d = load ptr, ptr %dp
  %want = load ptr, ptr %spec
  %same = icmp eq ptr %d, %want
  %np = getelementptr i8, ptr %x, i64 24
  %n32 = load i32, ptr %np
  %n = sext i32 %n32 to i64
  %wnp = getelementptr i64, ptr %spec, i64 1
  %wn = load i64, ptr %wnp
  %axes = icmp eq i64 %n, %wn
  %fp = getelementptr i8, ptr %x, i64 64
  %flags = load i32, ptr %fp
  %aligned32 = and i32 %flags, 256
  %aligned = icmp ne i32 %aligned32, 0
  %ok1 = and i1 %same, %axes
  %ok = and i1 %ok1, %aligned
  br i1 %ok, label %start, label %no
start:
  %shapep = getelementptr i8, ptr %x, i64 32
  %shape = load ptr, ptr %shapep
  %stridep = getelementptr i8, ptr %x, i64 40
  %strides = load ptr, ptr %stridep
  %wshape = getelementptr i64, ptr %spec, i64 2
  %wstrides = getelementptr i64, ptr %wshape, i64 %n
  br label %head
head:
  %i = phi i64 [ 0, %start ], [ %next, %axis ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %axis, label %yes
axis:
  %ap = getelementptr i64, ptr %shape, i64 %i
  %a = load i64, ptr %ap
  %bp = getelementptr i64, ptr %wshape, i64 %i
  %b = load i64, ptr %bp
  %ep = getelementptr i64, ptr %strides, i64 %i
  %e = load i64, ptr %ep
  %fpp = getelementptr i64, ptr %wstrides, i64 %i
  %f = load i64, ptr %fpp
  %eq1 = icmp eq i64 %a, %b
  %eq2 = icmp eq i64 %e, %f
  %eq = and i1 %eq1, %eq2
  %next = add i64 %i, 1
  br i1 %eq, label %head, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

; the results of a plan into objects[arguments …], which holds the arguments already; 0: done, 1: not done, 2: an error
define internal i64 @carry(ptr %plan, ptr %objects) {
entry:
  %places = alloca [MOST x ptr]
  %nargsp = getelementptr i64, ptr %plan, i64 1
  %nargs = load i64, ptr %nargsp
  %noutsp = getelementptr i64, ptr %plan, i64 7
  %nouts = load i64, ptr %noutsp
  %outsp = getelementptr i64, ptr %plan, i64 8
  %outs = load ptr, ptr %outsp
  %typep = getelementptr i64, ptr %plan, i64 9
  %type = load ptr, ptr %typep
  %newp = getelementptr i64, ptr %plan, i64 10
  %new = load ptr, ptr %newp
  br label %ahead
ahead:
  %i = phi i64 [ 0, %entry ], [ %inext, %abody ]
  %amore = icmp slt i64 %i, %nargs
  br i1 %amore, label %abody, label %ohead
abody:
  %xp = getelementptr ptr, ptr %objects, i64 %i
  %x = load ptr, ptr %xp
  %datap = getelementptr i8, ptr %x, i64 16
  %data = load ptr, ptr %datap
  %pp = getelementptr ptr, ptr %places, i64 %i
  store ptr %data, ptr %pp
  %inext = add i64 %i, 1
  br label %ahead
ohead:
  %j = phi i64 [ 0, %ahead ], [ %jnext, %made ]
  %omore = icmp slt i64 %j, %nouts
  br i1 %omore, label %obody, label %enter
obody:
  %at = mul i64 %j, 4
  %spec = getelementptr ptr, ptr %outs, i64 %at
  %d = load ptr, ptr %spec
  %ndp = getelementptr i64, ptr %spec, i64 1
  %nd64 = load i64, ptr %ndp
  %nd = trunc i64 %nd64 to i32
  %dimsp = getelementptr ptr, ptr %spec, i64 2
  %dims = load ptr, ptr %dimsp
  %stepsp = getelementptr ptr, ptr %spec, i64 3
  %steps = load ptr, ptr %stepsp
  call void @Py_IncRef(ptr %d)
  %o = call ptr %new(ptr %type, ptr %d, i32 %nd, ptr %dims, ptr %steps, ptr null, i32 0, ptr null)
  %slot = add i64 %nargs, %j
  %op = getelementptr ptr, ptr %objects, i64 %slot
  store ptr %o, ptr %op
  %bad = icmp eq ptr %o, null
  br i1 %bad, label %release, label %made
made:
  %odp = getelementptr i8, ptr %o, i64 16
  %od = load ptr, ptr %odp
  %opp = getelementptr ptr, ptr %places, i64 %slot
  store ptr %od, ptr %opp
  %jnext = add i64 %j, 1
  br label %ohead
enter:
  %nrelp = getelementptr i64, ptr %plan, i64 5
  %nrel = load i64, ptr %nrelp
  %relp = getelementptr i64, ptr %plan, i64 6
  %rel = load ptr, ptr %relp
  br label %rhead
rhead:
  %k = phi i64 [ 0, %enter ], [ %knext, %rbody ]
  %rmore = icmp slt i64 %k, %nrel
  br i1 %rmore, label %rbody, label %run
rbody:
  %rat = mul i64 %k, 3
  %cellp = getelementptr ptr, ptr %rel, i64 %rat
  %cell = load ptr, ptr %cellp
  %basep = getelementptr i64, ptr %cellp, i64 1
  %base = load i64, ptr %basep
  %offsetp = getelementptr i64, ptr %cellp, i64 2
  %offset = load i64, ptr %offsetp
  %placep = getelementptr ptr, ptr %places, i64 %base
  %place = load ptr, ptr %placep
  %moved = getelementptr i8, ptr %place, i64 %offset
  store ptr %moved, ptr %cell
  %knext = add i64 %k, 1
  br label %rhead
run:
  %rowsp = getelementptr i64, ptr %plan, i64 3
  %rows = load i64, ptr %rowsp
  %countp = getelementptr i64, ptr %plan, i64 4
  %count = load i64, ptr %countp
  %raised = call i32 @fetestexcept(i32 EXCEPTIONS)
  %before = icmp ne i32 %raised, 0
  br i1 %before, label %clear, label %go
clear:
  %cleared = call i32 @feclearexcept(i32 EXCEPTIONS)
  br label %go
go:
  %workp = getelementptr i64, ptr %plan, i64 15
  %work = load ptr, ptr %workp
  %done = call i64 %work(i64 %rows, i64 0, i64 %count)
  %whole = icmp eq i64 %done, %count
  %now = call i32 @fetestexcept(i32 EXCEPTIONS)
  %quiet = icmp eq i32 %now, 0
  %fine = and i1 %whole, %quiet
  br i1 %fine, label %end, label %undo
end:
  ret i64 0
undo:
  %cleared2 = call i32 @feclearexcept(i32 EXCEPTIONS)
  br label %release
release:
  %status = phi i64 [ 2, %obody ], [ 1, %undo ]
  %made_so_far = phi i64 [ %j, %obody ], [ %nouts, %undo ]
  call void @let_go(ptr %plan, ptr %objects, i64 %made_so_far)
  ret i64 %status
}

; a tuple of objects[list[0]], …, objects[list[n - 1]]; None for a negative number. `from`: the first place that is filled
define internal ptr @gather(ptr %objects, ptr %plan, i64 %from) {
entry:
  %np = getelementptr i64, ptr %plan, i64 13
  %n = load i64, ptr %np
  %listp = getelementptr i64, ptr %plan, i64 14
  %list = load ptr, ptr %listp
  %nothingp = getelementptr i64, ptr %plan, i64 16
  %nothing = load ptr, ptr %nothingp
  %size = add i64 %n, %from
  %made = call ptr @PyTuple_New(i64 %size)
  %bad = icmp eq ptr %made, null
  br i1 %bad, label %end, label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %set ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %wp = getelementptr i64, ptr %list, i64 %i
  %w = load i64, ptr %wp
  %none = icmp slt i64 %w, 0
  br i1 %none, label %set, label %real
real:
  %xp = getelementptr ptr, ptr %objects, i64 %w
  %x = load ptr, ptr %xp
  br label %set
set:
  %item = phi ptr [ %nothing, %body ], [ %x, %real ]
  call void @Py_IncRef(ptr %item)
  %at = add i64 %i, %from
  %status = call i32 @PyTuple_SetItem(ptr %made, i64 %at, ptr %item)
  %next = add i64 %i, 1
  br label %head
end:
  ret ptr %made
}

; the first n results are let go
define internal void @let_go(ptr %plan, ptr %objects, i64 %n) {
entry:
  %nargsp = getelementptr i64, ptr %plan, i64 1
  %nargs = load i64, ptr %nargsp
  %last = add i64 %nargs, %n
  br label %head
head:
  %q = phi i64 [ %nargs, %entry ], [ %next, %drop ]
  %more = icmp slt i64 %q, %last
  br i1 %more, label %drop, label %end
drop:
  %qp = getelementptr ptr, ptr %objects, i64 %q
  %qo = load ptr, ptr %qp
  call void @Py_DecRef(ptr %qo)
  %next = add i64 %q, 1
  br label %head
end:
  ret void
}

; the first results of a plan, of which there are plan[17]: one, or a tuple of several
define internal ptr @front(ptr %objects, ptr %plan) {
entry:
  %nargsp = getelementptr i64, ptr %plan, i64 1
  %nargs = load i64, ptr %nargsp
  %first = getelementptr ptr, ptr %objects, i64 %nargs
  %countp = getelementptr i64, ptr %plan, i64 17
  %count = load i64, ptr %countp
  %one = icmp eq i64 %count, 1
  br i1 %one, label %single, label %several
single:
  %y = load ptr, ptr %first
  call void @Py_IncRef(ptr %y)
  ret ptr %y
several:
  %made = call ptr @PyTuple_New(i64 %count)
  %bad = icmp eq ptr %made, null
  br i1 %bad, label %end, label %head
head:
  %i = phi i64 [ 0, %several ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %end
body:
  %xp = getelementptr ptr, ptr %first, i64 %i
  %x = load ptr, ptr %xp
  call void @Py_IncRef(ptr %x)
  %status = call i32 @PyTuple_SetItem(ptr %made, i64 %i, ptr %x)
  %next = add i64 %i, 1
  br label %head
end:
  ret ptr %made
}

; (arguments …) -> result, or (result, pull), or (tuple of results, pull or None). self: (array of the address of the first plan, …)
define ptr @hot(ptr %self, ptr %args, i64 %n) {
entry:
  %objects = alloca [MOST x ptr]
  %holderp = getelementptr i8, ptr %self, i64 ITEMS
  %holder = load ptr, ptr %holderp
  %cellp = getelementptr i8, ptr %holder, i64 16
  %cell = load ptr, ptr %cellp
  %first = load ptr, ptr %cell
  %nothingp = getelementptr ptr, ptr %cell, i64 1
  %nothing = load ptr, ptr %nothingp
  br label %head
head:
  %plan = phi ptr [ %first, %entry ], [ %following, %next ]
  %none = icmp eq ptr %plan, null
  br i1 %none, label %unknown, label %ask
ask:
  %nargsp = getelementptr i64, ptr %plan, i64 1
  %nargs = load i64, ptr %nargsp
  %as_many = icmp eq i64 %nargs, %n
  %specsp = getelementptr i64, ptr %plan, i64 2
  %specs = load ptr, ptr %specsp
  %typep = getelementptr i64, ptr %plan, i64 9
  %type = load ptr, ptr %typep
  br i1 %as_many, label %argument, label %next
argument:
  %i = phi i64 [ 0, %ask ], [ %inext, %good ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %compare, label %found
compare:
  %xp = getelementptr ptr, ptr %args, i64 %i
  %x = load ptr, ptr %xp
  %sp = getelementptr ptr, ptr %specs, i64 %i
  %spec = load ptr, ptr %sp
  %fits = call i1 @fits(ptr %x, ptr %spec, ptr %type)
  br i1 %fits, label %good, label %next
good:
  %op = getelementptr ptr, ptr %objects, i64 %i
  store ptr %x, ptr %op
  %inext = add i64 %i, 1
  br label %argument
next:
  %following = load ptr, ptr %plan
  br label %head
found:
  %status = call i64 @carry(ptr %plan, ptr %objects)
  switch i64 %status, label %unknown [ i64 0, label %done i64 2, label %error ]
done:
  %noutsp = getelementptr i64, ptr %plan, i64 7
  %nouts = load i64, ptr %noutsp
  %defp = getelementptr i64, ptr %plan, i64 11
  %def = load ptr, ptr %defp
  %nopull = icmp eq ptr %def, null
  %y = call ptr @front(ptr %objects, ptr %plan)
  %lost0 = icmp eq ptr %y, null
  br i1 %lost0, label %drop, label %kind
kind:
  %manyp = getelementptr i64, ptr %plan, i64 17
  %many = load i64, ptr %manyp
  %one = icmp eq i64 %many, 1
  %plain = and i1 %nopull, %one
  br i1 %plain, label %single, label %double
single:
  call void @let_go(ptr %plan, ptr %objects, i64 %nouts)
  ret ptr %y
double:
  br i1 %nopull, label %bare, label %bound
bare:
  call void @Py_IncRef(ptr %nothing)
  br label %pair
bound:
  %state = call ptr @gather(ptr %objects, ptr %plan, i64 1)
  %lost = icmp eq ptr %state, null
  br i1 %lost, label %drop1, label %give
give:
  %backp = getelementptr i64, ptr %plan, i64 12
  %back = load ptr, ptr %backp
  call void @Py_IncRef(ptr %back)
  %s1 = call i32 @PyTuple_SetItem(ptr %state, i64 0, ptr %back)
  %bound_pull = call ptr @PyCFunction_NewEx(ptr %def, ptr %state, ptr null)
  call void @Py_DecRef(ptr %state)
  %lost2 = icmp eq ptr %bound_pull, null
  br i1 %lost2, label %drop1, label %pair
pair:
  %pull = phi ptr [ %nothing, %bare ], [ %bound_pull, %give ]
  %both = call ptr @PyTuple_New(i64 2)
  %lost3 = icmp eq ptr %both, null
  br i1 %lost3, label %drop2, label %fill
fill:
  %s2 = call i32 @PyTuple_SetItem(ptr %both, i64 0, ptr %y)
  %s3 = call i32 @PyTuple_SetItem(ptr %both, i64 1, ptr %pull)
  call void @let_go(ptr %plan, ptr %objects, i64 %nouts)
  ret ptr %both
drop2:
  call void @Py_DecRef(ptr %pull)
  br label %drop1
drop1:
  call void @Py_DecRef(ptr %y)
  br label %drop
drop:
  call void @let_go(ptr %plan, ptr %objects, i64 %nouts)
  br label %error
error:
  ret ptr null
unknown:
  call void @Py_IncRef(ptr %nothing)
  ret ptr %nothing
}

; (g) -> gradients. self: (holder, kept …), holder: (array that is the plan, what to call in other cases, …)
define ptr @pull(ptr %self, ptr %g) {
entry:
  %objects = alloca [MOST x ptr]
  %holderp = getelementptr i8, ptr %self, i64 ITEMS
  %holder = load ptr, ptr %holderp
  %arrayp = getelementptr i8, ptr %holder, i64 ITEMS
  %array = load ptr, ptr %arrayp
  %planp = getelementptr i8, ptr %array, i64 16
  %plan = load ptr, ptr %planp
  %nargsp = getelementptr i64, ptr %plan, i64 1
  %nargs = load i64, ptr %nargsp
  %n = sub i64 %nargs, 1
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %check
body:
  %next = add i64 %i, 1
  %ip = getelementptr ptr, ptr %holderp, i64 %next
  %x = load ptr, ptr %ip
  %op = getelementptr ptr, ptr %objects, i64 %i
  store ptr %x, ptr %op
  br label %head
check:
  %gp = getelementptr ptr, ptr %objects, i64 %n
  store ptr %g, ptr %gp
  %specsp = getelementptr i64, ptr %plan, i64 2
  %specs = load ptr, ptr %specsp
  %sp = getelementptr ptr, ptr %specs, i64 %n
  %spec = load ptr, ptr %sp
  %typep = getelementptr i64, ptr %plan, i64 9
  %type = load ptr, ptr %typep
  %fits = call i1 @fits(ptr %g, ptr %spec, ptr %type)
  br i1 %fits, label %run, label %other
run:
  %status = call i64 @carry(ptr %plan, ptr %objects)
  switch i64 %status, label %other [ i64 0, label %done i64 2, label %error ]
done:
  %noutsp = getelementptr i64, ptr %plan, i64 7
  %nouts = load i64, ptr %noutsp
  %result = call ptr @gather(ptr %objects, ptr %plan, i64 0)
  call void @let_go(ptr %plan, ptr %objects, i64 %nouts)
  ret ptr %result
other:
  %elsep = getelementptr ptr, ptr %arrayp, i64 1
  %else = load ptr, ptr %elsep
  %answer = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %else, ptr %self, ptr %g, ptr null)
  ret ptr %answer
error:
  ret ptr null
}

; (arrays …) -> what a primitive of oneDNN answers, or -1 where one is no array. self: (array of: arrays, their type, the
; function `onednn` of `anynet_backends.jit.compiler`, its data)
define ptr @primitive(ptr %self, ptr %args, i64 %n) {
entry:
  %places = alloca [MOST x ptr]
  %holderp = getelementptr i8, ptr %self, i64 ITEMS
  %holder = load ptr, ptr %holderp
  %cellp = getelementptr i8, ptr %holder, i64 16
  %cell = load ptr, ptr %cellp
  %count = load i64, ptr %cell
  %typep = getelementptr i64, ptr %cell, i64 1
  %type = load ptr, ptr %typep
  %fits = icmp eq i64 %n, %count
  br i1 %fits, label %head, label %end
head:
  %i = phi i64 [ 0, %entry ], [ %next, %place ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %ask, label %execute
ask:
  %xp = getelementptr ptr, ptr %args, i64 %i
  %x = load ptr, ptr %xp
  %xt = getelementptr i8, ptr %x, i64 8
  %own = load ptr, ptr %xt
  %array = icmp eq ptr %own, %type
  br i1 %array, label %place, label %end
place:
  %datap = getelementptr i8, ptr %x, i64 16
  %data = load ptr, ptr %datap
  %pp = getelementptr ptr, ptr %places, i64 %i
  store ptr %data, ptr %pp
  %next = add i64 %i, 1
  br label %head
execute:
  %runp = getelementptr i64, ptr %cell, i64 2
  %run = load ptr, ptr %runp
  %givenp = getelementptr i64, ptr %cell, i64 3
  %given = load ptr, ptr %givenp
  %done = call i64 %run(ptr %places, ptr %cell, ptr null, ptr %given)
  br label %end
end:
  %status = phi i64 [ -1, %entry ], [ -1, %ask ], [ %done, %execute ]
  %answer = call ptr @PyLong_FromLongLong(i64 %status)
  ret ptr %answer
}
declare ptr @PyLong_FromLongLong(i64)
"""


class _Function(NamedTuple):
    """A C function that objects are made of: `make(definition, self)`."""

    definition: native_function.MethodDefinition
    address: int


@once
def _functions() -> dict[str, _Function]:
    code = _CODE
    for name, number in (
        ("MOST", MOST),
        ("ITEMS", tuple.__basicsize__),
        ("EXCEPTIONS", exceptions()),
    ):
        code = code.replace(name, str(number))
    flagged = {"hot": 0x80, "pull": 0x08, "primitive": 0x80}  # METH_FASTCALL, METH_O
    found = compiler().functions(code, tuple(flagged))
    made = {}
    for name, flags in flagged.items():
        definition = native_function.MethodDefinition(name.encode(), found[name], flags, None)
        made[name] = _Function(definition, ctypes.addressof(definition))
    return made


class Plan:
    """A segment for arrays of given forms: what is read, what is made, what is given.

    `rows`: functions that work on `arguments`, `results` and arrays of their own. `gives`: numbers of arguments and
    results (those behind the arguments), -1 for None. Alone, a plan gives its one result; with `back`, the plan of a
    backward pass whose last argument is the gradient, it gives the result and a function of that gradient, for which
    it keeps what `gives` says. Where it has several `outputs`, it gives a tuple of these, and that function or None.
    `plain(arguments …)` does the same by NumPy calls."""

    def __init__(
        self,
        rows: Sequence[segment.KernelCall],
        arguments: Sequence[Array],
        results: Sequence[Array],
        gives: Sequence[int],
        back: Plan | None = None,
        plain: Callable[..., Any] | None = None,
        outputs: int = 1,
    ) -> None:
        held: list[Any] = [back]

        def cells(*numbers: int) -> int:
            array = np.array(numbers, np.int64)
            held.append(array)
            return native_function.data_pointer(array)

        roots = (*arguments, *results)
        moves: list[int] = []
        for row in rows:
            found, needed = segment.relocations(row, roots)
            moves += found
            held += needed
        specs = [cells(id(a.dtype), a.ndim, *a.shape, *a.strides) for a in arguments]
        outs = [
            n
            for a in results
            for n in (id(a.dtype), a.ndim, cells(*a.shape), 0 if a.flags.c_contiguous else cells(*a.strides))
        ]
        held += [a.dtype for a in roots]
        table = np.array([row.cells for row in rows], np.int64)
        held.append(table)
        pull = _functions()["pull"].address if back is not None else 0
        self.record = np.array([
            0, len(arguments), cells(*specs), native_function.data_pointer(table), len(rows), len(moves) // 3, cells(*moves),
            len(results), cells(*outs), id(np.ndarray), _new_array(), pull, id(back.holder) if back is not None else 0,
            len(gives), cells(*gives), compiler().fixed["work"], id(None), outputs,
        ], np.int64)  # fmt: skip
        other = None if plain is None else functools.partial(_other, plain, arguments[-1].strides)
        self.holder: tuple[Any, ...] = (self.record, other, held)


def _other(plain: Callable[..., Any], strides: tuple[int, ...], state: tuple[Any, ...], g: Array) -> Any:
    """The backward pass for a gradient that lies in memory in another way, or where NumPy would warn."""
    if type(g) is np.ndarray and g.strides == strides and g.flags.aligned:
        return plain(*state[1:], g)
    copy = empty_output(g.shape, g.dtype, axes_in_memory(strides))
    copy[...] = g
    if copy.strides != strides:  # axes of length 1 with a step of their own
        return plain(*state[1:], copy)
    return native_function.native_function(_functions()["pull"].address, state)(copy)


class Table:
    """The plans for one operation; `call(arguments …)` gives what the fitting one does, or None. It holds the plans, of which
    none is taken away: another thread may be in it."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.first = np.array([0, id(None)], np.int64)
        self.call: Callable[..., Any] = native_function.native_function(
            _functions()["hot"].address, (self.first, self.plans)
        )

    def add(self, plan: Plan) -> None:
        """One more form of arguments, asked first."""
        plan.record[0] = self.first[0]
        self.plans.append(plan)
        self.first[0] = native_function.data_pointer(plan.record)


def primitive(count: int, data: Array, held: Any) -> Callable[..., int]:
    """A call of oneDNN as a function of so many arrays; `data`: see `onednn` in `anynet_backends.jit.compiler`."""
    if count > MOST:
        msg = f"a primitive of {count} arrays; {MOST} are the most"
        raise ValueError(msg)
    cells = np.array(
        [count, id(np.ndarray), compiler().fixed["onednn"], native_function.data_pointer(data)], np.int64
    )
    return native_function.native_function(_functions()["primitive"].address, (cells, data, held))


def _onednn_call(step: onednn.Step) -> Callable[..., int] | None:
    """A step of oneDNN as a built-in function, with scratch memory of its own; None without machine code."""
    if not available() or not availability.available():
        return None
    call = primitive(step.count, step.cells(), step.args)
    return functools.partial(call, np.empty(step.room, np.uint8)) if step.room else call


onednn.primitive.native_call = _onednn_call

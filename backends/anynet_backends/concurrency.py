"""Thread and fork safety: one-time construction, per-thread stacks, and what a forked process finds.

Objects that are built lazily (the compiler, the definitions of built-in functions, a library's engine) are built under one lock,
`BUILD_LOCK`. It is one lock because these objects build each other, and two locks would be taken in two orders. A process is
forked, and ends, only while no thread holds it: a child never finds half-built objects, and LLVM and oneDNN are not shut down
while a thread is inside them.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import os
import sys
import sysconfig
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BUILD_LOCK",
    "ThreadStack",
    "fork_safe_lock",
    "immortal",
    "has_gil",
    "late_import",
    "after_fork",
    "once",
    "once_property",
    "set_aside",
    "this_thread",
]

_T = TypeVar("_T")
_F = TypeVar("_F", bound="Callable[..., Any]")

BUILD_LOCK = threading.RLock()
"""Held while an object is built that exists once in the process."""


# daemon threads are not joined at exit; registered at import, since the function that is registered first is called last
atexit.register(BUILD_LOCK.acquire)


def late_import(module: str) -> Any:
    """A module that is imported where it is first needed: a process that is forked in the middle of an import could never import it."""
    with BUILD_LOCK:
        return importlib.import_module(module)


def once(function: _F) -> _F:
    """Decorator: a function of hashable arguments is called once for each of them, even if several threads call it at the same
    time; its values live as long as the process. (`functools.cache` calls it in each thread that comes before it is done.)

    >>> @once
    ... def square(x):
    ...     print("computing")
    ...     return x * x
    >>> square(3), square(3)
    computing
    (9, 9)
    """
    built: dict[tuple[Any, ...], Any] = {}

    @functools.cache
    @functools.wraps(function)
    def get(*key: Any) -> Any:
        with BUILD_LOCK:
            if key not in built:
                built[key] = immortal(function(*key))
            return built[key]

    return get  # type: ignore[return-value]


class once_property(Generic[_T]):  # noqa: N801 - it is used as a decorator
    """Decorator: an attribute that is computed on first access, by one thread. (`functools.cached_property` lets each thread
    compute it; before Python 3.12 it has a lock that may be taken for ever in a forked process.)"""

    def __init__(self, function: Callable[[Any], _T]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once_property[_T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> _T: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """The value, which is stored in the instance's dictionary, where later accesses find it."""
        if instance is None:
            return self
        with BUILD_LOCK:
            known = instance.__dict__
            if self.name not in known:
                known[self.name] = self.function(instance)
            return known[self.name]


def immortal(value: _T) -> _T:
    """The value, made immortal: machine code and the data it reads may be in use by a daemon thread when the interpreter
    finalizes and clears its modules."""
    if sys.implementation.name == "cpython":
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def fork_safe_lock() -> threading.RLock:
    """A lock that is released in a forked process unless the forking thread holds it: other threads, which could release it, do
    not exist in the child."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def has_gil() -> bool:
    """Whether this Python has a global interpreter lock. Without it, objects have another layout in memory, and built-in
    functions of machine code, which share scratch memory, would run concurrently."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


class _Thread(threading.local):
    """The modes and observers of one thread: an object per thread. Beside these attributes it holds the stacks of this thread, each under
    the name that its `ThreadStack` was given: ``vars(this_thread)`` shows all that is switched on."""

    recording: bool = True
    """Whether operations are recorded for a backward pass (`no_grad`)."""
    transforms: int = 0
    """How many of `grad`, `vjp` and `jvp` are running, one inside the other."""
    levels: tuple[tuple[int, int], ...] = ()
    """The (number, size) of each `vmap` that is running, the outermost first."""


this_thread = _Thread()


class ThreadStack(list[_T]):
    """A stack per thread, kept in `this_thread` under a name of its own. It is cheap to test while the stacks of all threads are
    empty: `own` is the calling thread's stack, and the list itself holds the items of all threads.

    >>> stack = ThreadStack("example")
    >>> stack.append("here")
    >>> bool(stack), stack.own, vars(this_thread)["example"]
    (True, ['here'], ['here'])
    """

    name: str

    def __init__(self, name: str) -> None:
        super().__init__()
        if hasattr(_Thread, name) or any(stack.name == name for stack in _live_stacks()):
            msg = f"the name of a stack must be new, got {name!r}"
            raise ValueError(msg)
        self.name = name
        _stacks.append(weakref.ref(self, _stacks.remove))

    @property
    def own(self) -> list[_T]:
        """The calling thread's stack; the last item is the latest."""
        stack: list[_T] | None = getattr(this_thread, self.name, None)
        if stack is None:
            stack = []
            setattr(this_thread, self.name, stack)
        return stack

    def append(self, item: _T) -> None:
        """Push an item onto the calling thread's stack."""
        self.own.append(item)
        super().append(item)

    def remove(self, item: _T) -> None:
        """Remove the latest such item from the calling thread's stack."""
        own = self.own
        del own[len(own) - 1 - own[::-1].index(item)]
        super().remove(item)

    def pop(self, *_: Any) -> _T:
        """Remove and return the latest item of the calling thread's stack."""
        item = self.own[-1]
        self.remove(item)
        return item


_stacks: list[weakref.ref[ThreadStack[Any]]] = []


def _live_stacks() -> list[ThreadStack[Any]]:
    return [stack for ref in _stacks if (stack := ref()) is not None]


@contextmanager
def set_aside(*stacks: ThreadStack[Any]) -> Iterator[None]:
    """A context in which these stacks of the calling thread are empty."""
    held = [(stack.own, stack.own[:]) for stack in stacks]
    for own, _ in held:
        own.clear()
    try:
        yield
    finally:
        for own, items in held:
            own[:] = items


def after_fork(function: Callable[[], None]) -> None:
    """Register a function to be called first in every process that is forked from this one. OpenMP's threads do not exist there,
    and code that counts on them would wait for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def _forked() -> None:
    """The child has one thread: release the locks of the others, and drop their stacks."""
    BUILD_LOCK.release()
    for lock in _locks:
        if not lock._is_owned():
            lock._at_fork_reinit()
    for stack in _live_stacks():
        stack[:] = stack.own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=BUILD_LOCK.acquire, after_in_parent=BUILD_LOCK.release, after_in_child=_forked)

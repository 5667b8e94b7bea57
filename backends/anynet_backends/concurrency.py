"""Threads and forked processes: what is built once, what is so in one thread, what a forked process finds.

What is built lazily (the compiler, the definitions of built-in functions, a library's engine) is built under one lock,
`BUILD_LOCK`. One, since these build each other, and two locks would be taken in two orders. A process is forked, and ends, only
while nobody builds: so a child finds whole what its parent has, and LLVM and oneDNN are not taken down under a thread that is in
them.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
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
    "after_fork",
    "once",
    "once_property",
]

_T = TypeVar("_T")
_F = TypeVar("_F", bound="Callable[..., Any]")

BUILD_LOCK = threading.RLock()
"""Who builds what there is once in the process holds it."""


# at the end nobody waits for daemon threads; registered here, since what is registered first is called last
atexit.register(BUILD_LOCK.acquire)


def once(function: _F) -> _F:
    """Decorator: a function of hashable arguments is called once for each of them, whatever threads ask at a time, and what
    it returned lives as long as the process. (`functools.cache` calls it in each thread that asks before it is done.)

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
    """Decorator: an attribute that is computed when it is first asked for, by one thread. (`functools.cached_property` lets
    each thread compute it, or before Python 3.12 has a lock that a forked process may find taken.)"""

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
        """The value, which from now on is in the instance's dictionary and found there."""
        if instance is None:
            return self
        with BUILD_LOCK:
            known = instance.__dict__
            if self.name not in known:
                known[self.name] = self.function(instance)
            return known[self.name]


def immortal(value: _T) -> _T:
    """The value, which is never freed: machine code and what it reads may be in use, by a thread that nobody waits for, when
    the interpreter ends and clears its modules."""
    if sys.implementation.name == "cpython":
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def fork_safe_lock() -> threading.RLock:
    """A lock that is free in a forked process, unless the thread that forked holds it: those that held it otherwise are not
    there to release it."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def has_gil() -> bool:
    """Whether this Python is built with the lock that lets one thread run at a time. Without, objects lie in memory in
    another way, and built-in functions of machine code, which share memory for their temporaries, would run at once."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


class ThreadStack(list[_T]):
    """A stack for each thread: `own` is that of the thread that asks. The list itself has what lies on all of them,
    and is there to be asked whether it is empty.

    >>> stack = ThreadStack()
    >>> stack.append("here")
    >>> bool(stack), stack.own
    (True, ['here'])
    """

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()
        _stacks.append(weakref.ref(self, _stacks.remove))

    @property
    def own(self) -> list[_T]:
        """This thread's; the last is the latest."""
        stack: list[_T] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def append(self, item: _T) -> None:
        """Lay something on this thread's stack."""
        self.own.append(item)
        super().append(item)

    def remove(self, item: _T) -> None:
        """Take the latest such thing from this thread's stack."""
        own = self.own
        del own[len(own) - 1 - own[::-1].index(item)]
        super().remove(item)

    def pop(self, *_: Any) -> _T:
        """Take the latest thing from this thread's stack."""
        item = self.own[-1]
        self.remove(item)
        return item

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within the block this thread's stack is empty."""
        own = self.own
        held = own[:]
        own.clear()
        try:
            yield
        finally:
            own[:] = held


_stacks: list[weakref.ref[ThreadStack[Any]]] = []


def after_fork(function: Callable[[], None]) -> None:
    """Have a function called in every process that is forked from this one, before anything else. OpenMP's threads are not
    there, and whoever counts on them waits for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def _forked() -> None:
    """There is one thread, with its own stacks."""
    BUILD_LOCK.release()
    for lock in _locks:
        if not lock._is_owned():
            lock._at_fork_reinit()
    for ref in _stacks:
        stack = ref()
        if stack is not None:
            stack[:] = stack.own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=BUILD_LOCK.acquire, after_in_parent=BUILD_LOCK.release, after_in_child=_forked)

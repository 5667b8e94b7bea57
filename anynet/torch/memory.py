"""Views that write through, and operations in place.

Arrays of anynet are values: a result never changes when something else is written. PyTorch's views show the memory of another tensor, and
a write into one is seen in all. Here each view (`x[0]`, `x.view(…)`, `x.data`) knows of which Tensor it shows what, and a Tensor
knows its views. A write makes a new value of the first Tensor of the chain, recorded like any operation, and the views are taken
of it again:

    v = x[0];  v += 1       x ← x with its row 0 replaced;  v, and all other views of x, ← what they show of the new x

So gradients are right by construction: what had been saved for a backward pass keeps the old values, which PyTorch refuses with an error.
A variable (a leaf that requires a gradient) is written in place, outside of recording only, as everywhere in anynet. A result that is being
differentiated keeps its place in the graph when it is written outside of recording, through `.data` or `detach()`.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from anynet.ops.creation import arange
from anynet.ops.indexing import replace
from anynet.ops.manipulation import astype, broadcast_to, reshape
from anynet.ops.selection import scatter
from anynet.tensor import Leaf, Tensor, no_grad, to_plain, wrap
from anynet.torch.promotion import RANK
from anynet_backends.concurrency import this_thread
from anynet_backends.jit.tracer import COMPILING

__all__ = [
    "Memory", "above", "behind", "dense", "fitted", "in_order", "layout", "memory_of", "note", "part", "place", "settle", "shows",
    "variable_below", "viewable", "write",
]  # fmt: skip


class Memory:
    """Of which Tensor one shows a part, and which Tensors show parts of it."""

    __slots__ = ("again", "detached", "fits", "limit", "parent", "put", "views")

    def __init__(
        self,
        parent: Any = None,
        again: Callable[[Any], Any] | None = None,
        put: Callable[[Any, Any], Any] | None = None,
        detached: bool = False,
        fits: Callable[[Any, Any, Any], bool] | None = None,
    ) -> None:
        self.parent = parent  # a Tensor; for `detached` ones a weak reference to it, or what gives it
        self.again = again or _same  # what is shown, of a new value of the parent
        self.put = put  # a new value of the parent, from one of the view
        self.detached = detached  # whether it is outside of the parent's graph: x.data, x.detach()
        # of what PyTorch copies where memory is in another order (`reshape`): whether it is a view, asked at the first write (`settle`)
        self.fits = fits
        self.views: list[weakref.ref[Any]] = []
        self.limit = 8  # how many there may be before those that are gone are taken out

    def live(self) -> Iterator[Any]:
        """The views that somebody still holds."""
        return (y for ref in list(self.views) if (y := ref()) is not None)

    def is_first(self) -> bool:
        """Whether the Tensor is no view, or what it was taken of is gone."""
        return self.parent is None or (self.detached and self.parent() is None)

    def alone(self) -> bool:
        """Whether nothing else shows the same memory."""
        return self.is_first() and next(self.live(), None) is None

    def part(self, x: Any) -> None:
        """x, which has this, is about to get another array, and what shows it does not follow."""
        part(x)

    def moved(self, x: Any) -> None:
        """The array of x, a variable, lies elsewhere now (in an optimizer's flat vector): its views show that."""
        with no_grad():
            _refresh(x)


def _same(x: Any) -> Any:
    return x


def memory_of(x: Any) -> Memory | None:
    """What is known of a Tensor's views; None where there have been none."""
    return getattr(x, "_memory", None)


def shows(
    y: Any,
    x: Any,
    again: Callable[[Any], Any],
    put: Callable[[Any, Any], Any] | None = None,
    *,
    detached: bool = False,
    fits: Callable[[Any, Any, Any], bool] | None = None,
) -> Any:
    """Let y be a view of x: `again` takes it of a new value of x, `put` makes a new value of x from one of y. With `fits` it is a copy
    where that says so of x's shape and strides and y's shape. Returns y."""
    if y is x:
        return y
    own = memory_of(x)
    if own is None:
        own = x._memory = Memory()
    y._memory = Memory(weakref.ref(x) if detached else x, again, put, detached, fits)
    if len(own.views) >= own.limit:
        own.views = [ref for ref in own.views if ref() is not None]
        own.limit = 2 * len(own.views) + 8
    own.views.append(weakref.ref(y))
    return y


def note(x: Any, what: str) -> None:
    """A compiled function is being recorded: what becomes of the views of x in each replay."""
    if COMPILING and COMPILING.own:
        COMPILING.own[-1].rebound.setdefault(id(x), []).append(what)


def place(x: Any, again: Callable[[Any], Any], new: Any) -> Any:
    """x with `new` where `again` takes from: found by taking from the numbers of its elements."""
    size = int(x.size)
    shown = again(reshape(arange(size, device=x.device), x.shape))
    flat = reshape(shown, (-1,))
    if flat.size > size:
        msg = (
            f"a write into a view of shape {tuple(new.shape)} that shows elements of a tensor of shape {tuple(x.shape)} more than once; "
            "write into a clone()"
        )
        raise RuntimeError(msg)
    return reshape(scatter(reshape(x, (-1,)), flat, reshape(new, (-1,)), axis=0), x.shape)


def write(x: Any, new: Any) -> Any:
    """x takes another value, in place, and with it every Tensor that shows the same memory. Returns x."""
    own = memory_of(x)
    if own is not None:
        settle(x)
    note(x, "written")
    if own is None or (own.parent is None and next(own.live(), None) is None):
        return replace(x, new)
    root, detached = x, False
    while (link := memory_of(root)) is not None and link.parent is not None:
        parent = link.parent() if link.detached else link.parent
        if parent is None:  # what it was taken of is gone
            break
        new = link.put(parent, new) if link.put is not None else place(parent, link.again, new)
        root, detached = parent, detached or link.detached
        settle(root)
    if root is not x:
        note(root, "written")
    if detached:
        with no_grad():
            replace(root, new.detach())
            _refresh(root)
    else:
        replace(root, new)
        _refresh(root)
    return x


def viewable(shape: Any, strides: Any, new: Any) -> bool:
    """Whether elements that lie so can be seen in the shape `new` without a copy: its axes divide what lies in a row."""
    dims = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    i, row = len(new) - 1, 1
    for k in reversed(range(len(dims))):
        row *= dims[k][0]
        if k and dims[k - 1][1] == dims[k][0] * dims[k][1]:
            continue
        taken = 1
        while i >= 0 and (taken < row or new[i] == 1):
            taken *= new[i]
            i -= 1
        if taken != row:
            return False
        row = 1
    return True


def dense(shape: Any, strides: Any, new: Any) -> bool:
    """Whether elements that lie so lie in their order, without gaps."""
    want = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != want:
            return False
        want *= n
    return True


def above(x: Any) -> tuple[Any, list[Memory], bool]:
    """The first Tensor of the chain of views that ends with x, which lies in order, the links to x, and whether one of them is detached."""
    chain: list[Memory] = []
    settle(x)
    while (link := memory_of(x)) is not None and link.parent is not None:
        parent = link.parent() if link.detached else link.parent
        if parent is None:
            break
        settle(parent)
        chain.append(link)
        x = parent
    return x, chain[::-1], any(link.detached for link in chain)


def layout(x: Any) -> tuple[int, tuple[int, ...]]:
    """Where the first element of x lies in the memory that it shows, which begins with a tensor in order, and how far apart neighbours
    along each axis lie; in elements."""
    root, chain, _ = above(x)
    if not chain or not x.size:
        return 0, in_order(x.shape)
    shown = reshape(arange(int(root.size), device=root.device), root.shape)
    for link in chain:
        shown = link.again(shown)
    corner = tuple(slice(0, 2) for _ in shown.shape)
    found = shown[corner].numpy() if shown.shape else shown.numpy()
    steps = [
        int((found.take(1, axis=d) - found.take(0, axis=d)).reshape(-1)[0]) if n > 1 else 0
        for d, n in enumerate(found.shape)
    ]
    for d in reversed(range(len(steps))):  # an axis of length 1 has the stride that it would have in order
        if found.shape[d] == 1:
            steps[d] = steps[d + 1] * int(shown.shape[d + 1]) if d + 1 < len(steps) else 1
    return int(found.reshape(-1)[0]), tuple(steps)


def in_order(shape: Any) -> tuple[int, ...]:
    """The strides of a tensor that lies in order."""
    steps, step = [], 1
    for n in reversed(tuple(shape)):
        steps.append(step)
        step *= max(int(n), 1)
    return tuple(reversed(steps))


def variable_below(x: Any) -> bool:
    """Whether x shows a variable, whose array is written in place."""
    while (link := memory_of(x)) is not None and link.parent is not None:
        parent = link.parent() if link.detached else link.parent
        if parent is None:
            return False
        x = parent
    return type(x.edge) is Leaf


def settle(y: Any) -> None:
    """Decide whether y, which is a view or a copy as the memory has it, is a copy, and then let it be one."""
    link = memory_of(y)
    if link is None or link.fits is None or link.parent is None:
        return
    fits, link.fits, parent = link.fits, None, link.parent
    base = memory_of(parent)
    if base is None or base.parent is None or not y.size:  # a tensor in order
        return
    with no_grad():
        if fits(parent.shape, layout(parent)[1], y.shape):
            return
    link.parent, link.again = None, _same
    base.views = [ref for ref in base.views if ref() is not y]


def part(x: Any) -> None:
    """x leaves the memory that it shares, before it is given another (``x.data = y``): what showed it keeps the old values, as does what x
    was itself a view of."""
    own = memory_of(x)
    note(x, "apart")
    if own is None:
        return
    parent = own.parent() if own.detached else own.parent
    if parent is None and next(own.live(), None) is None:
        return
    # its array may be written in place: the values that are shown
    old = wrap(to_plain(x, copy=True), type(x)._results or Tensor)
    old.edge, old._memory = x.edge, own
    if COMPILING and COMPILING.own:
        COMPILING.own[-1].made[id(old)] = old, x._data
        COMPILING.own[-1].undo.append(_joins(x, own, memory_of(parent)))
    for y in own.live():
        link = memory_of(y)
        if link is not None:
            link.parent = functools.partial(_same, old) if link.detached else old
    if parent is not None:
        shown = memory_of(parent)
        if shown is not None:
            shown.views = [*(ref for ref in shown.views if ref() is not x), weakref.ref(old)]
    del x._memory
    with no_grad():
        _refresh(old)


def _joins(x: Any, own: Memory, above: Memory | None) -> Callable[[], None]:
    """What undoes that x leaves the memory that it shares: a compiled function that is refused changes nothing."""
    links = [(link, link.parent) for y in own.live() if (link := memory_of(y)) is not None]
    views = [] if above is None else above.views

    def undo() -> None:
        x._memory = own
        for link, parent in links:
            link.parent = parent
        if above is not None:
            above.views = views

    return undo


def behind(x: Any, take: Callable[[Any], Any]) -> None:
    """x, a view, becomes `take` of itself: a Tensor that shows what x did takes its place, and x shows that."""
    own = x._memory
    parent = own.parent() if own.detached else own.parent
    old = wrap(x._data, type(x)._results or Tensor)
    old.edge, old._memory = x.edge, own
    for y in own.live():
        link = memory_of(y)
        if link is not None:
            link.parent = functools.partial(_same, old) if link.detached else old
    base = memory_of(parent)
    if base is not None:
        base.views = [*(ref for ref in base.views if ref() is not x), weakref.ref(old)]
    del x._memory
    made = take(old)
    x._data, x.edge, x._memory = made._data, made.edge, made._memory
    own.views = [*(ref for ref in own.views if ref() is not made), weakref.ref(x)]


def _refresh(x: Any) -> None:
    """Take all views of x again."""
    own = memory_of(x)
    if own is None:
        return
    for y in own.live():
        link = memory_of(y)
        if link is None:
            continue
        settle(y)
        if link.parent is None:  # a copy
            continue
        z = link.again(x)
        if COMPILING and COMPILING.own:
            COMPILING.own[-1].see(y)  # what is recorded gives it back, or is refused
        y._data = z._data
        if this_thread.recording and not link.detached:
            y.edge = z.edge
        _refresh(y)


def fitted(x: Any, new: Any, what: str) -> Any:
    """A value for x as x can take it: in its dtype and shape, or refused as PyTorch refuses it."""
    if not isinstance(new, Tensor):
        return new
    if new.dtype is not x.dtype:
        if RANK[new.dtype.kind] > RANK[x.dtype.kind]:
            msg = f"{what}: result type {new.dtype} can't be cast to the desired output type {x.dtype}"
            raise RuntimeError(msg)
        new = astype(new, x.dtype)
    if tuple(new.shape) != tuple(x.shape):
        msg = f"{what}: the result has shape {tuple(new.shape)}, which a tensor of shape {tuple(x.shape)} cannot hold in place"
        if len(new.shape) > len(x.shape):
            raise RuntimeError(msg)
        try:
            return broadcast_to(new, x.shape)
        except ValueError:
            raise RuntimeError(msg) from None
    return new

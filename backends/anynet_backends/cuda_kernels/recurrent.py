"""Recurrent layers: in each step a product and a kernel, forward and backward; the gradient of the weights is one product of all steps.

The states of all steps lie behind one another, with the first one before them (behind them, where time runs backward): those that the
steps begin with are a view. The activations are kept for the backward pass. In packed sequences only the first `sizes[t]` rows change
in step t.
"""

from __future__ import annotations

from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels.launch import FLOATS, THREADS, CudaKernel, blocks_for, wide
from anynet_backends.kernel_table import KernelTable, register_in

__all__ = ["KERNELS"]

KERNELS: KernelTable = {}
_kernel = register_in(KERNELS)

# A thread for each row of the batch and unit. `place`: of this step in arrays of all steps; `old`, `now`: of the states before and after
# it. Backward, what comes from the step after this one is a product with the weight, and a part that was carried on without.
_HEAD: Final = """
#define SIGMOID(a) (A(0.5) * tanh(A(0.5) * (a)) + A(0.5))
#define BEGIN \\
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, size = n * m; \\
    if (i >= size) return; \\
    const long long row = i / m, unit = i % m, place = t * size + i; \\
    const bool on = row < active;
"""

_RNN: Final = """
extern "C" __global__ void anynet_rnn_cell(
    const T* gates, const T* product, T* h, long long relu, long long t, long long old, long long now, long long n, long long m,
    long long active
) {
    BEGIN
    const A a = up(gates[place]) + up(product[i]), y = relu ? (a > A(0) || a != a ? a : A(0)) : tanh(a);
    h[now * size + i] = on ? down(y) : h[old * size + i];
}
"""

_RNN_BACK: Final = """
extern "C" __global__ void anynet_rnn_cell_back(
    const T* g, const T* product, const T* h, A* carried, T* d, long long relu, long long t, long long old, long long now, long long n,
    long long m, long long active
) {
    BEGIN
    const A y = up(h[now * size + i]), dh = up(g[place]) + (product ? up(product[i]) : A(0)) + (carried ? carried[i] : A(0));
    d[place] = down(on ? relu ? (y > A(0) ? dh : dh * A(0)) : dh * (A(1) - y * y) : A(0));
    if (carried) carried[i] = on ? A(0) : dh;
}
"""

_LSTM: Final = """
extern "C" __global__ void anynet_lstm_cell(
    const T* gates, const T* product, T* h, T* c, T* acts, long long t, long long old, long long now, long long n, long long m,
    long long active
) {
    BEGIN
    const T *x = gates + (t * n + row) * 4 * m + unit, *p = product + row * 4 * m + unit;
    const A in = SIGMOID(up(x[0]) + up(p[0])), forget = SIGMOID(up(x[m]) + up(p[m]));
    const A cell = tanh(up(x[2 * m]) + up(p[2 * m])), out = SIGMOID(up(x[3 * m]) + up(p[3 * m]));
    const A next = forget * up(c[old * size + i]) + in * cell;
    c[now * size + i] = on ? down(next) : c[old * size + i];
    h[now * size + i] = on ? down(out * tanh(next)) : h[old * size + i];
    if (acts) {
        T* a = acts + (t * n + row) * 4 * m + unit;
        a[0] = down(in);
        a[m] = down(forget);
        a[2 * m] = down(cell);
        a[3 * m] = down(out);
    }
}
"""

_LSTM_BACK: Final = """
extern "C" __global__ void anynet_lstm_cell_back(
    const T* gh, const T* gc, const T* product, const T* acts, const T* c, A* dc, A* carried, T* d, long long t, long long old,
    long long now, long long n, long long m, long long active
) {
    BEGIN
    const T* a = acts + (t * n + row) * 4 * m + unit;
    T* to = d + (t * n + row) * 4 * m + unit;
    const A in = up(a[0]), forget = up(a[m]), cell = up(a[2 * m]), out = up(a[3 * m]), tc = tanh(up(c[now * size + i]));
    const A dh = up(gh[place]) + (product ? up(product[i]) : A(0)) + (carried ? carried[i] : A(0));
    const A whole = up(gc[place]) + (product ? dc[i] : A(0)), by = whole + dh * out * (A(1) - tc * tc);
    to[0] = down(on ? by * cell * in * (A(1) - in) : A(0));
    to[m] = down(on ? by * up(c[old * size + i]) * forget * (A(1) - forget) : A(0));
    to[2 * m] = down(on ? by * in * (A(1) - cell * cell) : A(0));
    to[3 * m] = down(on ? dh * tc * out * (A(1) - out) : A(0));
    dc[i] = on ? by * forget : whole;
    if (carried) carried[i] = on ? A(0) : dh;
}
"""

_GRU: Final = """
extern "C" __global__ void anynet_gru_cell(
    const T* gates, const T* product, const T* bias, T* h, T* acts, long long t, long long old, long long now, long long n, long long m,
    long long active
) {
    BEGIN
    const T *x = gates + (t * n + row) * 3 * m + unit, *p = product + row * 3 * m + unit;
    const A br = bias ? up(bias[unit]) : A(0), bz = bias ? up(bias[m + unit]) : A(0), bn = bias ? up(bias[2 * m + unit]) : A(0);
    const A r = SIGMOID(up(x[0]) + (up(p[0]) + br)), z = SIGMOID(up(x[m]) + (up(p[m]) + bz)), inner = up(p[2 * m]) + bn;
    const A fresh = tanh(up(x[2 * m]) + r * inner), before = up(h[old * size + i]);
    h[now * size + i] = on ? down(fresh + z * (before - fresh)) : h[old * size + i];
    if (acts) {
        T* a = acts + (t * n + row) * 4 * m + unit;
        a[0] = down(r);
        a[m] = down(z);
        a[2 * m] = down(fresh);
        a[3 * m] = down(inner);
    }
}
"""

_GRU_BACK: Final = """
extern "C" __global__ void anynet_gru_cell_back(
    const T* g, const T* product, const T* acts, const T* h, A* carried, T* d, T* e, long long t, long long old, long long now,
    long long n, long long m, long long active
) {
    BEGIN
    const T* a = acts + (t * n + row) * 4 * m + unit;
    T *to = d + (t * n + row) * 3 * m + unit, *inside = e + (t * n + row) * 3 * m + unit;
    const A r = up(a[0]), z = up(a[m]), fresh = up(a[2 * m]), inner = up(a[3 * m]);
    const A dh = up(g[place]) + (product ? up(product[i]) + carried[i] : A(0));
    const A dn = on ? dh * (A(1) - z) * (A(1) - fresh * fresh) : A(0), dr = dn * inner * r * (A(1) - r);
    const A dz = on ? dh * (up(h[old * size + i]) - fresh) * z * (A(1) - z) : A(0);
    to[0] = inside[0] = down(dr);
    to[m] = inside[m] = down(dz);
    to[2 * m] = down(dn);
    inside[2 * m] = down(dn * r);
    carried[i] = on ? dh * z : dh;
}
"""

_CELL = {
    name: CudaKernel(f"anynet_{name}", _HEAD + source)
    for name, source in (
        ("rnn_cell", _RNN), ("rnn_cell_back", _RNN_BACK), ("lstm_cell", _LSTM), ("lstm_cell_back", _LSTM_BACK),
        ("gru_cell", _GRU), ("gru_cell_back", _GRU_BACK),
    )
}  # fmt: skip


class _Layer:
    """What the layers have in common: the sizes, the states, the weights' gradient. `gates`: (steps, n, width)."""

    def __init__(
        self, xp: Backend, gates: Array, h: Array, weight: Array, reverse: bool, sizes: tuple[int, ...] | None
    ) -> None:
        self.xp, self.cupy, self.weight = xp, xp.native, weight
        self.gates = self.cupy.ascontiguousarray(gates)
        self.steps, self.n, self.width = gates.shape
        self.m = h.shape[-1]
        self.letter = gates.dtype.char
        self.wide = wide(gates.dtype)  # of what is added up over the steps
        self.blocks = blocks_for(self.n * self.m)
        self.reverse, self.sizes = reverse, sizes
        self.before, self.after = (1, 0) if reverse else (0, 1)
        self.order = range(self.steps - 1, -1, -1) if reverse else range(self.steps)
        self.h, self.hs = self.states(h)

    def states(self, first: Array) -> tuple[Array, Array]:
        """Room for the states of all steps with the first one, and the part of it that the steps make."""
        whole = self.cupy.empty((self.steps + 1, *first.shape), self.gates.dtype)
        whole[self.steps if self.reverse else 0] = first
        return whole, whole[:-1] if self.reverse else whole[1:]

    def empty(self, width: int) -> Array:
        """Room for a row of each step and sequence."""
        return self.cupy.empty((self.steps, self.n, width), self.gates.dtype)

    def form(self, t: int) -> tuple[int, ...]:
        """The last arguments of each kernel."""
        active = self.n if self.sizes is None else self.sizes[t]
        return t, t + self.before, t + self.after, self.n, self.m, active

    def cell(self, name: str, *args: Any) -> None:
        """Launch a kernel on all rows and units."""
        _CELL[name](self.letter, self.blocks, THREADS, *args)

    def forward(self, name: str, *arrays: Any) -> None:
        """All steps of the forward pass, with what stands between the product and the form in the kernel's arguments."""
        transposed, matmul = self.weight.T, self.xp.matmul
        for t in self.order:
            product = matmul(self.h[t + self.before], transposed)
            self.cell(name, self.gates, product, *arrays, *self.form(t))

    def carried(self) -> Array:
        return self.cupy.zeros((self.n, self.m), self.wide)

    def weight_gradient(self, d: Array) -> Array:
        """Σ_t d_tᵀ h_{t−1}: one product."""
        before = self.h[1:] if self.reverse else self.h[:-1]
        return self.xp.matmul(d.reshape(-1, d.shape[-1]).T, before.reshape(-1, self.m))

    def first(self, product: Array, carried: Array | None) -> Array:
        """The gradient of the state at the beginning."""
        return product if carried is None else (product + carried).astype(product.dtype, copy=False)


def _taken(width: int, gates: Array, *arrays: Array | None) -> bool:
    """Whether the kernels take these: all of one floating dtype, nothing empty, and as many gates as `width` for each unit."""
    known = [a for a in arrays if a is not None]
    return (
        gates.dtype.char in FLOATS
        and all(a.dtype == gates.dtype for a in known)
        and all(a.size for a in (gates, *known))
        and gates.shape[-1] == width * known[0].shape[-1]
    )


@_kernel
def rnn_scan(
    xp: Backend, gates: Array, h: Array, weight: Array, *, relu: bool = False, reverse: bool = False,
    sizes: tuple[int, ...] | None = None, need: Any,
) -> Any:  # fmt: skip
    """h_t = tanh(gates_t + W h_{t−1}), or ReLU for tanh."""
    if not _taken(1, gates, h, weight):
        return NotImplemented
    layer = _Layer(xp, gates, h, weight, reverse, sizes)
    y = layer.hs
    layer.forward("rnn_cell", layer.h, int(relu))
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        g, d, product = layer.cupy.ascontiguousarray(g), layer.empty(layer.m), None
        carried = None if sizes is None else layer.carried()
        for t in layer.order[::-1]:
            layer.cell("rnn_cell_back", g, product, layer.h, carried, d, int(relu), *layer.form(t))
            product = xp.matmul(d[t], weight)
        return d, layer.first(product, carried), layer.weight_gradient(d) if need[2] else None

    return y, pull


@_kernel
def lstm_scan(
    xp: Backend, gates: Array, h: Array, c: Array, weight: Array, projection: Array | None = None, *, reverse: bool = False,
    sizes: tuple[int, ...] | None = None, need: Any,
) -> Any:  # fmt: skip
    """c_t = σ(f) c_{t−1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t), without a projection."""
    if projection is not None or not _taken(4, gates, h, c, weight):
        return NotImplemented
    layer = _Layer(xp, gates, h, weight, reverse, sizes)
    cells, cs = layer.states(c)
    acts = None if need is None else layer.empty(layer.width)
    y = layer.hs, cs
    layer.forward("lstm_cell", layer.h, cells, acts)
    if need is None:
        return y

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        gh, gc = (layer.cupy.ascontiguousarray(part) for part in g)
        d, dc, product = layer.empty(layer.width), layer.cupy.empty(c.shape, layer.wide), None
        carried = None if sizes is None else layer.carried()
        for t in layer.order[::-1]:
            layer.cell("lstm_cell_back", gh, gc, product, acts, cells, dc, carried, d, *layer.form(t))
            product = xp.matmul(d[t], weight)
        dw = layer.weight_gradient(d) if need[3] else None
        return (d, layer.first(product, carried), dc.astype(c.dtype, copy=False), dw, None)[: len(need)]

    return y, pull


@_kernel
def gru_scan(
    xp: Backend, gates: Array, h: Array, weight: Array, bias: Array | None = None, *, reverse: bool = False,
    sizes: tuple[int, ...] | None = None, need: Any,
) -> Any:  # fmt: skip
    """r, z = σ(gates + W h + b), n = tanh(gates_n + r (W_n h + b_n)), h_t = (1 − z) n + z h_{t−1}."""
    if not _taken(3, gates, h, weight, bias):
        return NotImplemented
    layer = _Layer(xp, gates, h, weight, reverse, sizes)
    shift = None if bias is None else layer.cupy.ascontiguousarray(bias)
    acts = None if need is None else layer.empty(4 * layer.m)
    y = layer.hs
    layer.forward("gru_cell", shift, layer.h, acts)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        g, d, inside, product = (
            layer.cupy.ascontiguousarray(g),
            layer.empty(layer.width),
            layer.empty(layer.width),
            None,
        )
        carried = layer.cupy.empty(h.shape, layer.wide)
        for t in layer.order[::-1]:
            layer.cell("gru_cell_back", g, product, acts, layer.h, carried, d, inside, *layer.form(t))
            product = xp.matmul(inside[t], weight)
        dw = layer.weight_gradient(inside) if need[2] else None
        db = inside.reshape(-1, layer.width).sum(axis=0) if len(need) > 3 and need[3] else None
        return (d, layer.first(product, carried), dw, db)[: len(need)]

    return y, pull

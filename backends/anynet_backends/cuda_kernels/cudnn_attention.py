"""Attention by cuDNN, forward and backward, of 16-bit operands: those of such a dtype, and float32 ones that `precision` has rounded to it.

It is taken where the reference would hold more than one block of scores (a sequence longer than `block`, 256), which takes launches for
each pair of blocks; one block is a program of few kernels, and within a layer a part of its program, which a call of the library would
break up. Heads are multiples of 8 wide, up to 128: what the backward pass has on every architecture from Ampere on.

Scores and sums are float32, the weights are rounded to the dtype of the operands before they are multiplied with the values. The engine of
the backward pass adds up in one order. A mask becomes numbers to add; a row that sees no key is computed as if it saw all, and set to 0.
Dropout, gradients of masks and float32 in full are the reference's.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels import cudnn
from anynet_backends.cuda_kernels.launch import CudaKernel, threads_for
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.layout import axes_in_memory, inverse

__all__ = ["KERNELS", "Attention", "takes"]

KERNELS: KernelTable = {}
_DTYPES: Final = frozenset(("float16", "bfloat16"))
_WIDEST: Final = 128
_LEAST_CAPABILITY: Final = 80
_ROWS: Final = 4
"""For the gradients the number of rows is a multiple of it: the frontend lays a float32 for each before the workspace of the engine, which
is at an aligned address only so."""

Ints = tuple[int, ...]


# ----- the signature -----


class Attention(NamedTuple):
    """The signature of attention ("y") or of its gradients ("gradients"): the arrays by their names, with shapes (b, heads, length, width)
    and strides in elements.

    Forward q, k, v, bias, y, sums; backward q, k, v, bias, y, sums, g, dq, dk, dv. Without a mask there is no bias, and sums (ln Σ eˢ of
    each row, float32) are for the backward pass alone.
    """

    result: str
    letter: str
    arrays: tuple[tuple[str, Ints, Ints], ...]
    scale: float
    causal: bool

    @property
    def short(self) -> bool:
        """Tensor cores multiply nothing but 16 bits."""
        return True

    @classmethod
    def of(cls, result: str, arrays: dict[str, Array], scale: float, causal: bool) -> Attention:
        """That of arrays."""
        given = tuple([(name, x.shape, _steps(x)) for name, x in arrays.items()])
        return cls(result, arrays["q"].dtype.char, given, scale, causal)

    def __str__(self) -> str:
        what = "attention" if self.result == "y" else "gradients of attention"
        arrays = ", ".join(f"{name} {shape} with strides {strides}" for name, shape, strides in self.arrays)
        return f"{what} of {arrays} of type {self.letter}{', causal' if self.causal else ''}"

    def describe(self, module: Any, graph: Any) -> None:
        """As products, softmax and masks, which is how all versions of the library have it."""
        wide = module.data_type.FLOAT
        short = getattr(module.data_type, cudnn.TYPES[self.letter])
        forms = {name: (i, s, t) for i, (name, s, t) in enumerate(self.arrays, 1)}

        def tensor(name: str) -> Any:
            number, shape, strides = forms[name]
            kind = wide if name == "sums" else short
            return graph.tensor(dim=list(shape), stride=list(strides), data_type=kind, uid=number)

        def give(made: Any, name: str) -> None:
            number, shape, strides = forms[name]
            made.set_output(True).set_uid(number).set_data_type(wide if name == "sums" else short)
            made.set_dim(list(shape)).set_stride(list(strides))

        options = {"attn_scale": self.scale, "use_causal_mask": self.causal, "compute_data_type": wide}
        options |= {"q": tensor("q"), "k": tensor("k"), "v": tensor("v")}
        if "bias" in forms:
            options["bias"] = tensor("bias")
        if self.result == "y":
            composite = module.attention_implementation.COMPOSITE
            y, sums = graph.sdpa(generate_stats="sums" in forms, implementation=composite, **options)
            give(y, "y")
            if "sums" in forms:
                give(sums, "sums")
            return
        kept = {"o": tensor("y"), "dO": tensor("g"), "stats": tensor("sums")}
        made = graph.sdpa_backward(use_deterministic_algorithm=True, **kept, **options)
        for array, name in zip(made, ("dq", "dk", "dv"), strict=True):
            give(array, name)


def _steps(x: Array) -> Ints:
    """The strides in elements; those of axes of length 1, which may be any, as if they were the outermost."""
    own = [s // x.itemsize if n > 1 else x.size for s, n in zip(x.strides[:3], x.shape[:3], strict=True)]
    return (*own, 1)


# ----- what is taken -----


def _heads(q: Ints, k: Ints) -> int | None:
    """How many axes before the last two are heads: 1, or 2 where groups of queries share keys; None where neither."""
    if q == k:
        return min(len(q), 1)
    return 2 if len(q) > 1 and len(q) == len(k) and q[:-1] == k[:-1] and k[-1] == 1 else None


def takes(
    dtype: str, q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, p: float = 0.0, block: int = 256,
    need: tuple[bool, ...] | None = None, **_: Any,
) -> bool:  # fmt: skip
    """Whether cuDNN computes attention of arrays of these shapes, if they are of this dtype."""
    (*lead, n, e), m, w = q.shape, k.shape[-2], v.shape[-1]
    if dtype not in _DTYPES or p or max(n, m) <= block or (mask is not None and causal):
        return False
    if need is not None and ((len(need) > 3 and need[3]) or math.prod((*lead, n)) % _ROWS):
        return False
    if 0 in (*q.shape, *k.shape, *v.shape) or e % 8 or w % 8 or max(e, w) > _WIDEST:
        return False
    if k.shape[:-2] != v.shape[:-2] or _heads(tuple(lead), tuple(k.shape[:-2])) is None:
        return False
    if mask is not None:
        whole = (1,) * (q.ndim - mask.ndim) + tuple(mask.shape)
        if len(whole) > q.ndim or any(a not in (1, b) for a, b in zip(whole, (*lead, n, m), strict=True)):
            return False
    module = cudnn.LIBRARY.module
    return module is not None and cudnn.capability() >= _LEAST_CAPABILITY


_kernel = register_in(KERNELS, takes=takes)


# ----- masks -----

# A block has a row of the mask, which is boolean or numbers.
_BIAS: Final = CudaKernel(
    "anynet_attention_bias",
    """
extern "C" __global__ void anynet_attention_bias(
    const bool* keep, const T* added, T* bias, bool* seen, long long heads, long long rows, long long columns,
    long long sb, long long sh, long long sr, long long sc
) {
    __shared__ int any;
    const A low = -A(1) / A(0);
    const long long row = blockIdx.x;
    const long long at = row / rows / heads * sb + row / rows % heads * sh + row % rows * sr;
    if (threadIdx.x == 0) any = 0;
    __syncthreads();
    for (long long c = threadIdx.x; c < columns; c += blockDim.x)
        if (keep ? keep[at + c * sc] : up(added[at + c * sc]) != low) any = 1;
    __syncthreads();
    for (long long c = threadIdx.x; c < columns; c += blockDim.x) {
        const A x = keep ? (keep[at + c * sc] ? A(0) : low) : up(added[at + c * sc]);
        bias[row * columns + c] = down(any ? x : A(0));
    }
    if (threadIdx.x == 0) seen[row] = any != 0;
}
""",
)


def _bias(cupy: Any, mask: Array, q: Array, lead: Ints, m: int, heads: int) -> tuple[Array, Array]:
    """What is added to the scores of q (b, h, n, e), for all batches or heads at once where the mask is the same for them; and for each row
    whether it sees a key."""
    whole = mask.reshape((1,) * (len(lead) + 2 - mask.ndim) + mask.shape)
    split = len(lead) - heads
    wide: list[int] = []
    for axes in (slice(0, split), slice(split, len(lead))):
        given = whole.shape[axes]
        wide += given if all(n == 1 for n in given) else lead[axes]
    full = cupy.broadcast_to(whole, (*wide, q.shape[2], m))
    full = full.reshape(math.prod(wide[:split]), math.prod(wide[split:]), q.shape[2], m)
    bias, seen = cupy.empty(full.shape, q.dtype), cupy.empty((*full.shape[:3], 1), bool)
    keep, added = (full, None) if full.dtype == bool else (None, full)
    steps = [s // full.itemsize for s in full.strides]
    blocks = seen.size
    _BIAS(q.dtype.char, blocks, threads_for(m, blocks), keep, added, bias, seen, *full.shape[1:], *steps)
    return bias, seen


# ----- the kernel -----


def _taken_as_it_lies(x: Array) -> bool:
    """Whether the frontend can be given the array (b, h, n, d): rows without gaps, each at an aligned address, no element twice."""
    if x.data.ptr % cudnn.ALIGNED or x.strides[3] != x.itemsize:
        return False
    size = x.shape[3] * x.itemsize
    for step, n in sorted(zip(x.strides[:3], x.shape[:3], strict=True)):
        if n > 1 and (step < size or step % cudnn.ALIGNED):
            return False
        size = step * n if n > 1 else size
    return True


def _laid(x: Array) -> Array:
    return x if _taken_as_it_lies(x) else x.copy(order="C")


def _beside(cupy: Any, like: Array, width: int) -> Array:
    """An array (b, h, n, width) whose axes are in the order of those of `like`."""
    order = (*axes_in_memory(like.strides[:3]), 3)
    made: Array = cupy.empty([like.shape[i] if i < 3 else width for i in order], like.dtype)
    return made.transpose(inverse(order))


@_kernel
def attention(
    xp: Backend, q: Array, k: Array, v: Array, mask: Array | None = None, *, scale: float, causal: bool = False, p: float = 0.0,
    seed: int = 0, step: int = 0, block: int = 256, need: Any,
) -> Any:  # fmt: skip
    """softmax(q kᵀ · scale + mask) v, and for the gradient ln Σ eˢ of each row, in float32."""
    same = q.dtype == k.dtype == v.dtype and (mask is None or mask.dtype in (bool, q.dtype))
    if not same or not takes(str(q.dtype), q, k, v, mask, causal=causal, p=p, block=block, need=need):
        return NotImplemented
    cupy, lead = xp.native, q.shape[:-2]
    heads = _heads(lead, k.shape[:-2]) or 0
    split = len(lead) - heads

    def four(x: Array) -> Array:
        own = x.shape[:-2]
        return _laid(x.reshape(math.prod(own[:split]), math.prod(own[split:]), *x.shape[-2:]))

    arrays = {"q": four(q), "k": four(k), "v": four(v)}
    seen = None
    if mask is not None:
        arrays["bias"], seen = _bias(cupy, mask, arrays["q"], lead, k.shape[-2], heads)
    y = arrays["y"] = _beside(cupy, arrays["q"], v.shape[-1])
    if need is not None:
        arrays["sums"] = cupy.empty((*y.shape[:3], 1), "float32")
    if not _run(cupy, "y", arrays, scale, causal):
        return NotImplemented
    if seen is not None:
        y *= seen
    out = y.reshape(*lead, *y.shape[2:])
    if need is None:
        return out

    def pull(g: Array) -> Any:
        given = four(g) if seen is None else _laid(four(g) * seen)
        made = {f"d{name}": _beside(cupy, arrays[name], arrays[name].shape[3]) for name in "qkv"}
        if not _run(cupy, "gradients", {**arrays, "g": given, **made}, scale, causal):
            return NotImplemented
        grads = tuple([made[f"d{name}"].reshape(x.shape) for name, x in zip("qkv", (q, k, v), strict=True)])
        return (*grads, None)[: len(need)]

    return (out, arrays["sums"].reshape(*lead, -1, 1)), pull


def _run(cupy: Any, result: str, arrays: dict[str, Array], scale: float, causal: bool) -> bool:
    return cudnn.run(cupy, Attention.of(result, arrays, float(scale), causal), *arrays.values())

"""Operators over places: convolutions, pooling, normalization, resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import anynet as an
from anynet.nn import functional as F
from anynet.onnx.operators.calling import Floats, Ints, Row, room

__all__ = ["TABLE", "Windows"]

_LARGEST = 1 << 16  # places of a window, which are gone through one by one


class Windows:
    """Kernel, strides and dilations of a node, for an array of these sizes, and what stands `before` and `after` each axis."""

    def __init__(
        self, sizes: Sequence[int], kernel: Any = None, *, kernel_shape: Any = None, strides: Any = None, dilations: Any = None,
        pads: Any = None, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    ) -> None:  # fmt: skip
        kernel = kernel_shape if kernel is None else kernel
        n = len(kernel)
        self.n, self.kernel, self.stride, self.dilation = (
            n,
            tuple(kernel),
            tuple(strides or [1] * n),
            tuple(dilations or [1] * n),
        )
        given = pads if pads and auto_pad == "NOTSET" else [0] * 2 * n
        if {len(sizes), len(self.stride), len(self.dilation), len(given) / 2} != {n} or not 1 <= n <= 3 or min(
            *self.kernel, *self.stride, *self.dilation, 1 + min(given)
        ) < 1 or max(math.prod(kernel), *given) > _LARGEST:  # fmt: skip
            msg = (
                f"kernel {self.kernel}, strides {self.stride}, dilations {self.dilation} and pads {given} must fit one to three "
                f"axes, {len(sizes)} here, and a window have at most {_LARGEST} places, and pads"
            )
            raise ValueError(msg)
        self.before, self.after, self.more = list(given[:n]), list(given[n:]), [0] * n
        for i, (t, s, w) in enumerate(zip(sizes, self.stride, self.wide, strict=True)):
            if auto_pad.startswith("SAME"):
                both = max((-(-t // s) - 1) * s + w - t, 0)
                self.before[i] = both // 2 if auto_pad == "SAME_UPPER" else both - both // 2
                self.after[i] = both - self.before[i]
            rest = t + self.before[i] + self.after[i] - w
            # a last window that is not full counts if it begins in the array or before it
            if ceil_mode and rest % s and -(-rest // s) * s < t + self.before[i]:
                self.more[i] = s - rest % s

    @property
    def wide(self) -> list[int]:
        """The places from the first one of a window to its last."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]

    def pick(self, *functions: Callable[..., Any]) -> Any:
        """The function for this number of axes."""
        return functions[self.n - 1]

    def around(self, x: Any, value: float = 0) -> Any:
        """x with a value around it."""
        return _around(x, self.before, [a + m for a, m in zip(self.after, self.more, strict=True)], value)

    def mean(self, x: Any) -> Any:
        """The mean of each window, of what is within the array alone."""
        if set(self.dilation) == {1}:
            return self.pick(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)(x, self.kernel, self.stride)
        one = an.full((1, 1, *self.kernel), 1 / math.prod(self.kernel), dtype=x.dtype, device=x.device)
        flat = an.reshape(x, (-1, 1, *x.shape[2:]))
        y = self.pick(F.conv1d, F.conv2d, F.conv3d)(flat, one, None, self.stride, 0, self.dilation)
        return an.reshape(y, (*x.shape[:2], *y.shape[2:]))


def _around(x: Any, before: Sequence[int], after: Sequence[int], value: float = 0) -> Any:
    if not any((*before, *after)):
        return x
    axes = list(zip(before, after, strict=True))
    room([*x.shape[: -len(axes)], *(n + sum(p) for n, p in zip(x.shape[-len(axes) :], axes, strict=True))])
    return F.pad(x, [p for pair in reversed(axes) for p in pair], value=value)


def _conv(x: Any, w: Any, b: Any = None, *, group: int, **window: Any) -> Any:
    of = Windows(x.shape[2:], w.shape[2:], **window)
    same = of.before == of.after
    padded = (n + p + q for n, p, q in zip(x.shape[2:], of.before, of.after, strict=True))
    room([x.shape[0], max(x.shape[1], w.shape[0]), *padded])
    padding = tuple(of.before) if same else 0
    function = of.pick(F.conv1d, F.conv2d, F.conv3d)
    return function(x if same else of.around(x), w, b, of.stride, padding, of.dilation, group)


def _conv_transpose(
    x: Any, w: Any, b: Any = None, *, group: int, auto_pad: str, output_padding: Any = None, output_shape: Any = None, **window: Any
) -> Any:  # fmt: skip
    """The whole result without padding, of which what would be padding is cut off."""
    of = Windows(x.shape[2:], w.shape[2:], **window)
    more = output_padding or [0] * of.n
    whole = [(t - 1) * s + k for t, s, k in zip(x.shape[2:], of.stride, of.wide, strict=True)]
    if output_shape or auto_pad.startswith("SAME"):
        wanted = (
            output_shape[-of.n :]
            if output_shape
            else [t * s for t, s in zip(x.shape[2:], of.stride, strict=True)]
        )
        cut = [max(t + m - u, 0) for t, m, u in zip(whole, more, wanted, strict=True)]
        more = [max(u - t, 0) for t, u in zip(whole, wanted, strict=True)] if output_shape else more
        of.before = [c - c // 2 if auto_pad == "SAME_LOWER" else c // 2 for c in cut]
        of.after = [c - p for c, p in zip(cut, of.before, strict=True)]
    room([x.shape[0], w.shape[1] * group, *(t + m for t, m in zip(whole, more, strict=True))])
    function = of.pick(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
    y = _around(function(x, w, None, of.stride, 0, 0, group, of.dilation), [0] * of.n, more)
    y = y[(..., *(slice(p, n - q) for n, p, q in zip(y.shape[2:], of.before, of.after, strict=True)))]
    return y if b is None else y + an.reshape(b, (-1, *[1] * of.n))


# ----- pooling -----


def _max_pool(x: Any, *, storage_order: int = 0, count: int, **window: Any) -> Any:
    of = Windows(x.shape[2:], **window)
    padded = of.around(x, -math.inf if an.isdtype(x.dtype, "real floating") else an.iinfo(x.dtype).min)
    function = of.pick(F.max_pool1d, F.max_pool2d, F.max_pool3d)
    found = function(padded, of.kernel, of.stride, 0, of.dilation, return_indices=count == 2)
    if count == 1:
        return found
    y, index = found
    places: list[Any] = []
    for n, p in zip(reversed(padded.shape[2:]), reversed(of.before), strict=True):
        places.insert(0, index % n - p)
        index = index // n
    flat = an.reshape(an.arange(math.prod(x.shape[:2]), device=x.device), (*x.shape[:2], *[1] * of.n))
    for place, n in list(zip(places, x.shape[2:], strict=True))[:: -1 if storage_order else 1]:
        flat = flat * n + place
    return y, flat


def _average_pool(x: Any, *, count_include_pad: int = 0, **window: Any) -> Any:
    of = Windows(x.shape[2:], **window)
    y = of.mean(of.around(x))
    if not any((*of.before, *of.after, *of.more)):
        return y
    ones = an.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if count_include_pad:
        ones = _around(_around(ones, of.before, of.after, 1), [0] * of.n, of.more)
    else:
        ones = of.around(ones)
    return y / of.mean(ones)


def _lp_pool(x: Any, *, p: int, **window: Any) -> Any:
    of = Windows(x.shape[2:], **window)
    return (of.mean(of.around(an.abs(x) ** p)) * math.prod(of.kernel)) ** (1 / p)


def _global(function: Row) -> Row:
    return lambda x: function(x, axis=tuple(range(2, len(x.shape))), keepdims=True)


def _max_unpool(x: Any, index: Any, size: Ints = None, **window: Any) -> Any:
    of = Windows(x.shape[2:], **window)
    spatial = zip(x.shape[2:], of.stride, of.kernel, of.before, of.after, strict=True)
    own = room([*x.shape[:2], *((t - 1) * s + k - p - q for t, s, k, p, q in spatial)])
    zeros = an.zeros(math.prod(own), dtype=x.dtype, device=x.device)
    y = an.reshape(an.scatter(zeros, an.reshape(index, (-1,)), an.reshape(x, (-1,)), axis=0), own)
    return (
        y if size is None else _around(y, [0] * of.n, [t - u for t, u in zip(size[2:], own[2:], strict=True)])
    )


def _col2im(x: Any, image: Ints, block: Ints, **window: Any) -> Any:
    """Each place of the blocks is added where it came from."""
    of, n = Windows(image, block, **window), len(image)
    padded = [t + p + q for t, p, q in zip(image, of.before, of.after, strict=True)]
    room([*x.shape[:2], *padded])
    places = an.zeros([1] * 2 * n, dtype=an.int64, device=x.device)
    for i, (t, w, k, d, s) in enumerate(zip(padded, of.wide, block, of.dilation, of.stride, strict=True)):
        at = an.reshape(an.arange(k) * d, (-1, 1)) + an.arange((t - w) // s + 1) * s
        shape = [at.shape[0] if j == i else at.shape[1] if j == n + i else 1 for j in range(2 * n)]
        places = places * t + an.reshape(at, shape).to(x.device)
    rows = an.reshape(x, (x.shape[0] * (x.shape[1] // math.prod(block)), -1))
    zeros = an.zeros((math.prod(padded), rows.shape[0]), dtype=x.dtype, device=x.device)
    y = an.index_add(zeros, an.reshape(places, (-1,)), rows.mT).mT
    y = an.reshape(y, (x.shape[0], -1, *padded))
    return y[(..., *(slice(p, p + t) for t, p in zip(image, of.before, strict=True)))]


# ----- normalization -----


def _batch_norm(x: Any, scale: Any, b: Any, mean: Any, var: Any, *, epsilon: float, momentum: float, training_mode: int = 0,
                count: int) -> Any:  # fmt: skip
    if not training_mode:
        return F.batch_norm(x, mean, var, scale, b, eps=epsilon)
    axes = (0, *range(2, len(x.shape)))
    y = F.batch_norm(x, None, None, scale, b, True, eps=epsilon)
    m, v = an.mean(x, axis=axes), an.var(x, axis=axes)
    return [y, mean * momentum + m * (1 - momentum), var * momentum + v * (1 - momentum)][:count]


def _dropout(x: Any, ratio: Any = None, training: Any = None, *, count: int) -> Any:
    mask = an.ones(x.shape, dtype=an.bool, device=x.device)
    if training is not None and an.any(training):
        share = 0.5 if ratio is None else float(ratio)
        mask = F.dropout(an.astype(mask, an.float32), share) > 0
        x = an.where(mask, x / (1 - share), an.zeros_like(x))
    return [x, mask][:count]


# ----- resampling -----

_NEAREST: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda x: math.ceil(x - 0.5), "round_prefer_ceil": lambda x: math.floor(x + 0.5), "floor": math.floor,
    "ceil": math.ceil,
}  # fmt: skip


def _place(mode: str, i: int, s: float, n: int, length: float, part: tuple[float, float]) -> float:
    """Where the i-th of `length` new elements lies among n old ones, for a scale, and for the part of them that is wanted."""
    if mode == "asymmetric":
        return i / s
    if mode == "align_corners":
        return i * (n - 1) / (length - 1) if length != 1 else 0.0
    if mode == "tf_crop_and_resize":
        a, b = part
        return (a + i * (b - a) / (length - 1) if length > 1 else (a + b) / 2) * (n - 1)
    if mode == "pytorch_half_pixel" and length < 2:
        return 0.0
    shift = n / 2 * (1 - math.floor(length) / length) if mode == "half_pixel_symmetric" else 0.0
    return shift + (i + 0.5) / s - 0.5


def _filter(t: float, mode: str, a: float) -> float:
    t = abs(t)
    if mode == "linear":
        return max(0.0, 1 - t)
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0


def _taps(at: float, n: int, mode: str, stretch: float, a: float, exclude: int) -> list[tuple[int, float]]:
    """Which of n elements make up the value at a place, and with which weights."""
    reach = (1 if mode == "linear" else 2) * stretch
    found = [
        (i, _filter((i - at) / stretch, mode, a))
        for i in range(math.floor(at - reach) + 1, math.ceil(at + reach))
    ]
    found = [(i, w) for i, w in found if 0 <= i < n or not exclude]
    total = sum(w for _, w in found) if exclude or stretch > 1 else 1.0
    return [(min(max(i, 0), n - 1), w / total) for i, w in found]


def _resize(
    x: Any, roi: Floats = None, scales: Floats = None, sizes: Ints = None, *, mode: str, antialias: int = 0, axes: Any = None,
    coordinate_transformation_mode: str = "asymmetric", cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
    extrapolation_value: float = 0.0, nearest_mode: str = "floor", keep_aspect_ratio_policy: str = "stretch", version: int,
) -> Any:  # fmt: skip
    """Axis by axis: each new element is a sum of a few old ones."""
    scales = roi if version < 11 else scales
    over = [a % len(x.shape) for a in axes] if axes else list(range(len(x.shape)))
    old = [x.shape[a] for a in over]
    factors = scales or [m / n for m, n in zip(sizes, old, strict=True)]
    if sizes and keep_aspect_ratio_policy != "stretch":
        factors = [(min if keep_aspect_ratio_policy == "not_larger" else max)(factors)] * len(old)
        sizes = [int(factors[0] * n + 0.5) for n in old]
    lengths = sizes or [n * s for n, s in zip(old, factors, strict=True)]
    if not all(0 < s < math.inf for s in factors):
        raise ValueError(f"scales must be positive, got {factors}")
    if max(lengths) > 1 << 22:  # places and weights are lists
        raise ValueError(f"sizes must be at most {1 << 22:,}, got {lengths}")
    room([math.floor(lengths[over.index(i)]) if i in over else n for i, n in enumerate(x.shape)])
    crop, outside = coordinate_transformation_mode == "tf_crop_and_resize", None
    for k, (axis, n, s, length) in enumerate(zip(over, old, factors, lengths, strict=True)):
        if s == 1 and length == n and not crop:
            continue
        wanted = (roi[k], roi[k + len(over)]) if crop else (0.0, 1.0)
        at = [
            _place(coordinate_transformation_mode, i, s, n, length, wanted) for i in range(math.floor(length))
        ]
        shape = (-1, *[1] * (len(x.shape) - 1 - axis))
        if mode == "nearest":
            taps = [[(min(max(_NEAREST[nearest_mode](p), 0), n - 1), 1.0)] for p in at]
        else:
            stretch = max(1.0, 1 / s) if antialias else 1.0
            taps = [_taps(p, n, mode.replace("bi", ""), stretch, cubic_coeff_a, exclude_outside) for p in at]
        parts = []
        for j in range(max(map(len, taps), default=0)):
            chosen = [t[j] if j < len(t) else (0, 0.0) for t in taps]
            part = an.take(x, an.asarray([i for i, _ in chosen], dtype=an.int64, device=x.device), axis=axis)
            weights = an.asarray([w for _, w in chosen], dtype=x.dtype, device=x.device)
            parts.append(part if mode == "nearest" else part * an.reshape(weights, shape))
        x = sum(parts[1:], parts[0])
        if crop:
            hidden = an.reshape(an.asarray([not 0 <= p <= n - 1 for p in at], device=x.device), shape)
            outside = hidden if outside is None else outside | hidden
    return x if outside is None else an.where(outside, an.full_like(x, extrapolation_value), x)


def _upsample(x: Any, scales: Floats, *, mode: str) -> Any:
    return _resize(x, scales, mode=mode, version=10)


def _grid_sample(x: Any, grid: Any, *, mode: str, padding_mode: str, align_corners: int) -> Any:
    names = {"linear": "bilinear", "cubic": "bicubic"}
    room([*x.shape[:2], *grid.shape[1:-1]])
    return F.grid_sample(x, grid, names.get(mode, mode), padding_mode, bool(align_corners))


def _lrn(x: Any, *, alpha: float, beta: float, bias: float, size: int) -> Any:
    room([x.shape[0], x.shape[1] + max(size, 0), *x.shape[2:]])
    return F.local_response_norm(x, size, alpha, beta, bias)


TABLE: dict[str, Row] = {
    "AveragePool": _average_pool, "BatchNormalization": _batch_norm, "Col2Im": _col2im, "Conv": _conv, "ConvTranspose": _conv_transpose,
    "Dropout": _dropout, "GlobalAveragePool": _global(an.mean), "GlobalMaxPool": _global(an.max), "GridSample": _grid_sample,
    "GlobalLpPool": lambda x, *, p: _global(an.sum)(an.abs(x) ** p) ** (1 / p),
    "InstanceNormalization": lambda x, scale, b, *, epsilon: F.instance_norm(x, None, None, scale, b, eps=epsilon),
    "LRN": _lrn, "LpPool": _lp_pool,
    "MaxPool": _max_pool, "MaxUnpool": _max_unpool, "Resize": _resize, "Upsample": _upsample,
}  # fmt: skip

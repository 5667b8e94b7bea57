"""The checks that any backend must pass: `check_backend("numpy")` raises at the first failure and names it.

Third parties run them on their own backend, which is compared with NumPy on the host:

    >>> check_backend("numpy")[-1]
    'selection'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anynet_backends import array_api, philox
from anynet_backends.backend import Backend
from anynet_backends.registry import backend_of, get_backend, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHECKS", "BackendCheckError", "check_backend"]


class BackendCheckError(AssertionError):
    """A backend does not conform; the message names the backend, the device and the check."""


def _need(condition: object, message: str) -> None:
    if not condition:
        raise BackendCheckError(message)


def _same(got: Any, expected: Any, what: str) -> None:
    got, expected = np.asarray(got), np.asarray(expected)
    _need(got.dtype == expected.dtype, f"{what}: dtype {got.dtype}, expected {expected.dtype}")
    _need(got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}")
    _need(
        np.array_equal(got, expected, equal_nan=got.dtype.kind in "fc"),
        f"{what}: got {got!r}, expected {expected!r}",
    )


def _dtypes(xp: Backend, device: str) -> list[str]:
    """The standard's dtypes that the device has."""
    return [
        n
        for n in array_api.DTYPES
        if n in xp.__array_namespace_info__().dtypes(device=xp.native_device(device))
    ]


def check_namespace(xp: Backend, device: str) -> None:
    """Every name of the standard is in the instance's dictionary; other names raise AttributeError."""
    for name in (*array_api.FUNCTIONS, *array_api.CONSTANTS, *array_api.DTYPES, "__array_namespace_info__"):
        _need(name in xp.__dict__, f"{name} is missing")
    for extension, names in (("linalg", array_api.LINALG), ("fft", array_api.FFT)):
        if extension in xp.__dict__:
            lacking = [n for n in names if not hasattr(getattr(xp, extension), n)]
            _need(not lacking, f"{extension} lacks {', '.join(lacking)}")
    try:
        xp.no_such_function  # noqa: B018
    except AttributeError as error:
        _need(xp.name in str(error), "AttributeError does not name the backend")
    else:
        _need(False, "an unknown name does not raise AttributeError")


def check_devices(xp: Backend, device: str) -> None:
    """Names are canonical, and creation functions use the given device."""
    _need(xp.canonical_device(device) == device, f"{device!r} is not its own canonical name")
    where = xp.native_device(device)
    like = xp.ones((2,), dtype=xp.float32, device=where)
    made = {
        "arange": xp.arange(3, device=where), "asarray": xp.asarray([1, 2], device=where),
        "empty": xp.empty((2,), device=where), "eye": xp.eye(2, device=where),
        "full": xp.full((2,), 1, device=where),
        "linspace": xp.linspace(0, 1, 3, device=where), "ones": like, "zeros": xp.zeros((2,), device=where),
        "empty_like": xp.empty_like(like), "full_like": xp.full_like(like, 2.0),
        "ones_like": xp.ones_like(like),
        "zeros_like": xp.zeros_like(like), "asarray of an array": xp.asarray(like), "+": like + like,
        "sum": xp.sum(like), "from_host": xp.from_host(np.zeros(2, np.float32), device),
    }  # fmt: skip
    for name, array in made.items():
        _need(
            xp.device_of(array) == device,
            f"{name} made an array on {xp.device_of(array)!r} instead of {device!r}",
        )
    xp.synchronize(device)


def check_transfer(xp: Backend, device: str) -> None:
    """from_host and to_host keep values, shapes and dtypes, copy, and take arrays in any memory order."""
    for name in _dtypes(xp, device):
        base = np.arange(24).reshape(2, 3, 4).astype(name)
        for a in (base, base[:, ::-1, ::2], base.T, base[:0], np.asarray(base[1, 2, 3])):
            there = xp.from_host(a, device)
            _need(
                xp.dtype_name(there.dtype) == name, f"from_host: {name} became {xp.dtype_name(there.dtype)}"
            )
            _need(
                there.dtype == xp.native_dtype[name],
                f"native_dtype[{name!r}] is not the dtype of an array of {name}",
            )
            _same(xp.to_host(there), a, f"to_host(from_host({name}))")
    source = np.ones(3, np.float32)
    there = xp.from_host(source, device)
    source[0] = 9
    _same(xp.to_host(there), np.ones(3, np.float32), "from_host must copy")
    frozen = np.ones(3, np.float32)
    frozen.flags.writeable = False
    _same(xp.to_host(xp.from_host(frozen, device)), frozen, "from_host of a read-only array")
    swapped = np.arange(3, dtype=">f4" if np.dtype("f4").newbyteorder("=").str[0] != ">" else "<f4")
    _same(
        xp.to_host(xp.from_host(swapped, device)), swapped.astype("f4"), "from_host of a foreign byte order"
    )


def check_random_bits(xp: Backend, device: str) -> None:
    """The bits are those of numpy.random.Philox, for every length and the widest addresses."""
    top = (1 << 64) - 1
    cases = (
        (0, 0, 0, 1),
        (1 << 100 | 5, 3, 7, 9),
        (top << 64 | top, top, top, 33),
        (1, 2, 3, 0),
        (42, 1, 0, 5000),
    )
    for key, stream, step, n in cases:
        got = xp.random_bits(key, stream, step, n, device)
        _need(xp.device_of(got) == device, f"random_bits is on {xp.device_of(got)!r}")
        # lists would pass through float64 where an entry is 2⁶³ or more
        address = (np.array(v, dtype=np.uint64) for v in ([key & top, key >> 64], [0, step, stream, 0]))
        generator = np.random.Philox(key=next(address), counter=next(address))
        words = generator.random_raw((n + 1) // 2).astype("<u8").view("<u4")[:n].astype(np.uint32)
        _same(xp.to_host(got), words, f"random_bits{(key, stream, step, n)}")
        _same(xp.to_host(got), philox.philox_words(key, stream, step, n), "host.philox_words")
        threshold = 1 << 31
        mask = xp.to_host(xp.greater_equal(got, threshold))
        _same(mask, words >= threshold, "greater_equal(random_bits, 2**31)")
    for bad in ((-1, 0, 0, 1), (1 << 128, 0, 0, 1), (0, 1 << 64, 0, 1), (0, 0, -1, 1), (0, 0, 0, -1)):
        try:
            xp.random_bits(*bad, device)
        except ValueError:
            continue
        _need(False, f"random_bits{bad} must raise ValueError")


def check_index_add(xp: Backend, device: str) -> None:
    """Repeated rows accumulate, nothing else changes, the inputs are not modified, infinities stay in their rows."""
    rng = np.random.default_rng(0)
    for name in [n for n in ("float32", "float64", "int32", "complex64") if n in _dtypes(xp, device)]:
        for shape, index in (
            ((5,), [0, 4, 4, 1, 4]),
            ((4, 3), [2, 2, -1, 0, 2, 2, 2]),
            ((3, 2, 2), [1]),
            ((2, 3), []),
            ((6, 0), [1, 1]),
            ((1, 2), [0] * 9),
        ):
            x = rng.integers(-9, 9, shape).astype(name)
            values = rng.integers(-9, 9, (len(index), *shape[1:])).astype(name)
            expected = x.copy()
            np.add.at(expected, np.array(index, dtype=np.int64), values)
            for width in ("int32", "int64"):
                if width not in _dtypes(xp, device):
                    continue
                args = [xp.from_host(a, device) for a in (x, np.array(index, dtype=width), values)]
                y = xp.index_add(*args)
                _same(xp.to_host(y), expected, f"index_add {name} {shape} {index}")
                _need(xp.device_of(y) == device, "index_add changed the device")
                _same(xp.to_host(args[0]), x, "index_add must not write to x")
    x = xp.from_host(np.zeros((3, 1), np.float32), device)
    values = xp.from_host(np.array([[np.inf], [1], [2]], np.float32), device)
    y = xp.index_add(x, xp.from_host(np.array([0, 1, 1], np.int32), device), values)
    _same(xp.to_host(y), np.array([[np.inf], [3], [0]], np.float32), "index_add with an infinity")
    noise = xp.from_host(rng.standard_normal((64, 3)).astype(np.float32), device)
    where = xp.from_host(rng.integers(0, 3, 64).astype(np.int32), device)
    first = xp.to_host(xp.index_add(noise[:3, ...], where, noise))
    for _ in range(3):
        _same(
            xp.to_host(xp.index_add(noise[:3, ...], where, noise)),
            first,
            "index_add must repeat itself bit by bit",
        )
    for wrong in ((x, where, values), (x, xp.from_host(np.zeros((3, 1), np.int32), device), values)):
        try:
            xp.index_add(*wrong)
        except ValueError:
            continue
        _need(False, "index_add with shapes that disagree must raise ValueError")


def check_windows(xp: Backend, device: str) -> None:
    """All windows, with strides and dilations, of arrays in any memory order."""
    base = np.arange(2 * 3 * 7 * 8, dtype=np.float32).reshape(2, 3, 7, 8)
    cases = (((2,), (1,), (1,)), ((3, 2), (1, 1), (1, 1)), ((3, 2), (2, 3), (1, 1)), ((2, 3), (1, 2), (3, 2)))
    for kernel, stride, dilation in (*cases, ((7, 8), (1, 1), (1, 1)), ((1, 1), (4, 4), (1, 1))):
        for turned in (False, True):
            a = base.transpose(1, 0, 3, 2) if turned else base
            x = xp.from_host(base, device)
            x = xp.permute_dims(x, (1, 0, 3, 2)) if turned else x
            if any(
                d * (k - 1) >= s for k, d, s in zip(kernel, dilation, a.shape[-len(kernel) :], strict=True)
            ):
                continue
            axes = tuple(range(4 - len(kernel), 4))
            reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
            view: Any = np.lib.stride_tricks.sliding_window_view
            expected = view(a, reach, axis=axes)
            lead = (slice(None),) * (4 - len(kernel))
            steps = (*(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))
            y = xp.windows(x, kernel, stride, dilation)
            _same(xp.to_host(y), expected[(*lead, *steps)], f"windows{(kernel, stride, dilation)}")
            _need(xp.device_of(y) == device, "windows changed the device")
    x = xp.from_host(base, device)
    for bad in (((9,), (1,), (1,)), ((2, 2), (1,), (1, 1)), ((2,), (0,), (1,)), ((), (), ())):
        try:
            xp.windows(x, *bad)
        except ValueError:
            continue
        _need(False, f"windows{bad} must raise ValueError")


def check_affine(xp: Backend, device: str) -> None:
    """A product and a vector, of whole numbers, which are exact."""
    rng = np.random.default_rng(4)
    for shape, (k, m) in (
        ((3, 4), (4, 2)),
        ((2, 3, 4), (4, 5)),
        ((1, 1), (1, 1)),
        ((0, 4), (4, 2)),
        ((70, 80), (80, 60)),
    ):
        a, b, c = (rng.integers(-3, 4, s).astype(np.float32) for s in (shape, (k, m), (m,)))
        args = [xp.from_host(each, device) for each in (a, b, c)]
        y = xp.affine(*args)
        _same(xp.to_host(y), a @ b + c, f"affine {shape} {(k, m)}")
        _need(xp.device_of(y) == device, "affine changed the device")
        for mine, each in zip(args, (a, b, c), strict=True):
            _same(xp.to_host(mine), each, "affine must not write to its arguments")


def check_arithmetic(xp: Backend, device: str) -> None:
    """float32 stays float32; a small computation agrees with NumPy; errstate silences."""
    a = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    x = xp.from_host(a, device)
    results = {
        "x * 2.0": (x * 2.0, a * 2.0),
        "matmul": (xp.matmul(x, xp.matrix_transpose(x)), a @ a.T),
        "exp": (xp.exp(x), np.exp(a)),
        "mean": (xp.mean(x, axis=0), a.mean(0)),
        "where": (xp.where(x > 0, x, xp.zeros_like(x)), np.where(a > 0, a, np.float32(0))),
        "take": (xp.take(x, xp.from_host(np.array([2, 0], np.int32), device), axis=0), a[[2, 0]]),
        "sum": (xp.sum(x), a.sum()),
    }
    for name, (got, expected) in results.items():
        there = xp.to_host(got)
        _need(there.dtype == np.float32, f"{name} of float32 gives {there.dtype}")
        _need(np.allclose(there, expected, rtol=1e-5, atol=1e-6), f"{name}: got {there}, expected {expected}")
    with xp.errstate():
        y = xp.to_host(xp.log(xp.zeros_like(x)) * 0.0)
    _need(np.isnan(y).all(), "log(0) * 0 is not NaN")


def check_selection(xp: Backend, device: str) -> None:
    """`backend_of` finds this backend by its arrays and reductions, `resolve` the device by its name."""
    _need(resolve(device) == (xp, device), f"resolve({device!r}) gives {resolve(device)}")
    x = xp.from_host(np.ones((2, 2), np.float32), device)
    for array in (x, xp.sum(x), x[0, ...], x > 0):
        _need(backend_of(array) is xp, f"backend_of({type(array).__name__}) is {backend_of(array)}")
    _need(isinstance(x, xp.array_type), f"an array is not a {xp.array_type.__name__}")
    _need(all(isinstance(v, str) for v in xp.versions().values()), "versions() must map names to strings")
    _need(isinstance(xp.blas_info(), dict), "blas_info() must be a dict")


CHECKS: dict[str, Callable[[Backend, str], None]] = {
    "namespace": check_namespace, "devices": check_devices, "transfer": check_transfer,
    "random_bits": check_random_bits, "index_add": check_index_add, "windows": check_windows, "affine": check_affine,
    "arithmetic": check_arithmetic, "selection": check_selection,
}  # fmt: skip


def check_backend(name: str, devices: list[str] | None = None) -> list[str]:
    """Run every check on every device of the backend `name` (or on `devices`); returns the names of the checks.

    Errors: BackendCheckError at the first failure, naming backend, device and check.
    """
    xp = get_backend(name)
    for device in devices or xp.devices():
        for label, check in CHECKS.items():
            try:
                check(xp, device)
            except Exception as error:
                msg = f"backend {name!r} on {device!r}: check {label!r}: {error}"
                raise BackendCheckError(msg) from error
    return list(CHECKS)

"""The registry of backends: look-up by the type of an array or by the name of a device.

Libraries other than NumPy are imported when one of their devices is named or one of their arrays is met, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anynet_backends import config
from anynet_backends.backend import Backend, BackendUnavailableError, UnknownDeviceError
from anynet_backends.concurrency import fork_safe_lock, late_import
from anynet_backends.cuda import cuda_driver
from anynet_backends.numpy_backend import NumpyBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from anynet_backends.array_api import Array

__all__ = [
    "TYPES", "asarray", "available", "backend_of", "get_backend", "get_default_device", "is_array", "loaded", "probe",
    "register", "resolve", "set_default_device",
]  # fmt: skip

TYPES: dict[type, Backend] = {}
"""The backend of each array type met so far: the cache of `backend_of`, which hot paths read directly."""

_FACTORIES: dict[str, Callable[[], Backend]] = {}
_LOADED: dict[str, Backend] = {}
_RESOLVED: dict[str, tuple[Backend, str]] = {}
_PROBED: dict[str, str] = {}
_LOCK = fork_safe_lock()

# The first part of a device's name → the backend's name, where they differ
_FAMILY: Final = {"cpu": "numpy", "cuda": "cupy"}
_PREFIX: Final = {"numpy": "cpu", "cupy": "cuda"}
_HINTS: Final = {
    "numpy": "cpu", "host": "cpu", "cupy": "cuda", "gpu": "cuda", "nvidia": "cuda", "mps": "torch:mps",
    "xpu": "torch:xpu", "array_api_strict": "strict", "array-api-strict": "strict", "pytorch": "torch:cpu",
}  # fmt: skip
_LIBRARY: Final = {"cupy": "cupy", "strict": "array_api_strict", "torch": "torch"}


class _State:
    """The default device, and whether the entry points have been read."""

    default: str | None = None
    entry_points_read = False


_state = _State()
_failed_entry_points: dict[str, str] = {}


# ---- registration ----


def _built_in(module: str, name: str) -> Callable[[], Backend]:
    def make() -> Backend:
        made: Backend = getattr(importlib.import_module(f"anynet_backends.{module}"), name)()
        return made

    return make


def register(name: str, factory: Callable[[], Backend]) -> None:
    """Add a backend: its devices are then called "NAME" or "NAME:sub".

    Parameters: `factory` is called without arguments, once, when the backend is first asked for, and returns
    a `Backend` whose `name` is `name`. Installed packages register through the entry-point group
    ``anynet.backends`` instead. Errors: ValueError where the name is taken or contains a colon.
    """
    with _LOCK:
        if name in _FACTORIES or name in _FAMILY or name == "auto":
            msg = f"there is a backend {name!r} already"
            raise ValueError(msg)
        if not name or ":" in name:
            msg = f"a backend's name must not be empty or contain a colon, got {name!r}"
            raise ValueError(msg)
        _FACTORIES[name] = factory


def _read_entry_points() -> None:
    """Register the backends of installed packages; a broken entry point is reported by `available`, never fatal."""
    if _state.entry_points_read:
        return
    with _LOCK:
        if _state.entry_points_read:
            return
        from importlib.metadata import entry_points  # only for devices of third parties: a shorter start-up

        for point in entry_points(group="anynet.backends"):

            def make(point: Any = point) -> Backend:
                made: Backend = point.load()()
                return made

            try:
                register(point.name, make)
            except ValueError as error:
                _failed_entry_points[f"{point.name} ({point.value})"] = str(error)
        _state.entry_points_read = True


def loaded() -> dict[str, Backend]:
    """The backends that are in use so far, by name."""
    return dict(_LOADED)


def get_backend(name: str) -> Backend:
    """The backend called `name` ("numpy", "cupy", "strict", "torch", …), imported on first use.

    Errors: UnknownDeviceError for an unknown name; BackendUnavailableError, with the command that fixes it,
    if its library is missing or cannot be imported.
    """
    found = _LOADED.get(name)
    if found is not None:
        return found
    if name not in _FACTORIES:
        _read_entry_points()
    if name not in _FACTORIES:
        raise _unknown(name)
    with _LOCK:
        if name in _LOADED:
            return _LOADED[name]
        library = _LIBRARY.get(name)
        if library is not None and not _importable(library):
            raise BackendUnavailableError(_missing(name))
        try:
            made = _FACTORIES[name]()
        except Exception as error:
            msg = f"the {name!r} backend does not work here: {type(error).__name__}: {_first_line(error)}"
            raise BackendUnavailableError(f"{msg}; {_mend(name)}" if library else msg) from error
        if not isinstance(made, Backend) or made.name != name:
            msg = f"the factory of the backend {name!r} returned {made!r}, not a Backend of that name"
            raise BackendUnavailableError(msg)
        _LOADED[name] = made
        if not made.switches_devices:
            TYPES.setdefault(made.array_type, made)
        return made


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _importable(library: str) -> bool:
    if library in sys.modules:
        return sys.modules[library] is not None
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _mend(name: str) -> str:
    if name == "cupy":
        driver = cuda_driver()
        if not driver:
            return (
                "this machine shows no NVIDIA driver; on one that does: pip install 'anynet-nn[cuda13]' "
                "(or 'anynet-nn[cuda12]' for a driver of CUDA 12)"
            )
        return f"try: pip install 'anynet-nn[{'cuda13' if driver >= 13000 else 'cuda12'}]'"
    return {
        "strict": "try: pip install 'anynet-nn[strict]'",
        "torch": "try: pip install 'anynet-nn[torch]'",
    }.get(name, "")


def _missing(name: str) -> str:
    title = {"cupy": "CuPy", "strict": "array-api-strict", "torch": "PyTorch"}[name]
    return f"{title} is not installed; {_mend(name)}"


# ---- by array ----


def backend_of(array: Array) -> Backend:
    """The backend of an array. TypeError that names the type if there is none.

    >>> import numpy as np
    >>> backend_of(np.zeros(3)).name
    'numpy'
    """
    try:
        return TYPES[type(array)]
    except KeyError:
        return _search(array)


def _search(array: Array) -> Backend:
    kind = type(array)
    root = kind.__module__.partition(".")[0]
    if root != "builtins":
        for name, library in _LIBRARY.items():
            # the array exists, so its library works: only our dependencies for it may be missing
            if name not in _LOADED and any(c.__module__.partition(".")[0] == library for c in kind.__mro__):
                get_backend(name)
        for found in tuple(_LOADED.values()):
            if isinstance(array, found.array_types):
                return _accept(array, found)
        if hasattr(array, "shape") and hasattr(array, "dtype"):
            _read_entry_points()
            for name in tuple(_FACTORIES):
                if name in _LOADED or name in _LIBRARY:
                    continue
                try:
                    found = get_backend(name)
                except BackendUnavailableError:
                    continue
                if isinstance(array, found.array_types):
                    return _accept(array, found)
    msg = (
        f"{kind.__module__}.{kind.__qualname__} is not an array of a known backend "
        f"({', '.join(_known_names())})"
    )
    raise TypeError(msg)


def _accept(array: Array, found: Backend) -> Backend:
    kind = type(array)
    if not found.accepts(kind):
        msg = (
            f"{kind.__module__}.{kind.__qualname__} changes what {found.array_type.__name__} "
            "operations mean; "
            f"convert it to a plain {found.array_type.__name__} first"
        )
        raise TypeError(msg)
    if (
        found.switches_devices
    ):  # not kept, so that each look-up comes here: what is computed next is where this array is
        found.follow(array)
    else:
        TYPES[kind] = found
    return found


def is_array(obj: object) -> bool:
    """Whether `obj` is a plain array (or array scalar) of a backend: NumPy, CuPy, array-api-strict, torch,
    …"""
    if type(obj).__module__ == "builtins":
        return False
    try:
        backend_of(obj)
    except TypeError:
        return False
    return True


_NUMBERS: Final = frozenset((bool, int, float, complex))


def asarray(obj: Any, dtype: str | None = None) -> Array:
    """A NumPy array from numbers, nested sequences or an array of any backend; ValueError for ragged nesting, TypeError for a
    masked array with values that are masked."""
    if type(obj) in _NUMBERS:
        return np.asarray(obj, dtype=dtype)
    if not isinstance(obj, (np.ndarray, np.generic)) and is_array(obj):
        obj = backend_of(obj).to_host(obj)
    if "numpy.ma" in sys.modules:
        rows = obj if isinstance(obj, (list, tuple)) and obj and isinstance(obj[0], np.ndarray) else (obj,)
        for row in rows:
            _refuse_masked(row)
    return np.asarray(obj, dtype=dtype)


def _refuse_masked(x: Any) -> None:
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        count = int(np.sum(np.ma.getmaskarray(x)))
        msg = (
            f"{count} of its {x.size} values {'is' if count == 1 else 'are'} masked, and would be taken as numbers; fill them, "
            "x.filled(value), or leave them out"
        )
        raise TypeError(msg)


# ---- by device ----


def resolve(device: str | None = None) -> tuple[Backend, str]:
    """(backend, canonical device name) for a device name.

    None is the default device, "auto" the best that works: a CUDA GPU through CuPy if a computation on it
    succeeds, else the CPU. Errors: UnknownDeviceError with the nearest known name; BackendUnavailableError
    with the command that fixes it.

        >>> resolve("cpu")[1]
        'cpu'
    """
    if device is None:
        device = _state.default or config.DEVICE()
    try:
        return _RESOLVED[device]
    except (KeyError, TypeError):
        pass
    if not isinstance(device, str):
        msg = f"a device must be a name such as 'cpu' or 'cuda:0', got {device!r} of type {type(device).__name__}"
        raise UnknownDeviceError(msg)
    if device == "auto":
        found = _best()
    else:
        family = device.partition(":")[0]
        name = _FAMILY.get(family, family)
        # "numpy", "cupy": backends whose devices are named otherwise
        if name in _PREFIX and family not in _FAMILY:
            raise _unknown(device)
        try:
            xp = get_backend(name)
        except UnknownDeviceError:
            raise _unknown(device) from None
        found = xp, xp.canonical_device(device)
    _RESOLVED[device] = _RESOLVED[found[1]] = found
    return found


def _best() -> tuple[Backend, str]:
    if _importable("cupy") and cuda_driver() and probe("cuda") == "ok":
        return resolve("cuda")
    return resolve("cpu")


def _unknown(device: str) -> UnknownDeviceError:
    _read_entry_points()
    known = [*_known_names(), "cuda:0", "torch:cpu", "torch:cuda", "strict:device1", "strict:device2", "auto"]
    close = late_import("difflib").get_close_matches(device.lower(), known, 1)
    hint = _HINTS.get(device.lower()) or next(iter(close), None)
    near = f"did you mean {hint!r}? " if hint else ""
    return UnknownDeviceError(f"unknown device {device!r}: {near}Known: {', '.join(_known_names())}, auto")


def _known_names() -> list[str]:
    return [_PREFIX.get(name, name) for name in tuple(_FACTORIES)]


def get_default_device() -> str:
    """The device of arrays that are created without one: as set, else ``ANYNET_DEVICE``, else "cpu"."""
    return _state.default if _state.default is not None else config.DEVICE()


device_listeners: list[Callable[[], None]] = []
"""Called when the default device has been set."""


def set_default_device(name: str | None) -> None:
    """Make `name` the device of arrays that are created without one; None goes back to ``ANYNET_DEVICE`` or
    "cpu".

    A name that cannot be resolved raises as `resolve` does, and the default stays as it was.
    """
    _state.default = None if name is None else resolve(name)[1]
    for listener in device_listeners:
        listener()


# ---- what works ----


def probe(device: str) -> str:
    """ "ok" if a test computation on `device` gives the right result, else the reason why not. Cached."""
    try:
        return _PROBED[device]
    except KeyError:
        pass
    try:
        xp, name = resolve(device)
        a = xp.reshape(xp.arange(6, dtype=xp.float32, device=xp.native_device(name)), (2, 3))
        with xp.scope(a):
            y = xp.to_host(xp.matmul(a, xp.matrix_transpose(a)) + xp.exp(a[:, :2] * 0))
        answer = (
            "ok" if y.tolist() == [[6.0, 15.0], [15.0, 51.0]] else f"a small matrix product gave {y.tolist()}"
        )
    except (UnknownDeviceError, BackendUnavailableError) as error:
        answer = str(error)
    except Exception as error:  # noqa: BLE001 a half-installed driver may raise anything; it is the answer
        answer = f"{type(error).__name__}: {_first_line(error)}"
        if device.partition(":")[0] == "cuda" and (
            isinstance(error, ImportError) or "NotFound" in type(error).__name__
        ):
            answer += f"; a library of CUDA's is missing, {_mend('cupy')}"  # which the extra installs
    _PROBED[device] = answer
    return answer


def available() -> dict[str, str]:
    """All devices by name, with "ok" or the reason why the device cannot be used and how to fix it.

    Imports every backend's library and computes something on every device, so it may take seconds.

        >>> available()["cpu"]
        'ok'
    """
    _read_entry_points()
    answers: dict[str, str] = {}
    for name in tuple(_FACTORIES):
        prefix = _PREFIX.get(name, name)
        try:
            devices = get_backend(name).devices()
        except Exception as error:  # noqa: BLE001 devices() asks the driver
            known = isinstance(error, (BackendUnavailableError, UnknownDeviceError))
            answers[prefix] = str(error) if known else f"{type(error).__name__}: {_first_line(error)}"
            continue
        if not devices:
            answers[prefix] = probe(prefix)
        for device in devices:
            answers[device] = probe(device)
    return answers | _failed_entry_points


_FACTORIES["numpy"] = NumpyBackend
_FACTORIES["cupy"] = _built_in("cupy_backend", "CupyBackend")
_FACTORIES["meta"] = _built_in("meta_backend", "MetaBackend")
_FACTORIES["strict"] = _built_in("strict_backend", "StrictBackend")
_FACTORIES["torch"] = _built_in("torch_backend", "TorchBackend")
Backend.by_name = staticmethod(get_backend)
get_backend("numpy")

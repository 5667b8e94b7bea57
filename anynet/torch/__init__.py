"""PyTorch's names on anynet: ``import anynet.torch as torch``, and a script for PyTorch runs on NumPy or CuPy.

Layers, losses, optimizers and schedules are anynet's own, which have PyTorch's names anyway. Added here is what differs: tensors with
methods, ``dim`` and ``keepdim``, PyTorch's common types (integers by integers are float32), views that write through, forms in place.
What differs nevertheless is said for each name in the page "From PyTorch"; `anynet port SCRIPT.py` says it for each line of a script.

>>> import anynet.torch as torch
>>> x = torch.arange(6).view(2, 3)
>>> (x / 2).sum(dim=1, keepdim=True)
tensor([[1.5],
        [6. ]])
"""

# ruff: noqa: E402 - after the path of the archive
from __future__ import annotations

import builtins as _builtins
import math as _math
import os as _os
import re as _re
import sys as _sys
from types import ModuleType as _ModuleType
from typing import Any
from urllib.parse import urlparse as _urlparse

# in the wheel a part lies in an archive (hatch_build.py)
__path__.append(_os.path.join(__path__[0], "inside.zip"))

import anynet as _an
from anynet import dtypes as _dtypes
from anynet import streams as _streams
from anynet.dtypes import DType as DType
from anynet.ops.precision import current as _precision
from anynet.tensor import enable_grad as enable_grad
from anynet.tensor import no_grad as no_grad
from anynet.torch import distributed as distributed
from anynet.torch import functions as functions
from anynet.torch import nn as nn
from anynet.torch import serialization as serialization
from anynet.torch.compiling import compile as compile
from anynet.torch.devices import Generator as Generator
from anynet.torch.devices import accelerator as accelerator
from anynet.torch.devices import amp as amp
from anynet.torch.devices import autocast as autocast
from anynet.torch.devices import backends as backends
from anynet.torch.devices import cuda as cuda
from anynet.torch.devices import mps as mps
from anynet.torch.functions import linear as _matrices
from anynet.torch.functions.creation import TYPED as _TYPED
from anynet.torch.functions.creation import TYPED_ON_CUDA as _TYPED_ON_CUDA
from anynet.torch.optimizers import optim as optim
from anynet.torch.parallel import parallel as _parallel  # noqa: F401 - nn.parallel
from anynet.torch.runtime import _C as _C
from anynet.torch.runtime import _dynamo as _dynamo
from anynet.torch.runtime import ao as ao
from anynet.torch.runtime import compiler as compiler
from anynet.torch.runtime import fx as fx
from anynet.torch.runtime import jit as jit
from anynet.torch.runtime import library as library
from anynet.torch.runtime import multiprocessing as multiprocessing
from anynet.torch.runtime import onnx as onnx
from anynet.torch.runtime import ops as ops
from anynet.torch.runtime import profiler as profiler
from anynet.torch.serialization import load as load
from anynet.torch.serialization import save as save
from anynet.torch.sizes import FORMATS as _FORMATS
from anynet.torch.sizes import Size as Size
from anynet.torch.sizes import device as device
from anynet.torch.sizes import memory_format as memory_format
from anynet.torch.table import TABLE as _TABLE
from anynet.torch.tensor import Tensor as Tensor
from anynet.torch.tensor import adopt as _adopt
from anynet.torch.utilities import utils as utils
from anynet_backends.concurrency import this_thread

from anynet.torch import autograd as autograd  # isort: skip

__version__ = "2.13.0+anynet"
pi, e, inf, nan = _math.pi, _math.e, _math.inf, _math.nan
newaxis = None
float32 = float = _dtypes.float32
float64 = double = _dtypes.float64
float16 = half = _dtypes.of("float16")
bfloat16 = _dtypes.of("bfloat16")
int64 = long = _dtypes.int64
int32 = int = _dtypes.int32
int16 = short = _dtypes.int16
int8, uint8, uint16, uint32, uint64 = (
    _dtypes.int8,
    _dtypes.uint8,
    _dtypes.uint16,
    _dtypes.uint32,
    _dtypes.uint64,
)
bool = _dtypes.bool
complex64 = cfloat = _dtypes.complex64
complex128 = cdouble = _dtypes.complex128
dtype = DType
strided, sparse_coo, sparse_csr = "torch.strided", "torch.sparse_coo", "torch.sparse_csr"
globals().update(_FORMATS)
globals().update({name: row.function for name, row in _TABLE.items() if row.is_function})
globals().update(_TYPED)
vars(cuda).update(_TYPED_ON_CUDA)
globals().update(functions.foreach.FOREACH)
inference_mode = no_grad
# functions of networks that PyTorch has at its top, too
_ELSEWHERE = (
    "celu", "selu", "rrelu", "threshold", "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "conv1d",
    "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "avg_pool1d", "adaptive_avg_pool1d", "dropout", "alpha_dropout", "feature_alpha_dropout", "layer_norm", "group_norm", "rms_norm",
    "bilinear",
)  # fmt: skip
for _name in _ELSEWHERE:
    globals().setdefault(_name, getattr(nn.functional, _name))
for _name in ("celu_", "selu_", "rrelu_", "threshold_"):
    globals()[_name] = getattr(nn.functional, _name)
for _name, _row in _TABLE.items():  # torch.relu_(x) is x.relu_()
    if _row.in_place and _row.is_function:
        globals()[f"{_name}_"] = getattr(Tensor, f"{_name}_")
detach, detach_, is_signed = Tensor.detach, Tensor.detach_, Tensor.is_signed  # type: ignore[attr-defined]
fill_, zero_, get_device = Tensor.fill_, Tensor.zero_, Tensor.get_device  # type: ignore[attr-defined]
GradScaler = amp.GradScaler
from_dlpack = _an.from_dlpack


def manual_seed(seed: Any) -> None:
    """Start all random numbers from a seed; they are anynet's, not PyTorch's for the same seed."""
    _streams.manual_seed(seed)


def seed() -> Any:
    """Start all random numbers from a seed that nobody knows; returns it."""
    import secrets  # late: of this function alone

    value = secrets.randbits(63)
    _streams.manual_seed(value)
    return value


def initial_seed() -> Any:
    """The seed of all random numbers."""
    return _streams.get_state()["seed"]


def get_rng_state() -> Any:
    """The state of all random numbers: a dict of integers."""
    return _streams.get_state()


def set_rng_state(new_state: Any) -> None:
    """Go back to a state of all random numbers."""
    _streams.set_state(new_state)


def set_default_dtype(d: Any) -> None:
    """float32 or float64: the type of tensors made of Python floats."""
    _dtypes.set_default_float(d)


def get_default_dtype() -> Any:
    """The type of tensors made of Python floats."""
    return _dtypes.default_float()


def set_default_device(device: Any) -> None:
    """The device on which tensors are made."""
    _an.set_default_device("cpu" if device is None else str(device))


def get_default_device() -> Any:
    """The device on which tensors are made."""
    return device(_an.get_default_device())


def set_num_threads(count: Any) -> None:
    """Refused: threads are set before the process begins, by OMP_NUM_THREADS."""
    if count != 1:
        msg = "set_num_threads: set the environment variable OMP_NUM_THREADS before Python starts"
        raise NotImplementedError(msg)


def set_float32_matmul_precision(precision: str) -> None:
    """Products in float32 are computed in float32, whatever is allowed."""


def set_printoptions(*_: Any, **__: Any) -> None:
    """Tensors are printed as NumPy prints arrays; these options change nothing."""


def set_default_tensor_type(t: Any) -> None:
    """The type of tensors made of Python floats, by the name of a class: ``torch.DoubleTensor``."""
    name = (t if isinstance(t, str) else t.__name__).rpartition(".")[2]
    if name not in ("FloatTensor", "DoubleTensor") or "cuda" in (t if isinstance(t, str) else t.place):
        msg = f"set_default_tensor_type: t must be torch.FloatTensor or torch.DoubleTensor, got {t}; set_default_device sets the device"
        raise TypeError(msg)
    set_default_dtype(_TYPED[name].kind)


def is_autocast_enabled(device_type: Any = None) -> Any:
    """Whether products are computed in 16 bits: within a block of `autocast`."""
    return _precision() in ("mixed-bf16", "mixed-fp16")


def is_autocast_cpu_enabled() -> Any:
    """An older name of `is_autocast_enabled`."""
    return is_autocast_enabled()


def get_autocast_dtype(device_type: Any = "cpu") -> Any:
    """The type in which products are computed within a block of `autocast`; outside that which it would have."""
    now = _precision()
    if now.startswith("mixed"):
        return float16 if now == "mixed-fp16" else bfloat16
    return float16 if str(device_type).startswith("cuda") else bfloat16


def get_autocast_gpu_dtype() -> Any:
    """An older name of `get_autocast_dtype` for CUDA."""
    return get_autocast_dtype("cuda")


def get_autocast_cpu_dtype() -> Any:
    """An older name of `get_autocast_dtype` for the CPU."""
    return get_autocast_dtype("cpu")


def _assert(condition: Any, message: str) -> None:
    """An assertion: AssertionError with the message."""
    assert condition, message


def use_deterministic_algorithms(mode: Any, *, warn_only: Any = False) -> None:
    """All algorithms are."""


def are_deterministic_algorithms_enabled() -> Any:
    """Always."""
    return True


class set_grad_enabled:
    """Switches recording, at once; as a context manager until the end of the block."""

    def __init__(self, mode: Any) -> None:
        self.before = this_thread.recording
        this_thread.recording = mode is not False and mode != 0

    def __call__(self, function: Any) -> Any:
        """As a decorator it is switched in calls of the function alone."""
        wanted, this_thread.recording = this_thread.recording, self.before
        return (enable_grad if wanted else no_grad)()(function)

    def __enter__(self) -> None:
        """Recording has been switched already."""

    def __exit__(self, *_: Any) -> None:
        this_thread.recording = self.before


class finfo:
    """The limits of a floating-point type."""

    def __init__(self, type: Any = None) -> None:
        kind = _dtypes.default_float() if type is None else type
        found = _an.finfo(kind)
        self.eps, self.max, self.min = found.eps, found.max, found.min
        self.tiny = self.smallest_normal = found.smallest_normal
        self.bits, self.dtype = found.bits, str(kind)


iinfo = _an.iinfo


def install() -> None:
    """Let ``import torch`` find this room, where PyTorch itself is not installed.

    RuntimeError where PyTorch is: it is never hidden.
    """
    import importlib.util  # late: of this function alone

    importlib.import_module(f"{__name__}.distributions")  # which is found with the others
    there = _sys.modules.get("torch")
    if there is _sys.modules[__name__]:
        return
    if there is not None or importlib.util.find_spec("torch") is not None:
        msg = (
            "anynet.torch.install: PyTorch is installed here, and is not hidden; import anynet.torch as torch"
        )
        raise RuntimeError(msg)
    for name, module in list(_sys.modules.items()):
        if name == __name__ or name.startswith(f"{__name__}."):
            _sys.modules["torch" + name.removeprefix(__name__)] = module


def _path(name: str, source: Any) -> _ModuleType:
    """A path of PyTorch's for a namespace of anynet's, whose results are this room's."""
    import functools  # late: of this function alone

    made = _ModuleType(f"{__name__}.{name}", f"torch.{name}")
    for each in dir(source):
        value = getattr(source, each)
        if each.startswith("_") or not callable(value):
            continue

        def call(*args: Any, _of: Any = value, **kwargs: Any) -> Any:
            for theirs, ours in (("dim", "axis"), ("keepdim", "keepdims")):
                if theirs in kwargs:
                    kwargs[ours] = kwargs.pop(theirs)
            return _adopt(_of(*args, **kwargs))

        setattr(made, each, value if isinstance(value, type) else functools.wraps(value)(call))
    _sys.modules[made.__name__] = made
    return made


def _assert_close(
    actual: Any, expected: Any, *, rtol: Any = None, atol: Any = None, equal_nan: Any = False, **_: Any
) -> None:
    """AssertionError where tensors differ in shape, type or values."""
    a, b = _TABLE["as_tensor"].function(actual), _TABLE["as_tensor"].function(expected)
    if a.shape != b.shape or a.dtype is not b.dtype:
        msg = f"the tensors have shapes {tuple(a.shape)} and {tuple(b.shape)}, types {a.dtype} and {b.dtype}"
        raise AssertionError(msg)
    exact = {
        "float32": (1.3e-6, 1e-5),
        "float64": (1e-7, 1e-7),
        "float16": (1e-3, 1e-5),
        "bfloat16": (1.6e-2, 1e-5),
    }.get(a.dtype.name, (0.0, 0.0))
    near = a.isclose(
        b,
        rtol=exact[0] if rtol is None else rtol,
        atol=exact[1] if atol is None else atol,
        equal_nan=equal_nan,
    )
    if not near.all():
        msg = f"Tensor-likes are not close! {near.numel() - near.sum().item()} of {near.numel()} elements differ"
        raise AssertionError(msg)


def _no_download(*_: Any, **__: Any) -> None:
    """Refused: nothing is downloaded."""
    msg = "torch.hub: nothing is downloaded here; anynet.models has networks, torch.load reads weights from a file"
    raise NotImplementedError(msg)


def _torch_home() -> str:
    """The folder in which PyTorch keeps what it has downloaded."""
    import os  # late: of this function alone

    return os.path.expanduser(os.environ.get("TORCH_HOME", "~/.cache/torch"))


def _hub_folder() -> str:
    """The folder of `torch.hub`."""
    return f"{_torch_home()}/hub"


linalg = _path("linalg", _an.linalg)
fft = _path("fft", _an.fft)
special = _path("special", _an.special)
vars(linalg).update(
    norm=_matrices.norm,
    vector_norm=_matrices.vector_norm,
    matrix_norm=_matrices.matrix_norm,
    **functions.matrices.LINALG,
    **functions.factors.FACTORS,
)
_SPECIAL = ("digamma", "erf", "erfc", "erfinv", "exp2", "expm1", "i0", "log1p", "logit", "logsumexp", "polygamma",
            "round", "sinc", "softmax",
            "xlogy", "log_softmax")  # fmt: skip
vars(special).update(
    {n: r.function for n, r in _TABLE.items() if (n in vars(special) or n in _SPECIAL) and r.is_function}
)
_SECOND = {
    "gammaln": "lgamma", "psi": "digamma", "expit": "sigmoid", "multigammaln": "mvlgamma", "gammainc": "igamma", "gammaincc": "igammac",
}  # fmt: skip
vars(special).update({name: _TABLE[of].function for name, of in _SECOND.items()})
sparse = _ModuleType(f"{__name__}.sparse", "torch.sparse")
vars(sparse).update(functions.sparse.SPARSE)
_sys.modules[sparse.__name__] = sparse


def _of_one_axis(of: Any) -> Any:
    def call(input: Any, n: Any = None, dim: Any = -1, norm: Any = None) -> Any:
        return _adopt(of(input, n=n, axis=dim, norm=norm or "backward"))

    return call


def _of_axes(of: Any, axes: Any = None) -> Any:
    def call(input: Any, s: Any = None, dim: Any = axes, norm: Any = None) -> Any:
        chosen = (dim,) if isinstance(dim, _builtins.int) else dim
        return _adopt(of(input, s=s, axes=chosen, norm=norm or "backward"))

    return call


def _shift(of: Any) -> Any:
    return lambda input, dim=None: _adopt(of(input, axes=dim))


vars(fft).update(
    {n: _of_one_axis(getattr(_an.fft, n)) for n in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")},
    **{n: _of_axes(getattr(_an.fft, n)) for n in ("fftn", "ifftn", "rfftn", "irfftn")},
    **{f"{n}2": _of_axes(getattr(_an.fft, f"{n}n"), (-2, -1)) for n in ("fft", "ifft", "rfft", "irfft")},
    **{n: _shift(getattr(_an.fft, n)) for n in ("fftshift", "ifftshift")},
)
functional = _ModuleType(f"{__name__}.functional", "torch.functional")
vars(functional).update({n: r.function for n, r in _TABLE.items() if r.is_function})
_sys.modules[functional.__name__] = functional


def _flatten(tensors: Any) -> Any:
    """Tensors as one vector."""
    return _TABLE["cat"].function([t.contiguous().view(-1) for t in tensors])


def _unflatten(flat: Any, tensors: Any) -> Any:
    """Parts of a vector in the shapes of tensors."""
    parts = flat.split([t.numel() for t in tensors])
    return tuple(part.view_as(t) for part, t in zip(parts, tensors, strict=True))


_utils = _ModuleType(f"{__name__}._utils", "torch._utils")
vars(_utils).update(_flatten_dense_tensors=_flatten, _unflatten_dense_tensors=_unflatten)
_sys.modules[_utils.__name__] = _utils
version = _ModuleType(f"{__name__}.version", "torch.version")
vars(version).update(__version__=__version__, cuda=None, hip=None, git_version="", debug=False)
testing = _ModuleType(f"{__name__}.testing", "torch.testing")
testing.assert_close = testing.assert_allclose = _assert_close  # type: ignore[attr-defined]
hub = _ModuleType(f"{__name__}.hub", "torch.hub")
_refused = dict.fromkeys(
    ("load", "list", "help", "load_state_dict_from_url", "download_url_to_file"), _no_download
)
vars(hub).update(
    _refused,
    get_dir=_hub_folder,
    _get_torch_home=_torch_home,
    urlparse=_urlparse,
    HASH_REGEX=_re.compile(r"-([a-f0-9]*)\."),
)
_zoo = _ModuleType(f"{utils.__name__}.model_zoo", "torch.utils.model_zoo")
vars(_zoo).update(load_url=_no_download)
_sys.modules[_zoo.__name__] = vars(utils)["model_zoo"] = _zoo
for _module in (version, testing, hub):
    _sys.modules[_module.__name__] = _module
random = _ModuleType(f"{__name__}.random", "torch.random")
vars(random).update(
    manual_seed=manual_seed,
    seed=seed,
    get_rng_state=get_rng_state,
    set_rng_state=set_rng_state,
    fork_rng=_streams.fork_rng,
)
_sys.modules[random.__name__] = random
func = _ModuleType(f"{__name__}.func", "torch.func")


def _transform(of: Any) -> Any:
    """A transform whose function is given tensors of this room, and returns them."""

    def make(f: Any, *args: Any, **kwargs: Any) -> Any:
        for theirs, ours in (("in_dims", "in_axes"), ("out_dims", "out_axes")):
            if theirs in kwargs:
                kwargs[ours] = kwargs.pop(theirs)
        made = of(autograd.adopting(f), *args, **kwargs)
        return lambda *x, **named: _adopt(made(*x, **named))

    make.__doc__ = of.__doc__
    return make


def _grad_and_value(f: Any, *args: Any, **kwargs: Any) -> Any:
    """The gradient and the value, in this order."""
    made = _an.value_and_grad(autograd.adopting(f), *args, **kwargs)
    return lambda *x, **named: _adopt(tuple(reversed(made(*x, **named))))


def _vjp(f: Any, *args: Any, **kwargs: Any) -> Any:
    """The value, and the function that takes its gradient back to the arguments."""
    value, back, *more = _an.vjp(autograd.adopting(f), *args, **kwargs)
    return (_adopt(value), lambda *g: _adopt(back(*g)), *map(_adopt, more))


def _stack_module_state(models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of several networks of one form as one, with the networks along the first axis, and so their buffers."""
    nets = list(models)
    if not nets:
        msg = "stack_module_state: models must be at least one network, got none"
        raise RuntimeError(msg)
    if len({(type(net), net.training) for net in nets}) > 1:
        msg = "stack_module_state: models must be of one class and in one mode, got several"
        raise RuntimeError(msg)
    found = []
    for names, variables in (("named_parameters", True), ("named_buffers", False)):
        parts = [dict(getattr(net, names)()) for net in nets]
        stacked = {k: _TABLE["stack"].function([each[k].detach() for each in parts]) for k in parts[0]}
        for k, t in stacked.items():
            t.requires_grad_(variables and parts[0][k].requires_grad)
        found.append(stacked)
    return found[0], found[1]


def _functional_call(module: Any, parameter_and_buffer_dicts: Any, *args: Any, **kwargs: Any) -> Any:
    """`anynet.nn.functional_call`, which is given one dictionary, or several that are for different names."""
    given = parameter_and_buffer_dicts
    if isinstance(given, (tuple, list)):
        pairs = [pair for part in given for pair in part.items()]
        given = dict(pairs)
        if len(given) < len(pairs):
            msg = "functional_call: the dictionaries must be for different names, got one in several"
            raise ValueError(msg)
    return _an.nn.functional_call(module, given, *args, **kwargs)


vmap = _transform(_an.vmap)
vars(func).update(
    {n: _transform(getattr(_an, n)) for n in ("grad", "jacrev", "jacfwd", "hessian")},
    vmap=vmap,
    vjp=_vjp,
    jvp=lambda f, *x, **k: _adopt(_an.jvp(autograd.adopting(f), *x, **k)),
    grad_and_value=_grad_and_value,
    functional_call=_functional_call,
    stack_module_state=_stack_module_state,
)
_sys.modules[func.__name__] = func


def __getattr__(name: str) -> Any:
    if name == "distributions":
        import importlib  # late: they are many, and few scripts use them

        return importlib.import_module("anynet.torch.distributions")
    if name.startswith("__"):
        why = "no such attribute"
    else:
        from anynet.torch.absent import reason  # late: of this function alone

        why = reason(name)
    msg = f"module 'anynet.torch' has no attribute {name!r}: {why}"
    raise AttributeError(msg)

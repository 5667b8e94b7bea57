"""Batches for `fit`, `evaluate` and `predict`: from any form of data, in the dtype and on the device of the model."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.pytree import flatten, map_tree
from anynet.data import DataLoader, Dataset, Subset, TensorDataset
from anynet.data.dataset import taken
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.ops.manipulation import astype
from anynet.random import fork_rng
from anynet.tensor import Tensor, no_grad, to_plain, unwrap, wrap
from anynet.train.streams import Stream, gives_samples, is_stream, length
from anynet_backends import backend_of, host, registry, resolve

__all__ = [
    "Batches",
    "call",
    "dataset_of",
    "device_of",
    "fingerprint",
    "first_batch",
    "loader_of",
    "parts_of",
    "targets_of",
]


def device_of(model: Module) -> str:
    """Where a model is: where its first parameter or buffer is, else the default device."""
    if not isinstance(model, Module):
        msg = f"the model must be a Module, got {type(model).__name__}"
        raise TypeError(msg)
    for p in model.parameters():
        return p.device
    for b in model.buffers():
        return b.device
    return resolve(None)[1]


def call(model: Module, inputs: Any) -> Any:
    """The output for a batch: a tuple is several inputs, a dict several named ones."""
    if type(inputs) is Tensor:
        return model(inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


# ----- inputs, targets, weights -----

_TARGETS = ("targets", "labels", "label")
_WEIGHTS = ("weights", "sample_weight")


def parts_of(where: str, batch: Any) -> tuple[Any, ...]:
    """(inputs, targets) or (inputs, targets, weights), from a tuple of these or from a mapping: with the key ``inputs``, or with
    each input by its name, as Hugging Face's data sets have them; the targets are ``targets``, ``labels`` or ``label``."""
    if isinstance(batch, Mapping):
        names = [name for name in _TARGETS if name in batch]
        if len(names) != 1 or len(batch) < 2:
            msg = (
                f"{where}: a mapping must have inputs and one of {', '.join(_TARGETS)} as its keys (and weights, if any), got "
                f"{', '.join(map(str, batch)) or 'none'}"
            )
            raise ValueError(msg)
        weights = [name for name in _WEIGHTS if name in batch][:1]
        rest = {k: v for k, v in batch.items() if k not in (*names, *weights)}
        if "inputs" in rest and len(rest) > 1:
            odd = ", ".join(str(k) for k in rest if k != "inputs")
            msg = f"{where}: a mapping with the key 'inputs' must hold all inputs there, got {odd} beside it"
            raise ValueError(msg)
        return (rest.get("inputs", rest), batch[names[0]], *(batch[name] for name in weights))
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        several = isinstance(batch, (tuple, list)) and len(batch) > 2
        got = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
        more = "; several inputs are one part: ((x1, x2), y)" if several else ""
        msg = f"{where}: a batch must be (inputs, targets) or (inputs, targets, weights), got {got}{more}"
        raise TypeError(msg)
    return tuple(batch)


def _check_weights(where: str, weights: Any, samples: int) -> None:
    """Refuse weights of samples that are none."""
    xp, shape = backend_of(weights), tuple(weights.shape)
    if not shape or shape[0] != samples:
        return  # said with the other lengths
    if not xp.isdtype(weights.dtype, ("real floating", "integral", "bool")):
        msg = f"{where}: weights must be real numbers, one a sample, got {weights.dtype}"
        raise TypeError(msg)
    values = xp.astype(weights, xp.float64) if xp.isdtype(weights.dtype, ("integral", "bool")) else weights
    if not bool(xp.all(xp.isfinite(values))) or bool(xp.any(values < 0)) or not bool(xp.any(values > 0)):
        msg = (
            f"{where}: weights must be finite numbers of at least 0, not all 0, one a sample; got others (several inputs are "
            "one part: ((x1, x2), y))"
        )
        raise ValueError(msg)


# ----- from data to a loader -----


class _Pairs(Dataset):
    """Nested tuples and dicts of arrays: inputs and targets, or inputs alone."""

    draws = False

    def __init__(self, tree: Any) -> None:
        leaves, _ = flatten(tree)
        self.tree, self.length = tree, int(leaves[0].shape[0])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> Any:
        return map_tree(lambda a: wrap(a[(index, ...)]), self.tree)

    def batch(self, indices: Sequence[int]) -> Any:
        rows = registry.asarray(indices, "int64")
        return map_tree(lambda a: taken(a, rows), self.tree)


def _is_array(x: Any) -> bool:
    return isinstance(x, Tensor) or registry.is_array(x)


def _arrays(where: str, what: str, value: Any) -> Any:
    """An array, or a tuple or dict of arrays, from what can be made into one; the first axis is the samples."""
    if isinstance(value, Mapping):
        return {str(k): _arrays(where, f"{what}[{k!r}]", v) for k, v in value.items()}
    if isinstance(value, tuple) and not all(isinstance(v, (bool, int, float, complex)) for v in value):
        return tuple(_arrays(where, f"{what}[{i}]", v) for i, v in enumerate(value))
    try:
        if isinstance(value, list) and value and _is_array(value[0]):  # a list of samples
            value = backend_of(to_plain(value[0])).stack([to_plain(v) for v in value], axis=0)
        plain = to_plain(value)
    except (TypeError, ValueError) as error:
        names = " (labels are integers: number the names)" if _words(value) else ""
        msg = f"{where}: {what} must be an array of numbers, or a list of them, got {type(value).__name__}{names}: {error}"
        raise TypeError(msg) from None
    if not plain.shape:
        msg = f"{where}: {what} must be an array with the samples along its first axis, got a single number"
        raise ValueError(msg)
    return plain


def _words(value: Any) -> bool:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return kind in ("U", "S", "T") or (
        isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], str)
    )


_FORMS = "a pair (inputs, targets) of equal length, a Dataset or a DataLoader"


def dataset_of(where: str, data: Any) -> Any:
    """A data set of pairs (inputs, targets), or of triples with weights."""
    if isinstance(data, TensorDataset):
        if len(data.arrays) == 3:
            _check_weights(where, data.arrays[2], len(data))
        return data
    if isinstance(data, Mapping):
        data = parts_of(where, data)
    elif isinstance(data, list) and len(data) == 3 and all(map(_is_array, data)):
        data = tuple(data)
    samples = isinstance(data, list) and len(data) != 2 and all(isinstance(s, (tuple, list)) for s in data)
    if _is_array(data) or isinstance(data, (str, bytes)):
        got = f"an array of shape {tuple(data.shape)}" if _is_array(data) else type(data).__name__
        msg = f"{where}: data must be {_FORMS}, got {got}" + (
            "; the targets are missing: give both as a pair, (x, y)" if _is_array(data) else ""
        )
        raise TypeError(msg)
    if isinstance(data, (tuple, list)) and not (samples and data):
        if len(data) not in (2, 3):
            found = [_length(part) for part in data]
            shown = f"{str(found[:6])[:-1]}, …]" if len(found) > 6 else str(found)
            msg = f"{where}: data must be {_FORMS}, got {len(data)} arrays of lengths {shown}"
            raise ValueError(msg)
        names = ("inputs", "targets", "weights")
        pair = tuple(_arrays(where, name, part) for name, part in zip(names, data, strict=False))
        lengths = [int(a.shape[0]) for a in flatten(pair)[0]]
        if len(set(lengths)) > 1:
            msg = f"{where}: data must be {_FORMS}, got {len(lengths)} arrays of lengths {lengths}"
            raise ValueError(msg)
        if len(pair) == 3:
            _check_weights(where, pair[2], lengths[0])
        return TensorDataset(*pair) if all(map(_is_array, pair)) else _Pairs(pair)
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__") or isinstance(data, type):
        msg = f"{where}: data must be {_FORMS}, got {data.__name__ if isinstance(data, type) else type(data).__name__}"
        raise TypeError(msg + ("; give an instance of the class" if isinstance(data, type) else ""))
    return data


def _length(part: Any) -> int | None:
    return len(part) if hasattr(part, "__len__") else None


_DATAFRAMES = ("pandas", "polars", "pyarrow", "duckdb", "modin", "cudf")


def _refuse_raw(where: str, data: Any) -> None:
    """A file, a folder or a DataFrame is read by a source, which must be told what the target is."""
    if isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        source = f"anynet.data.Table({path!r}, target='…')"
        if os.path.isdir(path):
            source = f"anynet.data.ImageFolder({path!r})"
        elif os.path.splitext(path)[1] in (".txt", ".md"):
            source = f"anynet.data.Text({path!r})"
        got = f"the path {path!r}"
    elif type(data).__module__.partition(".")[0] in _DATAFRAMES and hasattr(data, "columns"):
        columns = getattr(data, "column_names", None) or list(data.columns)
        target = columns[-1] if columns and isinstance(columns[-1], str) else "…"
        source, got = f"anynet.data.Table(data, target={target!r})", f"a table ({type(data).__name__})"
    else:
        return
    part = "" if where.endswith("train") else ".valid"
    msg = f"{where}: data must be {_FORMS}, or a source, got {got}; write {source}{part}"
    raise TypeError(msg)


def loader_of(
    where: str, data: Any, batch_size: int, shuffle: bool, seed: int, device: str, steps: int | None = None
) -> Any:
    """A loader of pairs (inputs, targets) or triples with weights; a `DataLoader` as it is, a stream as a `Stream`."""
    if isinstance(data, Stream):
        return data
    _refuse_raw(where, data)
    if not isinstance(data, DataLoader) and gives_samples(data):
        data = DataLoader(data, batch_size=batch_size, seed=seed, device=device, pin_memory=_pins(device))
        return data if steps is None else Stream(where, data, steps, device)
    if not isinstance(data, DataLoader) and is_stream(data):
        return Stream(where, data, steps, device)
    if steps is not None:
        msg = (
            f"{where}: steps_per_epoch is for streams; these data have a length, and an epoch is all of them"
        )
        raise ValueError(msg)
    if not isinstance(data, DataLoader):
        dataset = dataset_of(where, data)
        data = DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            device=device,
            pin_memory=_pins(device),
        )
    if length(data) == 0:
        what = (
            "the data are empty" if len(data.dataset) == 0 else "drop_last=True leaves no batch of the data"
        )
        msg = f"{where}: {what}"
        raise ValueError(msg)
    return data


def _pins(device: str) -> bool:
    """Whether batches go to a device through page-locked memory."""
    return device.partition(":")[0] == "cuda"


def inputs_loader(where: str, data: Any, batch_size: int, device: str) -> tuple[Any, Callable[[Any], Any]]:
    """A loader of inputs, and a function that takes the inputs out of its batches."""

    def first(batch: Any) -> Any:
        if isinstance(batch, Mapping) and any(name in batch for name in _TARGETS):
            return parts_of(where, batch)[0]
        return batch[0] if isinstance(batch, (tuple, list)) and len(batch) in (2, 3) else batch

    if isinstance(data, DataLoader):
        return data, first
    if is_stream(data):
        return loader_of(where, data, batch_size, False, 0, device), first
    if isinstance(data, Dataset) or _is_map_style(data):
        return DataLoader(data, batch_size=batch_size, device=device, pin_memory=_pins(device)), first
    tree = _arrays(where, "the inputs", data)
    lengths = [int(a.shape[0]) for a in flatten(tree)[0]]
    if len(set(lengths)) != 1:
        msg = f"{where}: the inputs must have one length, got {lengths}"
        raise ValueError(msg)
    loader = DataLoader(_Pairs(tree), batch_size=batch_size, device=device, pin_memory=_pins(device))
    return loader, lambda batch: batch


def _is_map_style(data: Any) -> bool:
    """Whether an object gives samples by number, as data sets of PyTorch and Hugging Face do, and is no array, table or list."""
    return (
        not isinstance(data, (Mapping, Sequence, type))
        and hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not any(
            hasattr(data, name) for name in ("dtype", "__array__", "__array_namespace__", "__dlpack__")
        )
    )


_HOST_ARRAY: Any = resolve("cpu")[0].array_type


# ----- from a batch to what the model takes -----


class Batches:
    """The batches of a loader as a model takes them.

    Floating-point arrays are converted to the dtype of the model's (first floating-point) parameter, and arrays elsewhere
    are moved to its device. Integers and booleans among the inputs stay as they are where the model takes them so (an
    embedding, an index), which one call on the first batch finds out; where a layer asks for floating-point numbers they
    are converted. Integer targets stay: the loss knows what they are.
    """

    def __init__(self, where: str, model: Module, device: str, whole: bool = False) -> None:
        self.where, self.model, self.device = where, model, device
        self.whole = whole  # the model takes batches as they are, in its own step
        self.dtype: dtypes.DType | None = dtypes.default_float()
        if not any(m.waiting for m in model.modules()):
            kinds = [t.dtype for t in (*model.parameters(), *model.buffers()) if t.dtype.kind == "real"]
            self.dtype = kinds[0] if kinds else None
        self.integers: bool | None = (
            None  # whether integers among the inputs are converted; None: not known yet
        )
        self._fine: set[Any] = set()  # dtypes of arrays that are inputs (True) or targets as they are

    def parts(self, batch: Any) -> tuple[Any, ...]:
        """The inputs and targets of a batch, and the weights of its samples where it has some; the batch alone for a model with
        its own step."""
        if self.whole:
            return (map_tree(self._placed, batch),)
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
            batch = parts_of(self.where, batch)
        x, y = batch[0], batch[1]
        if not (self._as_they_are(x, True) and self._as_they_are(y, False)):  # nearly always they are
            x, y = self.inputs(x), self.targets(y)
        return (x, y) if len(batch) == 2 else (x, y, self._weights(batch[2]))

    def pair(self, batch: Any) -> tuple[Any, Any]:
        """The inputs and targets alone."""
        found = self.parts(batch)
        return found[0], found[1]

    def _weights(self, w: Any) -> Any:
        """The weights of samples, numbers of at least 0."""
        w = self._placed(w if isinstance(w, Tensor) else asarray(w, device=self.device))
        w = w if self.dtype is None or w.dtype is self.dtype else astype(w, self.dtype)
        plain = unwrap(w)
        if not w.ndim or not bool(backend_of(plain).all(plain >= 0)):
            msg = (
                f"{self.where}: the weights of a batch must be numbers of at least 0, one a sample (several inputs are one part: "
                "((x1, x2), y))"
            )
            raise ValueError(msg)
        return w

    def _as_they_are(self, x: Any, inputs: bool) -> bool:
        """Whether nothing is to be done with an array on the host, which its dtype alone tells."""
        data: Any = x.data if type(x) is Tensor else None
        if not isinstance(data, _HOST_ARRAY) or self.device != "cpu":
            return False
        key = data.dtype, inputs
        if key not in self._fine:
            if (self._one(x) if inputs else self._placed(x)) is not x:
                return False
            self._fine.add(key)
        return True

    def inputs(self, tree: Any) -> Any:
        """The inputs, converted."""
        if type(tree) is Tensor:
            return self._one(tree)
        return map_tree(lambda x: self._one(x, tree), tree)

    def targets(self, tree: Any) -> Any:
        """The targets, converted."""
        if type(tree) is Tensor:
            return self._placed(tree)
        return map_tree(self._placed, tree)

    def _one(self, x: Any, tree: Any = None) -> Any:
        x = self._placed(x)
        if not isinstance(x, Tensor) or x.dtype.kind in ("real", "complex") or self.dtype is None:
            return x
        if self.integers is None:
            self.integers = not self._takes_integers(x if tree is None else tree)
        return astype(x, self.dtype) if self.integers else x

    def _placed(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        kind = x.dtype
        if kind is self.dtype or kind.kind != "real" or self.dtype is None:
            return x if x.device == self.device else x.to(self.device)
        return astype(x.to(self.device), self.dtype)

    def _takes_integers(self, tree: Any) -> bool:
        """Whether the model takes the integers of these inputs as they are: one call, which leaves no trace."""
        inputs = map_tree(self._placed, tree)
        try:
            with fork_rng(), no_grad(), evaluating(self.model):
                output = call(self.model, inputs)
        except TypeError:
            return False
        except Exception:  # noqa: BLE001 the first batch will raise it where it can be seen
            return True
        kinds = [y.dtype for y in flatten(output)[0] if isinstance(y, Tensor) and y.dtype.kind == "real"]
        return all(kind is self.dtype for kind in kinds)


def first_batch(loader: Any) -> Any:
    """The first batch in the order of the data, without moving the loader on."""
    return loader.first()


def targets_of(*loaders: Any) -> list[Any]:
    """The targets of data sets of arrays; none where one of the loaders has other data."""
    found = []
    for loader in loaders:
        dataset, indices = loader.dataset, None
        while isinstance(dataset, Subset):
            own = dataset.indices
            indices = own if indices is None else [own[i] for i in indices]
            dataset = dataset.dataset
        parts = dataset.arrays if isinstance(dataset, TensorDataset) else getattr(dataset, "tree", ())
        if (
            not isinstance(parts, tuple)
            or len(parts) not in (2, 3)
            or not _is_array(parts[1])
            or loader.collate_fn is not None
        ):
            return []
        found.append(parts[1] if indices is None else taken(parts[1], registry.asarray(indices, "int64")))
    return found


# ----- is it the same data? -----

_WHOLE, _SLICE = 1 << 30, 1 << 20  # bytes


def fingerprint(loader: Any) -> dict[str, Any]:
    """What a resumed run compares of its data: how many, in which batches and order, and a checksum.

    The checksum (CRC-32) is of shapes, dtypes and all bytes of data sets of arrays (`TensorDataset`, and the pairs that are
    given to `fit`) and their subsets, of arrays above 1 GiB of 1,024 slices spread over them. Of other data sets nothing but the length is
    compared: what they hold may be drawn at random, or take long to read.
    """
    if isinstance(loader, Stream):
        return {
            "stream": type(loader.dataset).__name__,
            "batches": length(loader),
            "batch_size": loader.batch_size,
        }
    if length(loader) is None:
        return {"stream": type(loader.dataset).__name__, "batch_size": loader.batch_size}
    names = ("batch_size", "shuffle", "drop_last", "seed")
    out: dict[str, Any] = {"samples": len(loader.dataset)} | {
        k: getattr(loader, k) for k in names if k != "seed" or loader.shuffle
    }
    dataset, more = loader.dataset, []
    while isinstance(dataset, Subset):
        more.append(registry.asarray(dataset.indices, "int64"))
        dataset = dataset.dataset
    tree = dataset.arrays if isinstance(dataset, TensorDataset) else getattr(dataset, "tree", None)
    if tree is not None:
        out["data"] = f"{_checksum([*flatten(tree)[0], *more]):08x}"
    if "sampler" in (order := loader.identity()):
        out |= {"sampler": order["sampler"], "seed": order["seed"]}
    return out


def _checksum(arrays: Sequence[Any]) -> int:
    found = 0
    for a in arrays:
        xp, n = backend_of(a), int(a.shape[0])
        found = zlib.crc32(f"{tuple(a.shape)} {dtypes.of(a.dtype)}".encode(), found)
        row = max(1, math.prod(map(int, a.shape[1:])) * dtypes.of(a.dtype).itemsize)
        width = max(1, _SLICE // row)
        step = width if n * row <= _WHOLE else max(width, n // 1024)
        for begin in range(0, n, step):
            part = registry.asarray(xp.to_host(a[begin : min(begin + width, n), ...]))
            found = zlib.crc32(host.to_bytes(part), found)
    return found

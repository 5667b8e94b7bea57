"""Taking a network elsewhere: PyTorch source, one NumPy file, ONNX; each with a certificate of how far it is from the original.

>>> import anynet as an
>>> net = an.nn.Sequential(an.nn.Linear(4, 8), an.nn.ReLU(), an.nn.Linear(8, 3))
>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     found = an.export.numpy(net, an.ones((5, 4)), f"{folder}/net.py")
...     found.samples, found.ulps < 4
(5, True)
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anynet._hints import nearest
from anynet._optional import optional
from anynet.autograd.pytree import flatten
from anynet.export.certificate import Certificate, Difference, difference, outputs_of
from anynet.export.program import OPSET, ExportError, Program, input_names, program_of
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.tensor import Tensor, no_grad, unwrap
from anynet_backends import Array, backend_of, files, safetensors_io
from anynet_backends.torch_backend import run_module

# in the wheel the writers lie in an archive (hatch_build.py), since few need them
__path__.append(os.path.join(__path__[0], "inside.zip"))

from anynet.export.numpy_source import numpy_source  # noqa: E402  after the path
from anynet.export.torch_source import torch_source  # noqa: E402

__all__ = ["OPSET", "Certificate", "Difference", "ExportError", "export", "numpy", "onnx", "torch"]


class _Job:
    """A network with an example: its program, and what it gives for the example."""

    def __init__(
        self, model: Module, example: Any, dynamic: bool, names: Sequence[str] | None, title: str | None
    ) -> None:
        if not isinstance(model, Module):
            msg = f"export: the model must be a Module, got {type(model).__name__}"
            raise TypeError(msg)
        self.model = model
        place = next((p.device for p in (*model.parameters(), *model.buffers())), None)
        if isinstance(example, Mapping):
            self.example: Any = {k: asarray(v, device=place) for k, v in example.items()}
        elif isinstance(example, (tuple, list)) and not all(isinstance(v, (int, float)) for v in example):
            self.example = tuple(asarray(v, device=place) for v in example)
        else:
            self.example = asarray(example, device=place)
        self.program: Program = program_of(model, self.example, dynamic=dynamic)
        leaves = flatten(self.example)[0]
        self.inputs = [_host(x) for x in leaves]
        self.names = self._names(names, len(leaves))
        self.title = title or type(model).__name__
        with no_grad(), evaluating(model):
            if isinstance(self.example, Mapping):
                found = model(**self.example)
            else:
                found = model(*self.example) if isinstance(self.example, tuple) else model(self.example)
        self.outputs = [_host(y) for y in flatten(found)[0] if isinstance(y, Tensor)]

    def _names(self, names: Sequence[str] | None, count: int) -> list[str]:
        if names is not None:
            if len(names) != count or not all(n.isidentifier() for n in names):
                msg = f"export: names must be {count} identifiers, got {list(names)}"
                raise ValueError(msg)
            return list(names)
        if isinstance(self.example, Mapping):
            return [str(k) for k in self.example]
        return input_names(self.model, count)

    def certificate(self, target: str, path: Path) -> Certificate:
        return Certificate(target, str(path), int(self.inputs[0].shape[0]))

    def compare(self, certificate: Certificate, by: str, outputs: Sequence[Array]) -> None:
        """Note how far outputs are from the network's."""
        for name, y, z in zip(outputs_of(len(self.outputs)), self.outputs, outputs, strict=True):
            certificate.differences.append(difference(name, by, y, z))


def _host(x: Any) -> Array:
    plain = unwrap(x)
    return backend_of(plain).to_host(plain)


def numpy(
    model: Module, example: Any, path: str | os.PathLike[str], *, dynamic: bool = True, names: Sequence[str] | None = None,
    title: str | None = None,
) -> Certificate:  # fmt: skip
    """Write a network as one Python file that needs NumPy alone, weights included; ``from file import predict``.

    Parameters:
      model: the network; it is exported as it computes in evaluation mode.
      example: inputs as the network takes them (an array, a tuple or a dict of arrays), the samples along the first axis. The more there
        are, the more the certificate says: what the file computes is compared with the network on all of them.
      path: the file; the certificate is written beside it (``….certificate.json``).
      dynamic: any number of samples can be given to the result; False: as many as in the example.
      names: what the inputs are called, by default as in `forward`.
      title: what the network is called in the file.

    Errors: `ExportError` names the layer that cannot be exported: it draws random numbers, changes its state or depends on the values
    of arrays when it is called. Nothing is written then.
    """
    job = _Job(model, example, dynamic, names, title)
    text = numpy_source(job.program, job.names, job.title)
    place, certificate = Path(path), job.certificate("NumPy", Path(path))
    namespace: dict[str, Any] = {"__name__": place.stem}
    exec(compile(text, str(place), "exec"), namespace)  # noqa: S102 - the text that was just written
    job.compare(certificate, "numpy", _leaves(namespace["predict"](*job.inputs)))
    _write(place.parent, {place.name: text, place.name + ".certificate.json": certificate.text()})
    return certificate


def onnx(
    model: Module, example: Any, path: str | os.PathLike[str], *, dynamic: bool = True, names: Sequence[str] | None = None,
    title: str | None = None, check: bool = True,
) -> Certificate:  # fmt: skip
    """Write a network as an ONNX file (extra onnx), operators of version `OPSET`. Parameters and errors as in `numpy`.

    ONNX's own checker has always seen the file, with shape inference. `check`: it is also run, by ONNX's reference evaluator and, where
    it is installed, onnxruntime, and compared with the network. Outputs are called output, output_1, …
    """
    optional("onnx", "onnx", "export to=onnx")
    job = _Job(model, example, dynamic, names, title)
    from anynet.export.onnx_graph import onnx_model  # of use with the extra alone

    made = onnx_model(job.program, job.names, job.title)
    place, certificate = Path(path), job.certificate("ONNX", Path(path))
    data = made.SerializeToString()
    fed = dict(zip(job.names, job.inputs, strict=True))
    if check:
        try:
            evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(made)
            job.compare(certificate, "onnx.reference", evaluator.run(None, fed))
        except (NotImplementedError, RuntimeError) as error:  # it lacks some options that the standard has
            certificate.unchecked.append(f"not run by onnx.reference: {error}")
        if importlib.util.find_spec("onnxruntime") is not None:
            session = importlib.import_module("onnxruntime").InferenceSession(
                data, providers=["CPUExecutionProvider"]
            )
            job.compare(certificate, "onnxruntime", session.run(None, fed))
        else:
            certificate.unchecked.append("not run by onnxruntime: it is not installed")
    else:
        certificate.unchecked.append("not run: check=False")
    _write(place.parent, {place.name: data, place.name + ".certificate.json": certificate.text()})
    return certificate


_TEST = '''"""The module gives what the network that it was made from gave: `pytest test_model.py`."""

from pathlib import Path

import torch
from model import load
from safetensors.torch import load_file


def test_outputs():
    stored = load_file(Path(__file__).with_name("test_model.safetensors"))
    inputs = [stored[f"input_{{i}}"] for i in range({inputs})]
    with torch.no_grad():
        found = load()(*inputs)
    for i, got in enumerate(leaves(found)):
        expected = stored[f"output_{{i}}"]
        torch.testing.assert_close(got, expected, rtol={tolerance}, atol={tolerance} * float(expected.abs().max()))
    assert i == {outputs} - 1


def leaves(found):
    """The arrays of an output."""
    if isinstance(found, dict):
        found = list(found.values())
    return [leaf for part in found for leaf in leaves(part)] if isinstance(found, (tuple, list)) else [found]
'''


def torch(
    model: Module, example: Any, folder: str | os.PathLike[str], *, dynamic: bool = True, names: Sequence[str] | None = None,
    title: str | None = None,
) -> Certificate:  # fmt: skip
    """Write a network as a PyTorch module: model.py (readable source), model.safetensors, test_model.py (compares stored outputs).

    Layers that PyTorch has stand as its layers, with their options; what lies between is written with its functions. Parameters and errors
    as in `numpy`; `folder` is made. Where PyTorch is installed the module is run and compared, else the certificate says that it was
    not: test_model.py does it where PyTorch is.
    """
    job = _Job(model, example, dynamic, names, title)
    text, state = torch_source(job.program, job.names, job.title, dict(model.named_modules()))
    place, certificate = Path(folder), job.certificate("PyTorch", Path(folder))
    if importlib.util.find_spec("torch") is not None:
        job.compare(
            certificate, "torch", _leaves(run_module(text, str(place / "model.py"), state, job.inputs))
        )
    else:
        certificate.unchecked.append("not run: PyTorch is not installed; test_model.py compares where it is")
    some = slice(0, 8) if dynamic else slice(None)
    stored = {f"input_{i}": x[some, ...] for i, x in enumerate(job.inputs)}
    stored |= {f"output_{i}": y[some, ...] for i, y in enumerate(job.outputs)}
    narrow = any(str(y.dtype) in ("float16", "bfloat16") for y in job.outputs)
    test = _TEST.format(inputs=len(job.inputs), outputs=len(job.outputs), tolerance=1e-2 if narrow else 1e-4)
    _write(
        place,
        {
            "model.py": text, "model.safetensors": state, "test_model.safetensors": stored, "test_model.py": test,
            "certificate.json": certificate.text(),
        },
    )  # fmt: skip
    return certificate


def _write(folder: Path, contents: Mapping[str, Any]) -> None:
    """Files by name, all or none: texts, bytes, or arrays by name."""
    with files.writing_together(folder) as opened:
        for name, content in contents.items():
            if isinstance(content, Mapping):
                safetensors_io.write(opened(name), content)
            else:
                files.write_all(opened(name), content)


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, Mapping):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, (tuple, list)):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [] if tree is None else [tree]


_TARGETS: dict[str, tuple[Callable[..., Certificate], str]] = {
    "numpy": (numpy, "model.py"), "onnx": (onnx, "model.onnx"), "torch": (torch, "torch"),
}  # fmt: skip


def export(
    model: Module, to: str, example: Any, out: str | os.PathLike[str] | None = None, **options: Any
) -> Certificate:
    """Write a network in the form `to`: "numpy" (a file), "onnx" (a file) or "torch" (a folder); see the functions of these names. `out` is
    by default model.py, model.onnx or torch/ in the current folder."""
    if not isinstance(to, str) or to not in _TARGETS:
        msg = f"export: unknown target {to!r}{nearest(str(to), _TARGETS)}"
        raise ValueError(msg)
    function, default = _TARGETS[to]
    return function(model, example, default if out is None else out, **options)

"""What of a PyTorch script differs here, line by line: read from its syntax tree, nothing is run."""

from __future__ import annotations

import ast
import contextlib
import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from anynet.torch.absent import METHODS, UNSHARED, reason
from anynet.torch.table import TABLE

__all__ = ["Finding", "findings"]

_OTHERS = {
    "torchaudio": "sound is not offered",
    "torchtext": "texts: anynet.data.Text",
    "pytorch_lightning": "anynet.fit has a training loop with callbacks",
    "lightning": "anynet.fit has a training loop with callbacks",
    "apex": "precision: torch.amp, anynet.fit(precision=…)",
    "torch_geometric": "graphs: anynet.nn.GCNConv, GATConv",
    "torch.fx": "anynet.export",
    "torch.hub": "nothing is downloaded; anynet.models, weights from files",
    "torch.quantization": "quantization is not offered",
}
_CALLS = {
    "torch.manual_seed": "the random numbers that follow are anynet's, not PyTorch's for the same seed",
    "torch.save": "writes safetensors, whatever the name; PyTorch does not read it as a .pt file",
    "torch.compile": "compiles calls without gradients; a whole training step is compiled by anynet.compile(step)",
    "torch.from_numpy": TABLE["from_numpy"].differs,
    "torch.distributed.init_process_group": "gloo and nccl are one group here, over MPI or TCP; a store and file:// are refused",
    "torch.jit.script": "the function runs as it is written; anynet.compile compiles it",
    "torch.jit.trace": "the function runs as it is written; anynet.compile compiles it",
    "torch.onnx.export": "written by anynet.export.onnx; the version of the operators is its own",
    "torch.utils.tensorboard": "tensorboardX has the same writer: the import line becomes `from tensorboardX import SummaryWriter`",
    "torch.utils.tensorboard.SummaryWriter": "tensorboardX has the same writer",
    "torch.multiprocessing.Process": "tensors are copied into another process, not shared in place",
    "torchvision.datasets.MNIST": "the files are those of anynet.data.load; root is not looked at",
    "torchvision.datasets.FashionMNIST": "the files are those of anynet.data.load; root is not looked at",
    "torchvision.datasets.CIFAR10": "the files are those of anynet.data.load; root is not looked at",
    "torch.set_num_threads": "set OMP_NUM_THREADS before Python starts",
    "torch.utils.data.DataLoader": "the order of shuffle=True is anynet's, not PyTorch's for the same seed",
    "torch.autograd.set_detect_anomaly": "write `with torch.autograd.detect_anomaly():` around what is to be checked",
}
_ATTRIBUTES = {
    "data_ptr": "tensors have no address; compare them with `is`",
    "share_memory_": UNSHARED,
    "share_memory": UNSHARED,
}
_ROOMS = {"torch": "anynet.torch", "torchvision": "anynet.torchvision"}


class Finding(NamedTuple):
    """A line that differs: where, what stands there, whether it fails (or only differs), and why."""

    line: int
    name: str
    fails: bool
    why: str


def _stored(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The names, and the attributes, that are assigned in a tree."""
    names, attributes = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
    return names, attributes


class _Reader(ast.NodeVisitor):
    """Follows names of torch through imports and attributes."""

    def __init__(self, tree: ast.AST) -> None:
        self.own = _stored(tree)[1]  # attributes that the script's own objects have
        self.paths: dict[str, str] = {}  # by local name: the path that it stands for
        self.found: list[Finding] = []
        self.modules: set[str] = (
            set()
        )  # local names of anything imported, whose attributes are no methods of tensors

    def add(self, node: Any, name: str, fails: bool, why: str) -> None:
        self.found.append(Finding(node.lineno, name, fails, why))

    def _scope(self, node: Any) -> None:
        """A function: what it assigns is not what was imported under that name."""
        before, own = self.paths, _stored(node)[0]
        self.paths = {name: path for name, path in before.items() if name not in own}
        self.generic_visit(node)
        self.paths = before | {
            name: path for name, path in self.paths.items() if name not in before and name not in own
        }

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _scope

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.split(".")[0]
            local = alias.asname or top
            self.modules.add(local)
            self._module(node, alias.name)
            if top in _ROOMS:
                self.paths[local] = alias.name if alias.asname else top
                if "." in alias.name:
                    self._name(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            return
        elsewhere = self._module(node, node.module)
        for alias in node.names:
            self.modules.add(alias.asname or alias.name)
            if node.module.split(".")[0] in _ROOMS and not elsewhere and alias.name != "*":
                path = f"{node.module}.{alias.name}"
                self.paths[alias.asname or alias.name] = path
                self._name(node, path)

    def _module(self, node: Any, module: str) -> bool:
        """Say what there is in the place of a module; whether it is not here."""
        for name, why in _OTHERS.items():
            if module == name or module.startswith(f"{name}."):
                self.add(node, module, True, why)
                return True
        return False

    def _name(self, node: Any, path: str) -> None:
        """A path of torch that is used."""
        if path in _CALLS:
            self.add(node, path, False, _CALLS[path])
        elif any(path == name or path.startswith(f"{name}.") for name in _OTHERS):
            name = next(n for n in _OTHERS if path == n or path.startswith(f"{n}."))
            self.add(node, path, True, _OTHERS[name])
        elif (missing := _missing(path)) is not None:
            self.add(node, path, True, missing)
        elif (row := TABLE.get(path.removeprefix("torch."))) is not None and row.differs:
            self.add(node, path, False, row.differs)

    def _path(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return self.paths.get(node.id)
        if isinstance(node, ast.Attribute):
            above = self._path(node.value)
            return None if above is None else f"{above}.{node.attr}"
        return None

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for operator, *pair in zip(node.ops, sides, sides[1:], strict=False):
            for one, other in (pair, pair[::-1]) if isinstance(operator, (ast.Is, ast.IsNot)) else ():
                path = self._path(other)
                if _is_a_type(one) and path is not None and _stands(path):
                    self.add(node, path, False, _IDENTITY)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self._path(node)
        if path is not None:
            if isinstance(node.ctx, ast.Load):
                self._name(node, path)
            return
        root: Any = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if not (isinstance(root, ast.Name) and root.id in self.modules):
            if node.attr in _ATTRIBUTES:
                self.add(node, f".{node.attr}", True, _ATTRIBUTES[node.attr])
            elif node.attr in METHODS and node.attr not in _COMMON and node.attr not in self.own:
                self.add(node, f".{node.attr}", True, f"if this is a tensor's: {reason(node.attr)}")
        self.visit(node.value)


# names of methods that other objects have oftener than tensors
_COMMON = {
    "name",
    "values",
    "indices",
    "index",
    "map_",
    "solve",
    "mode",
    "new",
    "put",
    "storage",
    "set_",
    "resize",
}


_ABSENT = object()


class _Absent(NamedTuple):
    """In the place of what a path would be."""

    why: str


_IDENTITY = (
    "the type of a layer is anynet's class, which this one stands for: `is` is never true; write `==` or isinstance, which are as in "
    "PyTorch"
)


def _is_a_type(node: ast.AST) -> bool:
    """``type(x)`` or ``x.__class__``"""
    if isinstance(node, ast.Attribute):
        return node.attr == "__class__"
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type"


def _stands(path: str) -> bool:
    """Whether a path is a class that stands for one of anynet's."""
    found = _found(path)
    return isinstance(found, type) and "_stands" in vars(found)


def _missing(path: str) -> str | None:
    """Why a path is not in this room; None where it is."""
    found = _found(path)
    return found.why if isinstance(found, _Absent) else None


def _found(path: str) -> Any:
    """What a path is in this room."""
    top, *parts = path.split(".")
    room: Any = importlib.import_module(_ROOMS[top])
    for part in parts:
        found = getattr(room, part, _ABSENT)
        if found is _ABSENT and hasattr(room, "__path__"):
            with contextlib.suppress(ImportError):
                found = importlib.import_module(f"{room.__name__}.{part}")
        if found is _ABSENT:
            return _Absent(reason(part) if top == "torch" else "not offered by anynet.torchvision")
        room = found
    return room


def findings(source: str, name: str = "<script>") -> Iterator[Finding]:
    """The lines of a script that would fail or differ here, in their order, each name once in a line.

    SyntaxError for what is no Python.

    >>> for line in findings("import torch\\nx = torch.pca_lowrank(torch.ones(3, 3))"):
    ...     print(line.line, line.name, line.why)
    2 torch.pca_lowrank torch.linalg.svd computes it whole
    """
    tree = ast.parse(source, filename=name)
    reader = _Reader(tree)
    reader.visit(tree)
    yield from sorted(set(reader.found))

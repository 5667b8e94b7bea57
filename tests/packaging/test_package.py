"""The package as a whole: what it contains, what it imports, what its names are."""

from __future__ import annotations

import ast
import importlib
import io
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import anynet
from anynet.gallery import listing
from anynet.gallery.listing import entries

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "anynet").rglob("*.py"))
ARRAY_LIBRARIES = {
    "array_api_compat", "array_api_extra", "array_api_strict", "cupy", "cupyx", "dask", "jax", "numpy", "scipy",
    "sklearn", "torch",
}  # fmt: skip
OPTIONAL = {
    "array_api_extra", "array_api_strict", "cupy", "cupyx", "einops", "hypothesis", "jax", "matplotlib", "pytest",
    "scipy", "sklearn", "torch",
}  # fmt: skip
NAMES = Path(__file__).with_name("names.json")


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that a module imports, wherever in it, importlib.import_module("…") included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__"):
                found.add(str(node.args[0].value).split(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_anynet_imports_no_array_library(path: Path) -> None:
    own = {"sklearn"} if path.parent == ROOT / "anynet" / "sklearn" else set()  # estimators of scikit-learn
    assert not imported(ast.parse(path.read_text(encoding="utf-8"))) & (ARRAY_LIBRARIES - own)


def test_the_import_test_sees_every_way_to_import() -> None:
    code = "import numpy.linalg as a\nfrom torch import nn\ndef f():\n    importlib.import_module('cupy.fft')"
    assert imported(ast.parse(code)) == {"numpy", "torch", "cupy"}


def test_importing_anynet_imports_nothing_optional() -> None:
    code = "import sys, json, anynet; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not set(json.loads(answer.stdout)) & OPTIONAL


def test_importing_anynet_loads_what_it_needs_alone() -> None:
    """Start-up time, counted in what does not depend on the load of the machine: training, data and optimizers come when asked for."""
    code = (
        "import sys, numpy; before = set(sys.modules); import anynet; print(len({m for m in set(sys.modules) - before "
        "if not m.startswith('anynet')})); print(*(m for m in ('anynet.train', 'anynet.data', 'anynet.optim', 'json', 'socket', "
        "'tarfile', 'hashlib') if m in sys.modules)); anynet.fit, anynet.data.Table, anynet.optim.Adam, anynet.utils.data.DataLoader"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    others, loaded = answer.stdout.splitlines()
    assert int(others) < 45
    assert loaded == ""


def test_no_text_tells_anyone_to_install_the_other_anynet() -> None:
    # the distribution called `anynet` on the package index is another project
    texts = [
        *SOURCES,
        *(ROOT / "backends").rglob("*.py"),
        *(ROOT / "examples").glob("*.py"),
        ROOT / "README.md",
    ]
    wrong = re.compile(r"pip install (-\S+ )*['\"]?anynet(?!-nn)\b")
    assert [str(p) for p in texts if p.exists() and wrong.search(p.read_text(encoding="utf-8"))] == []


def test_documentation_examples() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", "anynet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:]


def public_names() -> dict[str, list[str]]:
    """The public names: those of anynet and of the modules that a user imports."""
    children = [m.name for m in pkgutil.iter_modules(anynet.__path__) if not m.name.startswith("_")]
    found = {}
    for name in ("anynet", *(f"anynet.{child}" for child in children)):
        names = getattr(importlib.import_module(name), "__all__", None)
        if names is not None:
            found[name] = sorted(names)
    return found


def test_public_names() -> None:
    """Names appear or disappear on purpose: `python tests/packaging/test_package.py` writes the list."""
    assert public_names() == json.loads(NAMES.read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", sorted(public_names()))
def test_public_names_exist(module: str) -> None:
    found = importlib.import_module(module)
    names = list(found.__all__)
    assert len(names) == len(set(names))
    assert [n for n in names if not hasattr(found, n)] == []


def test_a_star_import_gives_arrays_networks_and_training_and_hides_no_open() -> None:
    found: dict[str, object] = {}
    exec("from anynet import *", found)
    names = (
        "Tensor",
        "asarray",
        "nn",
        "data",
        "optim",
        "train",
        "fit",
        "evaluate",
        "predict",
        "save",
        "load",
    )
    assert [n for n in names if found.get(n) is not getattr(anynet, n)] == []
    assert not {"open", "torch", "TYPE_CHECKING"} & found.keys()
    assert {"open", "torch", "fit", "asarray"} <= {*dir(anynet)}


def test_import_contract() -> None:
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if tool is None:
        pytest.skip("import-linter is not installed")
    answer = subprocess.run([tool], capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the wheel: both packages, typed, the digits; no tests."""
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    builder = builders.WheelBuilder(str(ROOT))
    [wheel] = builder.build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    packed = {
        f"{archive.removesuffix('inside.zip')}{name}"
        for archive in names
        if archive.endswith("/inside.zip")
        for name in zipfile.ZipFile(io.BytesIO(zipfile.Path(wheel, archive).read_bytes())).namelist()
    }
    sources = {str(p.relative_to(ROOT)) for p in SOURCES}
    sources |= {str(p.relative_to(ROOT / "backends")) for p in (ROOT / "backends").rglob("*.py")}
    assert sources <= names | packed
    assert not packed & names
    (tmp_path / "examples.zip").write_bytes(zipfile.Path(wheel, "anynet/gallery/examples.zip").read_bytes())
    monkeypatch.setattr(listing, "__file__", str(tmp_path / "listing.py"))  # as it is installed
    inside = {e.path.name: e.path.read_text(encoding="utf-8") for e in entries()}
    assert inside == {e.path.name: e.path.read_text(encoding="utf-8") for e in entries(ROOT / "examples")}
    for needed in (
        "anynet/py.typed",
        "anynet_backends/py.typed",
        "anynet_backends/__init__.py",
        *(f"anynet_backends/jit/{p.name}" for p in (ROOT / "backends/anynet_backends/jit").glob("*.ll")),
        "anynet/data/files/digits-images-idx3-ubyte.gz",
        "anynet/data/files/digits-labels-idx1-ubyte.gz",
        "anynet/data/files/NOTICE.md",
    ):
        assert needed in names
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"anynet", "anynet_backends"}
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not any(n.endswith((".pkl", ".pickle", ".npy", ".npz")) for n in names)


if __name__ == "__main__":
    NAMES.write_text(json.dumps(public_names(), indent=1) + "\n", encoding="utf-8")

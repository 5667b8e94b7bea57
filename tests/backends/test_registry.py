"""Names of devices, defaults, the environment, third parties, and what may be imported when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import anynet_backends as backends
from anynet_backends import BackendUnavailableError, UnknownDeviceError, backend_of, registry, resolve
from anynet_backends.numpy_backend import NumpyBackend


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Registries as they are, put back afterwards."""
    for name in ("_FACTORIES", "_LOADED", "_RESOLVED", "_PROBED", "_failed_entry_points"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    state = registry._State()
    state.entry_points_read = registry._state.entry_points_read
    monkeypatch.setattr(registry, "_state", state)
    monkeypatch.delenv("ANYNET_DEVICE", raising=False)
    before = dict(backends.TYPES)
    yield
    backends.TYPES.clear()
    backends.TYPES.update(before)


def python(code: str, *path: str, **env: str) -> str:
    """The standard output of `code` in a new interpreter, with folders in front of its path."""
    here = [p for p in sys.path if p]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, *here]), "ANYNET_DEVICE": "", **env},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- names ----


def test_the_default_is_the_cpu():
    xp, name = resolve()
    assert (xp.name, name) == ("numpy", "cpu")
    assert resolve(None) is resolve("cpu")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gpu", "cuda"), ("CPU", "cpu"), ("cudaa", "cuda"), ("numpy", "cpu"), ("cupy", "cuda"),
        ("stricd", "strict"),
        ("mps", "torch:mps"), ("pytorch", "torch:cpu"), ("aut", "auto"),
    ],
)  # fmt: skip
def test_unknown_names_are_answered_with_the_nearest(name, near):
    with pytest.raises(
        UnknownDeviceError, match=f"unknown device '{name}': did you mean '{near}'. Known: cpu, cuda"
    ):
        resolve(name)


@pytest.mark.parametrize("name", ["cpu:1", "strict:device9", "zzz", "", "torch:cpu:9:9"])
def test_devices_that_do_not_exist(name):
    if name.startswith("torch") and backends.probe("torch") != "ok":
        pytest.skip(backends.probe("torch"))
    with pytest.raises(UnknownDeviceError):
        resolve(name)


def test_a_device_is_a_string():
    for wrong in (3, np.zeros(2), ["cpu"]):
        with pytest.raises(
            UnknownDeviceError, match=r"a device must be a name such as 'cpu' or 'cuda:0', got"
        ):
            resolve(wrong)


def test_canonical_names():
    assert resolve("strict:device1")[1] == "strict:device1"
    if backends.probe("torch") == "ok":
        assert resolve("torch")[1] == resolve("torch:cpu")[1] == "torch:cpu"
    assert resolve("strict")[0] is resolve("strict:device1")[0]


# ---- defaults ----


def test_set_default_device():
    backends.set_default_device("strict:device1")
    assert backends.get_default_device() == "strict:device1"
    assert resolve()[1] == "strict:device1"
    with pytest.raises(UnknownDeviceError):
        backends.set_default_device("nonsense")
    assert backends.get_default_device() == "strict:device1"  # a refused call changes nothing
    backends.set_default_device(None)
    assert resolve()[1] == "cpu"


def test_environment(monkeypatch):
    monkeypatch.setenv("ANYNET_DEVICE", "strict:device2")
    assert resolve()[1] == "strict:device2"
    backends.set_default_device("cpu")  # a call outranks the environment
    assert resolve()[1] == "cpu"
    backends.set_default_device(None)
    monkeypatch.setenv("ANYNET_DEVICE", "strit")
    with pytest.raises(UnknownDeviceError, match="did you mean 'strict'"):
        resolve()


def test_auto_is_the_cpu_without_a_gpu(monkeypatch):
    monkeypatch.setattr(registry, "cuda_driver", lambda: 0)
    registry._RESOLVED.pop("auto", None)
    assert resolve("auto")[1] == "cpu"


def test_auto_asks_the_gpu_to_compute(monkeypatch):
    monkeypatch.setattr(registry, "cuda_driver", lambda: 13000)
    monkeypatch.setattr(registry, "_importable", lambda library: True)
    asked = []
    monkeypatch.setattr(registry, "probe", lambda device: asked.append(device) or "it does not work")
    registry._RESOLVED.pop("auto", None)
    assert resolve("auto")[1] == "cpu"
    assert asked == ["cuda"]


# ---- what is missing ----


@pytest.mark.parametrize(
    ("device", "title", "mend"),
    [
        ("strict", "array-api-strict", r"pip install 'anynet-nn\[strict\]'"),
        ("torch", "PyTorch", r"pip install 'anynet-nn\[torch\]'"),
        ("cuda", "CuPy", r"pip install 'anynet-nn\[cuda12\]'"),
    ],
)
def test_a_missing_library_is_named_with_what_mends_it(monkeypatch, device, title, mend):
    monkeypatch.setattr(registry, "_importable", lambda library: False)
    monkeypatch.setattr(registry, "cuda_driver", lambda: 12040)
    monkeypatch.setattr(registry, "_LOADED", {"numpy": resolve("cpu")[0]})
    monkeypatch.setattr(registry, "_RESOLVED", {})
    monkeypatch.setattr(registry, "_PROBED", {})
    with pytest.raises(BackendUnavailableError, match=f"{title} is not installed; try: {mend}"):
        resolve(device)
    answer = backends.available()
    assert answer["cpu"] == "ok"
    assert answer[device].startswith(f"{title} is not installed")


def test_no_message_sends_anybody_to_the_other_anynet(monkeypatch):
    monkeypatch.setattr(registry, "_importable", lambda library: False)
    monkeypatch.setattr(registry, "_LOADED", {"numpy": resolve("cpu")[0]})
    for driver in (0, 12040, 13000):
        monkeypatch.setattr(registry, "cuda_driver", lambda driver=driver: driver)
        for reason in backends.available().values():
            assert "install anynet " not in reason
            assert "install 'anynet'" not in reason


def test_probe_reports_a_wrong_answer(monkeypatch):
    xp, _ = resolve("strict")
    monkeypatch.setattr(xp, "matmul", lambda a, b: xp.zeros((2, 2), dtype=xp.float32))
    registry._PROBED.pop("strict", None)
    assert backends.probe("strict") == "a small matrix product gave [[1.0, 1.0], [1.0, 1.0]]"


class DynamicLibNotFoundError(RuntimeError):
    """As cuda-pathfinder raises it, which is no ImportError."""


@pytest.mark.parametrize("kind", [ImportError, DynamicLibNotFoundError])
def test_a_library_of_cuda_that_is_missing_is_installed_by_the_extra(monkeypatch, kind):
    def missing(a, b):
        raise kind('Failure finding "libcublasLt.so"')

    xp, _ = resolve("strict")
    monkeypatch.setattr(xp, "matmul", missing)
    monkeypatch.setattr(registry, "resolve", lambda device: (xp, "strict"))
    monkeypatch.setattr(registry, "_PROBED", {})
    monkeypatch.setattr(registry, "cuda_driver", lambda: 13000)
    answer = backends.probe("cuda")
    assert answer.startswith(
        f'{kind.__name__}: Failure finding "libcublasLt.so"; a library of CUDA\'s is missing'
    )
    assert answer.endswith("pip install 'anynet-nn[cuda13]'")
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name in ("cuda12", "cuda13"):
        assert extras["optional-dependencies"][name][0].startswith(f"cupy-{name}x[ctk]")


FAKES = {
    "the import raises": "raise ImportError('libcudart.so.13: cannot open shared object file\\nmore lines')",
    "the import raises something odd": "raise RuntimeError('driver mismatch')",
    "a device query raises": """
        import numpy as _np, types as _types
        from numpy import *
        __version__ = "14.0.0"
        class ndarray: pass
        class _CUDARuntimeError(RuntimeError): pass
        def _boom(*a, **k): raise _CUDARuntimeError("cudaErrorInsufficientDriver: driver too old")
        class _Device:
            def __init__(self, index=None): _boom()
        cuda = _types.ModuleType("cupy.cuda")
        cuda.runtime = _types.SimpleNamespace(
            getDeviceCount=_boom, runtimeGetVersion=_boom, driverGetVersion=_boom)
        cuda.Device = _Device
        """,
}


@pytest.mark.parametrize("fake", FAKES)
def test_a_broken_cupy_never_breaks_the_cpu(tmp_path, fake):
    package = tmp_path / "cupy"
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(FAKES[fake]))
    out = python(
        """
        import json
        import numpy as np
        import anynet_backends as b
        from anynet_backends import registry
        registry.cuda_driver = lambda: 13000       # a driver is there, so "auto" must try
        answer = {"auto": b.resolve("auto")[1], "default": b.resolve()[1],
        "array": b.backend_of(np.ones(2)).name}
        try:
            b.resolve("cuda")
        except b.BackendUnavailableError as error:
            answer["error"] = str(error)
        answer["available"] = b.available()
        print(json.dumps(answer))
        """,
        str(tmp_path),
    )
    answer = json.loads(out)
    assert (answer["auto"], answer["default"], answer["array"]) == ("cpu", "cpu", "numpy")
    assert answer["available"]["cpu"] == "ok"
    assert answer["available"]["cuda"] == answer["error"]
    assert "anynet-nn[cuda13]" in answer["error"]
    assert "\n" not in answer["error"]


def test_a_cupy_without_a_device_says_so():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    if backends.probe("cuda") == "ok":
        pytest.skip("there is a GPU")
    with pytest.raises(BackendUnavailableError, match="finds no usable GPU"):
        resolve("cuda")


# ---- by array ----


def test_backend_of_other_things():
    for thing in (3, 2.5, [1.0], "cpu", None, object(), np):
        with pytest.raises(TypeError, match=f"{type(thing).__name__} is not an array of a known backend"):
            backend_of(thing)
        assert not backends.registry.is_array(thing)


def test_a_reduction_finds_its_backend():
    backends.TYPES.pop(np.float32, None)
    total = np.ones(3, np.float32).sum()
    assert backend_of(total).name == "numpy"
    assert backends.TYPES[np.float32].name == "numpy"


# ---- third parties ----


class _Mine(NumpyBackend):
    """A third party's backend: NumPy under another name, with an array type of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "mine"
        self.array_type, self.array_types = _Array, (_Array,)

    def canonical_device(self, name: str) -> str:
        return {"mine": "mine:0"}.get(name, name)

    def accepts(self, kind: type) -> bool:
        return True

    def devices(self) -> list[str]:
        return ["mine:0"]


class _Array:
    shape = (2,)
    dtype = "float32"


def test_register():
    backends.register("mine", _Mine)
    xp, name = resolve("mine")
    assert name == "mine:0"
    assert resolve("mine:0")[0] is xp
    assert backend_of(_Array()) is xp
    with pytest.raises(UnknownDeviceError, match="mine"):
        resolve("mein")
    with pytest.raises(ValueError, match="already"):
        backends.register("mine", _Mine)
    for taken in ("cpu", "cuda", "auto", "numpy"):
        with pytest.raises(ValueError, match="already"):
            backends.register(taken, _Mine)
    with pytest.raises(ValueError, match="colon"):
        backends.register("mine:0", _Mine)


def test_an_array_of_a_registered_backend_loads_it():
    backends.register("mine", _Mine)
    assert backend_of(_Array()).name == "mine"


def test_a_factory_that_returns_something_else():
    backends.register("odd", lambda: 3)
    with pytest.raises(BackendUnavailableError, match="returned 3, not a Backend of that name"):
        resolve("odd")


def test_entry_points(monkeypatch):
    points = [
        EntryPoint("mine", f"{__name__}:_Mine", "anynet.backends"),
        EntryPoint("broken", "no_such_module_at_all:Backend", "anynet.backends"),
        EntryPoint("numpy", f"{__name__}:_Mine", "anynet.backends"),
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: points if group == "anynet.backends" else []
    )
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(registry._state, "entry_points_read", False)
    assert resolve("mine")[1] == "mine:0"
    with pytest.raises(
        BackendUnavailableError, match="ModuleNotFoundError: No module named 'no_such_module_at_all'"
    ):
        resolve("broken")
    answer = backends.available()
    assert "No module named" in answer["broken"]
    assert any("already" in reason for name, reason in answer.items() if name.startswith("numpy ("))
    assert answer["cpu"] == "ok"


# ---- imports ----


OPTIONAL = ("cupy", "torch", "array_api_strict", "array_api_compat", "matplotlib", "scipy", "jax")


def test_importing_imports_nothing_optional():
    out = python(
        f"""
        import sys
        import anynet_backends, anynet_backends.conformance
        import numpy as np
        anynet_backends.backend_of(np.float32(1))
        anynet_backends.resolve("cpu")
        anynet_backends.resolve("cpu")[0].random_bits(1, 2, 3, 4, "cpu")
        print([m for m in {OPTIONAL!r} if m in sys.modules])
        """
    )
    assert out.strip() == "[]"


def test_importing_costs_little_more_than_numpy():
    """Counted in modules of others, which do not depend on the load of the machine."""
    out = python(
        """
        import sys
        import numpy
        before = set(sys.modules)
        import anynet_backends
        new = {m for m in sys.modules if m not in before and m.split(".")[0] != "anynet_backends"}
        heavy = ("numpy.f2py", "numpy.testing", "importlib.metadata")
        print(len(new), sorted(m for m in new if m.startswith(heavy)))
        """
    )
    count, heavy = out.split(" ", 1)
    assert heavy.strip() == "[]"
    assert int(count) < 36

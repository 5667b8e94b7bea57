"""What all tests share: one thread per BLAS, the folder of real data."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before the first import of NumPy: the tests are many small arrays
os.environ["SCIPY_ARRAY_API"] = (
    "1"  # read by SciPy when it is imported: its functions take any array of the standard
)

import numpy as np
import pytest

import run_once
from array_devices import DEVICES, usable

# a shell starts what runs in the background with Ctrl-C ignored; the tests of Ctrl-C, and their processes, need it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Tests that another lane of the same check has run, see `run_once`."""
    run_once.register(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test whose parameter is a CUDA device is marked gpu, so that ci/gpu.sh finds it. Those in tests/cuda read what was asked of the
    device: `python -m ci.cuda_emulator run --devices 2 python -m pytest tests/cuda`."""
    for item in items:
        if item.path.parent.name == "cuda" and "CUDA_EMULATOR" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="needs the CUDA emulator (python -m ci.cuda_emulator)"))
        values = getattr(item, "callspec", None)
        if values and any(isinstance(v, str) and v.split(":")[0] == "cuda" for v in values.params.values()):
            item.add_marker("gpu")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With a regular expression in ANYNET_MAY_SKIP, a test that is skipped for a reason that it does not match has failed: so a
    lane of CI says what it may leave out."""
    result = yield
    report = result.get_result()  # type: ignore[attr-defined]
    allowed = os.environ.get("ANYNET_MAY_SKIP")
    if allowed and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2])
        if not re.search(allowed, reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} may not be skipped in this lane: {reason}"


@pytest.fixture(autouse=True)
def _own_random_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's generator `rng` starts anew for each test, so that its numbers do not depend on which tests ran before."""
    if isinstance(getattr(request.module, "rng", None), np.random.Generator):
        monkeypatch.setattr(
            request.module, "rng", np.random.default_rng(zlib.crc32(request.node.name.encode()))
        )


@pytest.fixture(params=DEVICES)
def xp_device(request: pytest.FixtureRequest) -> str:
    """Each device on which everything must hold; skipped with the reason where it is not usable."""
    device: str = request.param
    answer = usable(device)
    if answer != "ok":
        pytest.skip(f"{device}: {answer}")
    return device


@pytest.fixture(scope="session")
def anynet_data() -> Path:
    """The folder of real data sets."""
    folder = os.environ.get("ANYNET_DATA")
    beside = Path(__file__).parents[2] / "shared" / "data"
    if not folder and beside.is_dir():
        folder = str(beside)
    if not folder:
        pytest.skip("ANYNET_DATA is not set and ../shared/data is not there: no real data here")
    if not Path(folder).is_dir():
        pytest.fail(f"ANYNET_DATA is {folder}, which is no folder")
    return Path(folder)


@pytest.fixture(params=["one thread", "three threads"])
def threads(request, monkeypatch):
    """Loops of machine code by one thread, and even the smallest by three."""
    from anynet_backends import onednn
    from anynet_backends.jit import availability, parallel, scan, segment

    if request.param == "one thread":
        yield 1
        return
    if onednn.find() is None or not availability.available():
        pytest.skip("needs the extras onednn and numba")
    dnnl = onednn.library.load_library()
    before = dnnl.max_threads()
    for least in ("LEAST_ALONE", "_LEAST_REGION"):
        monkeypatch.setattr(parallel, least, 0)
    monkeypatch.setattr(scan, "_LEAST_STACKS", 0)
    monkeypatch.setattr(segment, "_SHORTEST", 1)
    dnnl.dll.omp_set_num_threads(3)
    yield 3
    dnnl.dll.omp_set_num_threads(before)


@pytest.fixture
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations on small arrays become machine code at their second call, and optimizers' updates at their first; skipped without
    the extra numba."""
    from anynet.autograd.jit import specialize
    from anynet_backends.jit import elementwise_program

    if not specialize.available():
        pytest.skip("needs the extra numba")
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)
    monkeypatch.setattr(elementwise_program, "WARMUP_CALLS", 0)


@pytest.fixture
def nothing_compiled() -> None:
    """No operation has been compiled or given up yet, whatever tests before have called."""
    from anynet.autograd.jit import specialize

    specialize.caches.invalidate_all()


@pytest.fixture
def in_threads() -> Callable[..., None]:
    """Run functions, each in a thread of its own, at the same time, with as many switches as the interpreter can make; an
    exception in one of them is raised here."""

    def run(*functions: Callable[[], None]) -> None:
        errors: list[BaseException] = []

        def guarded(f: Callable[[], None]) -> None:
            try:
                f()
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        finally:
            sys.setswitchinterval(before)
        if errors:
            raise errors[0]

    return run


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the cyclic garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def while_another() -> Callable[[AbstractContextManager[Any]], AbstractContextManager[None]]:
    """A context in which another thread is inside of a context manager."""

    @contextmanager
    def inside(manager: AbstractContextManager[Any]) -> Iterator[None]:
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with manager:
                entered.set()
                leave.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        assert entered.wait(60)
        try:
            yield
        finally:
            leave.set()
            thread.join()

    return inside

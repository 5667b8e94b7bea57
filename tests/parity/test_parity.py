"""Every backend gives NumPy's float64 results: values, gradients, dtypes and devices; the same random bits."""

import dataclasses

import pytest

import anynet as an
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.primitive import PRIMITIVES
from anynet.cli import main
from anynet.testing.parity import CASES, LIMITS, check, compare, compute
from anynet_backends import philox, safetensors_io

DEVICES = ["cpu", "strict:device1", "torch:cpu", "cuda"]


@pytest.fixture(params=DEVICES)
def where(request):
    from anynet_backends import resolve

    try:
        resolve(request.param)
    except (RuntimeError, ValueError) as error:
        pytest.skip(f"{request.param}: {error}")
    return request.param


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_operation(case, dtype, where):
    row = compare(case, where, dtype)
    assert row.ok, row


def test_same_seed_same_weights_and_masks(where):
    def draw(device):
        an.random.manual_seed(4)
        net = an.nn.Linear(7, 5, device=device)
        mask = an.nn.functional.dropout(an.ones((40, 9), device=device), 0.3)
        return net.weight.numpy(), mask.numpy()

    (w, m), (w0, m0) = draw(where), draw("cpu")
    assert (w == w0).all()
    assert (m == m0).all()


def test_mixing_devices_names_both():
    with pytest.raises(an.DeviceError, match=r"'cpu'.*'strict:device1'"):
        an.ones(3) + an.ones(3, device="strict:device1")
    with pytest.raises(an.DeviceError, match=r"'strict'.*'strict:device1'"):
        an.ones(3, device="strict") + an.ones(3, device="strict:device1")


def test_every_class_has_a_case(monkeypatch):
    """Modules by what is called, optimizers by what is made."""
    seen = set()

    def noted(method):
        def call(self, *args, **kwargs):
            seen.add(type(self))
            return method(self, *args, **kwargs)

        return call

    monkeypatch.setattr(an.nn.Module, "__call__", noted(an.nn.Module.__call__))
    monkeypatch.setattr(an.optim.Optimizer, "__init__", noted(an.optim.Optimizer.__init__))
    for case in CASES:
        compute(case, "cpu", "float64")
    abstract = {
        "Container",
        "Module",
        "ModuleDict",
        "ModuleList",
        "ParameterDict",
        "ParameterList",
        "RNNBase",
        "RNNCellBase",
        "Optimizer",
    }
    public = {
        value for home, base in ((an.nn, an.nn.Module), (an.optim, an.optim.Optimizer)) for name, value in vars(home).items()
        if isinstance(value, type) and issubclass(value, base) and name not in abstract
    }  # fmt: skip
    assert public - seen == set()


def test_every_primitive_has_a_case():
    """Run without kernels and to second order, the cases between them call every primitive there is."""
    seen = set()

    def watch(prim, args, meta):
        seen.add(prim.name)
        return prim.bind(args, meta)

    INTERCEPT.append(watch)
    try:
        with an.use_kernels(False):
            for case in CASES:
                compute(case, "cpu", "float64")
                if case.second_order:
                    x, *others = (
                        an.Tensor(philox.uniform(1, 1, i, shape, case.low, case.high))
                        for i, shape in enumerate(case.shapes)
                    )
                    first = an.grad(lambda x, f=case.function, others=others: an.sum(f(x, *others) ** 2))
                    an.grad(lambda x, first=first: an.sum(first(x) ** 2))(x)
    finally:
        INTERCEPT.remove(watch)
    assert (
        sorted(
            name for name, p in PRIMITIVES.items() if name not in seen and p.__module__.startswith("anynet.")
        )
        == []
    )


def test_a_recording_of_another_device_is_checked_here(tmp_path, monkeypatch):
    monkeypatch.setattr("anynet.testing.parity.CASES", CASES[:6])
    file = tmp_path / "device.safetensors"
    assert main(["parity", "record", str(file), "strict:device1"]) == 0
    rows = check(file)
    assert len(rows) == 12
    assert all(row.ok and row.device == "strict:device1" for row in rows)
    assert main(["parity", "check", str(file)]) == 0

    arrays, metadata = safetensors_io.load(file)
    wrong = dict(arrays)
    key = f"{CASES[0].name}|float32|0"
    wrong[key] = wrong[key] + 1e-3
    safetensors_io.save(file, wrong, metadata)
    assert [row.case for row in check(file) if not row.ok] == [CASES[0].name]
    assert main(["parity", "check", str(file)]) == 1

    del wrong[key], wrong[f"{CASES[0].name}|float32|1"]
    safetensors_io.save(file, {k: v for k, v in wrong.items() if "|float64|" in k}, metadata)
    with pytest.raises(ValueError, match="record it again"):
        check(file)
    safetensors_io.save(file, arrays)
    with pytest.raises(ValueError, match="was not written by `anynet parity record`"):
        check(file)
    assert main(["parity", "record"]) == 2


def test_a_case_that_raises_is_a_row(tmp_path, monkeypatch, capsys):
    def broken(x):
        if x.device != "cpu":
            raise RuntimeError("the library\nis missing")
        return x

    cases = (dataclasses.replace(CASES[0], name="broken", function=broken), CASES[1])
    monkeypatch.setattr("anynet.testing.parity.CASES", cases)
    assert main(["parity", "strict:device1"]) == 1
    out = capsys.readouterr().out
    assert "raised RuntimeError: the library\n" in out
    assert "4 comparisons, 2 beyond their limits" in out
    file = tmp_path / "device.safetensors"
    assert main(["parity", "record", str(file), "strict:device1"]) == 0
    assert [(row.case, row.ok, bool(row.raised)) for row in check(file)] == [
        ("broken", False, True), (CASES[1].name, True, False),
    ] * 2  # fmt: skip
    assert main(["parity", "check", str(file)]) == 1

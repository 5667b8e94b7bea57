"""Traces: those of other libraries agree here, what diverges is named, what raises is a row, what is damaged or hostile is refused."""

import json
import pathlib
import runpy
import textwrap

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.cli import main
from anynet.runs import Program, RunError, check_trace, record_trace
from anynet.runs.trace_checks import ulps_of
from anynet_backends import safetensors_io

TRACES = pathlib.Path(__file__).with_name("traces")
WHO = {
    "pytorch": ("PyTorch", "torch", "a program in PyTorch, not anynet on it"),
    "array-api-strict": ("anynet", "strict", "a stand-in for a device, on the CPU"),
    "cupy-emulated": ("anynet", "cupy", "the real CuPy over ci/cuda_emulator, on the CPU"),
}
rng = np.random.default_rng(0)


def network():
    an.random.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.25), nn.Linear(6, 3))


def program(**options):
    r = np.random.default_rng(1)
    made = {"model": network(), "inputs": [r.standard_normal((5, 4)).astype("f4")], "target": r.integers(0, 3, 5), "loss": "cross_entropy",
            "optimizer": {"name": "adam", "lr": 0.01}, "steps": 2}  # fmt: skip
    return Program(**{**made, **options})


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.safetensors"
    record_trace(path, program(), "cpu")
    return path


def rewrite(path, change):
    arrays, metadata = safetensors_io.load(path)
    arrays, metadata = dict(arrays), dict(metadata)
    change(arrays, metadata)
    safetensors_io.save(path, arrays, metadata)


def index_of(metadata, *key):
    return json.loads(metadata["values"]).index(list(key))


@pytest.mark.parametrize("name", WHO)
def test_kept_traces_agree_here(name):
    path = TRACES / f"{name}.safetensors"
    assert path.stat().st_size < 200_000
    found = check_trace(path)
    assert (found.where["library"], found.where["backend"], found.where["note"]) == WHO[name]
    assert found.where["versions"]
    assert "host" not in found.where
    assert found.ok, found
    assert len(found.rows) == 57
    assert max(row.recorded_ulps for row in found.rows) < 100


def test_all_traces_are_checked():
    assert {p.stem for p in TRACES.iterdir()} == set(WHO)


def test_the_same_machine_has_the_same_bits(trace):
    found = check_trace(trace)
    assert found.ok
    assert all(row.apart == 0.0 and row.recorded == row.here for row in found.rows)
    said = [(row.step, row.what, row.name) for row in found.rows]
    layers = ["0 (Linear)", "1 (Tanh)", "2 (Dropout)", "3 (Linear)"]
    assert said[:5] == [*((1, "output", layer) for layer in layers), (1, "loss", "")]
    assert (1, "gradient of output", "1 (Tanh)") in said
    assert said[-1] == (2, "weights", "3.bias")


def test_other_devices_agree(xp_device, tmp_path):
    path = tmp_path / "t.safetensors"
    record_trace(path, program(), xp_device)
    assert check_trace(path).ok
    assert check_trace(path, device=xp_device).ok


@pytest.mark.parametrize("precision", ["tf32", "mixed-bf16", "mixed-fp16"])
def test_products_in_fewer_bits(tmp_path, precision):
    path = tmp_path / "t.safetensors"
    record_trace(path, program(precision=precision), "cpu")
    found = check_trace(path)
    assert found.ok
    assert found.precision == precision
    assert max(row.recorded for row in found.rows) > 1e-6
    assert all(row.apart == 0.0 for row in found.rows)


def test_the_first_layer_that_diverges_is_named(trace, capsys):
    def change(arrays, metadata):
        for key in ((1, "output", "1 (Tanh)"), (1, "gradient", "3.weight")):
            i = index_of(metadata, *key)
            arrays[f"value|{i}"] = arrays[f"value|{i}"] + np.float32(0.01)

    rewrite(trace, change)
    found = check_trace(trace)
    assert not found.ok
    assert (found.first.what, found.first.name, found.first.says) == (
        "output",
        "1 (Tanh)",
        "recorded: beyond 1e-05",
    )
    assert [row.name for row in found.rows if not row.ok] == ["1 (Tanh)", "3.weight"]
    assert found.first.here < 1e-6 < found.first.recorded
    assert main(["parity", "check", str(trace)]) == 1
    assert "first divergence: step 1, output 1 (Tanh): recorded: beyond 1e-05" in capsys.readouterr().out
    assert main(["parity", "check", str(trace), "json=1"]) == 1
    assert json.loads(capsys.readouterr().out)["first"]["name"] == "1 (Tanh)"


def test_the_side_that_is_wrong_is_this_one(trace, monkeypatch):
    tanh = nn.Tanh.forward
    monkeypatch.setattr(
        nn.Tanh, "forward", lambda self, x: tanh(self, x) * (1.001 if x.dtype == "float32" else 1.0)
    )
    first = check_trace(trace).first
    assert (first.name, first.says) == ("1 (Tanh)", "here: beyond 1e-05")


def test_what_raises_is_a_row(trace, tmp_path, monkeypatch):
    def broken(self, x):
        raise RuntimeError("the library\nis missing")

    with monkeypatch.context() as patch:
        patch.setattr(nn.Dropout, "forward", broken)
        here = check_trace(trace)
        record_trace(tmp_path / "broken.safetensors", program(), "cpu")
    for found, side in ((here, "here"), (check_trace(tmp_path / "broken.safetensors"), "recorded")):
        assert not found.ok
        assert found.rows[0].ok
        assert found.rows[1].ok
        assert found.first.name == "2 (Dropout)"
        assert f"{side}: there is none" in found.first.says
        assert any(row.says == "RuntimeError: the library" for row in found.rows)


def test_units_in_the_last_place():
    y = np.array([1.0, 0.25])
    assert ulps_of(np.array([1.0, 0.25 + 2.0**-23], "f4"), y, "float32") == 1.0
    assert ulps_of(y, y, "float64") == 0.0
    assert ulps_of(y, y + 2.0**-52, "float64") == 1.0
    assert ulps_of(np.array([np.nan, 0], "f4"), y, "float32") == float("inf")
    assert ulps_of(np.zeros(3, "f4"), y, "float32") == float("inf")


# ----- from the command line -----

MODEL = """
import numpy as np
import anynet as an

class Own(an.nn.Module):
    def __init__(self, width=4):
        self.a, self.b = an.nn.Linear(4, width), an.nn.Linear(width, 2)

    def forward(self, x):
        return self.b(an.tanh(self.a(x)))

def make():
    return Own(), np.linspace(-1.0, 1.0, 12, dtype="f4").reshape(3, 4), np.array([0, 1, 1])
"""


def test_a_network_of_ones_own_is_named_on_both_sides(tmp_path, capsys):
    script = tmp_path / "net.py"
    script.write_text(textwrap.dedent(MODEL), encoding="utf-8")
    file = tmp_path / "t.safetensors"
    assert (
        main(
            [
                "parity",
                "record",
                f"{script}:make",
                str(file),
                "strict:device1",
                "loss=cross_entropy",
                "lr=0.1",
                "steps=2",
            ]
        )
        == 0
    )
    metadata = safetensors_io.load(file)[1]
    assert json.loads(metadata["program"])["model"] == {"code": "net.py:make"}
    assert str(tmp_path) not in json.dumps(metadata)
    assert main(["parity", "check", str(file)]) == 1
    assert "is of a network of one's own ('net.py:make'): name it" in capsys.readouterr().err
    assert main(["parity", "check", str(file), f"{script}:Own"]) == 0
    assert "no divergence" in capsys.readouterr().out
    with pytest.raises(
        RunError,
        match=r"the network has a\.weight \(\(5, 4\), 'float32'\), the trace \(\(4, 4\), 'float32'\)",
    ):
        check_trace(file, runpy.run_path(str(script))["Own"](5))


def test_inputs_and_targets_are_drawn(tmp_path, capsys):
    description = tmp_path / "model.json"
    description.write_text(json.dumps(nn.description.describe(network())), encoding="utf-8")
    file = tmp_path / "t.safetensors"
    assert (
        main(
            [
                "parity",
                "record",
                str(description),
                str(file),
                "input=7x4",
                "loss=cross_entropy",
                "optimizer=adam",
            ]
        )
        == 0
    )
    arrays, _ = safetensors_io.load(file)
    assert arrays["input|0"].shape == (7, 4)
    assert arrays["target"].dtype == "int64"
    assert set(arrays["target"].tolist()) <= {0, 1, 2}
    assert main(["parity", "check", str(file)]) == 0
    assert main(["parity", "record", str(description), str(file), "input=7x", "loss=mse"]) == 2
    assert main(["parity", "record", str(description), str(file)]) == 2
    assert main(["parity", "record", "nothing.py:make", str(file)]) == 2
    assert main(["parity", "check", str(tmp_path / "none.safetensors")]) == 1
    capsys.readouterr()


# ----- damaged and hostile -----


def test_a_trace_that_is_cut_anywhere_is_refused(trace):
    data = trace.read_bytes()
    for size in (0, 7, 300, len(data) // 2, len(data) - 1):
        trace.write_bytes(data[:size])
        with pytest.raises(RunError):
            check_trace(trace)


def test_code_in_a_trace_is_not_run(trace):
    def change(arrays, metadata):
        facts = json.loads(metadata["program"])
        facts["model"] = {
            "description": {"format": "anynet-model/1", "code": "os:abort", "sha256": "0" * 64, "args": []}
        }
        metadata["program"] = json.dumps(facts)

    rewrite(trace, change)
    with pytest.raises(RunError, match="its network cannot be made"):
        check_trace(trace)


def program_with(**changes):
    def change(arrays, metadata):
        metadata["program"] = json.dumps({**json.loads(metadata["program"]), **changes})

    return change


def larger(arrays, metadata):
    facts = json.loads(metadata["program"])
    facts["model"]["description"]["args"][0]["args"] = [10**6, 10**6]
    metadata["program"] = json.dumps(facts)


@pytest.mark.parametrize(("change", "message"), [
    (program_with(steps=10**9), "steps must be a whole number from 1 to 100"), (program_with(steps="3"), "steps must be"),
    (program_with(optimizer="os.system"), "optimizer must be a name"), (program_with(optimizer={"name": "adam", "lr": "x"}), "lr"),
    (program_with(dtype="float8"), "dtype must be"), (program_with(precision="half"), "precision must be"),
    (program_with(loss="nothing"), "nothing"), (program_with(seed=-1), "seed must be"),
    (program_with(model=3), "of a network of one's own"),
    (lambda arrays, metadata: metadata.update(program="[]"), "program must be a table"),
    (lambda arrays, metadata: metadata.update(program="{" * 100_000), "damaged"),
    (lambda arrays, metadata: metadata.update(values='[[1, "output", 3]]'), "entry 0 of values"),
    (lambda arrays, metadata: metadata.update(where="3"), "where must be a table"),
    (lambda arrays, metadata: arrays.pop("input|0"), "its inputs are none"),
    (lambda arrays, metadata: arrays.update(other=np.zeros(3)), "which a trace has not"),
    (lambda arrays, metadata: arrays.pop("state|0.weight"), r"the network has 0\.weight"),
    (larger, "the network has 0.weight|cannot be made"),
    (lambda arrays, metadata: metadata.pop("anynet trace"), "is no trace of the format"),
])  # fmt: skip
def test_what_is_no_trace_is_refused(trace, change, message):
    rewrite(trace, change)
    with pytest.raises(ValueError, match=message):
        check_trace(trace)


def test_arrays_of_another_shape_are_a_row(trace):
    def change(arrays, metadata):
        i = index_of(metadata, 1, "output", "0 (Linear)")
        arrays[f"value|{i}"] = arrays[f"value|{i}"][:2]

    rewrite(trace, change)
    assert check_trace(trace).first.says == "recorded: shape (2, 6), in float64 (5, 6)"


def test_programs_that_cannot_be_traced_are_refused(tmp_path):
    for options, message in (({"steps": 0}, "steps must be"), ({"loss": None}, "a target needs a loss"), ({"optimizer": "lbfgs"}, "optim"),
                             ({"dtype": "float64", "precision": "tf32"}, "is of float32")):  # fmt: skip
        with pytest.raises(RunError, match=message):
            record_trace(tmp_path / "t.safetensors", program(**options))
    assert not list(tmp_path.iterdir())

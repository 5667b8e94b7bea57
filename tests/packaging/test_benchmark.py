"""The benchmark measures what it says: its workloads compute the same as PyTorch's, a user's file is measured or refused clearly, and the
tables say what was measured."""

from __future__ import annotations

import shutil

import pytest

from ci import readme
from ci.bench import agreement, report
from ci.bench.__main__ import main
from ci.bench.contender import Contender, Failed
from ci.bench.extension import __main__ as extension
from ci.bench.workload import GROUPS, find, load
from optional_libraries import needs
from torch_oracle import torch

MINE = """
from ci.bench.library import LIBRARY, F, nn
from ci.bench.workload import Training, normal, workload

@workload("tabular", "a line", batch=8)
def line(batch):
    net = nn.Linear(3, 1)
    return Training(net, lambda x, y: {loss}, (normal(batch, 3), normal(batch, 1, seed=1)))
"""


@pytest.fixture
def mine(tmp_path):
    """A function that writes a file with a workload and gives its name."""

    def write(loss="F.mse_loss(net(x), y)", text=MINE):
        path = tmp_path / "mine.py"
        path.write_text(text.replace("{loss}", loss), encoding="utf-8")
        return str(path)

    return write


def test_all_workloads_compute_what_pytorch_computes():
    torch.zeros(1)  # skips without PyTorch
    found = agreement.compare(list(load([])), [])
    apart = {name: told for name, told in found.items() if told[1] > agreement.TOLERANCE}
    assert not apart


def test_there_are_workloads_of_each_group():
    known = load([])
    assert len(known) >= 30
    assert {w.group for w in known.values()} == set(GROUPS)
    assert len({w.title for w in known.values()}) == len(known)


def test_a_file_of_a_user_is_compared_and_a_difference_is_told(mine, capsys):
    torch.zeros(1)
    assert main(["--quick", "--workload", mine()]) == 0
    assert "1 of 1 workloads agree" in capsys.readouterr().out
    assert (
        main(["--quick", "--workload", mine("F.mse_loss(net(x), y) * (1 + 1e-6 * (LIBRARY == 'torch'))")])
        == 1
    )
    assert "line: 1.0e-06 apart, must be at most 1e-08" in capsys.readouterr().out


def test_a_worker_runs_a_file_of_a_user_and_says_what_went_wrong(mine, tmp_path):
    order = {"workload": "line", "files": [mine()], "path": str(tmp_path / "weights.npz")}
    worker = Contender("anynet compiled", 1)
    try:
        assert worker.ask("describe", **order)["inputs"] == 1
        worker.ask("build", what="training", **order)
        first = worker.ask("first", n=4, losses=4)
        assert len(first["times"]) == 4
        assert first["losses"] == sorted(first["losses"], reverse=True)
        assert worker.ask("run", n=2)["seconds"] > 0
        worker.ask("build", what="inference", **order, batch=1)
        assert worker.ask("run", n=2)["seconds"] > 0
        with pytest.raises(Failed, match="KeyError: 'curve'"):
            worker.ask("build", what="training", **order | {"workload": "curve"})
        assert worker.ask("run", n=1)["seconds"] > 0  # and goes on
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "no function with @workload in it"),
        (
            "from ci.bench.workload import workload\nworkload('a', 't', batch=0)",
            "batch must be a positive integer, got 0",
        ),
        (
            "from ci.bench.workload import workload\nworkload('A!', 't', batch=1)",
            "group must be a word in small letters",
        ),
    ],
)
def test_a_file_that_is_no_workload_is_refused(mine, capsys, text, message):
    with pytest.raises(SystemExit) as ended:
        main(["--workload", mine(text=text)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_names_that_there_are_not_are_refused(capsys):
    for arguments, message in (
        (["--workload", "nowhere.py"], "must name a Python file with @workload functions, got 'nowhere.py'"),
        (["--only", "nobody"], "there is no workload 'nobody'; there are tiny-mlp"),
        (["--group", "none"], "there is no group 'none'; there are"),
        (["--contenders", "tensorflow"], "unknown 'tensorflow'; there are anynet"),
        (["--rounds", "0"], "must be at least 1, got 0"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("3", "must return a ci.bench.workload.Training, got int"),
        ("Training(None, None, ())", "must have a loss or a step, one of the two"),
        ("Training(None, max, ([1.0],))", "array 0 of the batch must be a NumPy array, got list"),
        ("Training(None, max, (np.zeros(3),))", "array 0 of the batch is float64"),
        ("Training(None, max, (np.zeros(3, 'float32'),), inputs=2)", "inputs must be from 0 to 1"),
    ],
)
def test_what_a_function_returns_is_checked(mine, returned, message):
    from ci.bench.workload import build

    text = "import numpy as np\nfrom ci.bench.workload import Training, workload\n@workload('tabular', 't', batch=1)\n"
    chosen = find(load([mine(text=f"{text}def it(batch):\n    return {returned}\n")]), [], [])[0]
    with pytest.raises((TypeError, ValueError), match=message):
        build(chosen)


def _result(title, group, times, memory):
    first = {
        name: {"times": [10.0, *[t] * 9], "losses": [1.0, 0.9, 0.8], "memory": memory[name]}
        for name, (t, *_) in times.items()
    }
    return {
        "title": title, "group": group, "batch": 4, "source": "", "parameters": 3, "first": first, "training": times, "inference": {},
        "load": 1.0, "threads": 2, "date": "2026-01-01", "failed": {},
    }  # fmt: skip


def test_the_tables_say_what_was_measured():
    fast = {
        "anynet": [1.0] * 3,
        "anynet compiled": [0.5] * 3,
        "torch": [2.0, 3.0, 4.0],
        "jax": [1.0] * 3,
        "torch channels-last": [0.1] * 3,
    }
    slow = {"anynet": [2.0] * 3, "anynet compiled": [2.0] * 3, "torch": [1.0] * 3}
    results = {
        "a": _result("the fast one", "tabular", fast, dict.fromkeys(fast, 10.0)),
        "b": _result(
            "the slow one", "vision", slow, {"anynet": 30.0, "anynet compiled": 30.0, "torch": 15.0}
        ),
    }
    assert report.figures(results["a"]) == {report.EAGER: 3.0, report.COMPILED: 2.0, report.MEMORY: 1.0}
    assert report.figures(results["b"]) == {report.EAGER: 0.5, report.COMPILED: 0.5, report.MEMORY: 0.5}
    assert report.summary(results)[-1] == [
        "all", "2", "1.75 (least 0.50)", "1.25 (least 0.50)", "–", "0.75 (least 0.50)",
    ]  # fmt: skip
    # the first step takes 9 s more than the others, PyTorch's 8 (and 9, with times of 2, 3, 4); 1 s a step is gained
    assert report.paid_back(results["a"], "anynet compiled") == pytest.approx(0.0, abs=20.0)
    assert report.paid_back(results["b"], "anynet") in (0.0, float("inf"))
    text = report.document(results, "# old\n\n## Imports\n\n| import | seconds |\n\n## Other\n\nx\n")
    behind = text.split("## Behind")[1].split("\n## ")[0]
    assert "the slow one" in behind
    assert "the fast one" not in behind
    assert (
        "| the fast one, batch 4 | 1.00 s | 500.00 ms | 3.00 s | 1.00 s | 3.00 [2.50, 3.50] | 2.00 [2.00, 2.00] jax |"
        in text
    )
    assert readme.speed(text).splitlines()[-1] == f"| {' | '.join(report.summary(results)[-1])} |"
    assert "## Imports" in text
    assert "## Other" not in text


def test_losses_that_differ_are_told():
    times = {"anynet": [1.0], "torch": [1.0]}
    result = _result("t", "graph", times, dict.fromkeys(times, 1.0))
    assert "DO NOT COMPUTE THE SAME" not in report.lines("t", result)
    result["first"]["anynet"]["losses"] = [1.01]
    assert "first losses 1e-02 apart: THEY DO NOT COMPUTE THE SAME" in report.lines("t", result)


@pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler is not installed")
def test_extension_computes_the_same(tmp_path):
    """The study's functions in C run the plans of those of LLVM."""
    needs("llvmlite", "numba")
    path = extension.build(tmp_path)
    processes = [extension.Process(way, path) for way in extension.WAYS]
    first, second = ([p.ask("tiny-mlp"), p.ask() > 0] for p in processes)
    assert first == second
    for p in processes:
        p.running.communicate(timeout=60)
        assert p.running.returncode == 0

"""A column of weights: in training, in metrics, in evaluation, in the report, and what is refused."""

import csv
import math

import pytest

import anynet as an

ROWS = {
    "a": [float(i % 7) for i in range(60)],
    "b": [float((i * i) % 11) for i in range(60)],
    "w": [(i % 3) * 0.5 for i in range(60)],
    "y": [2.0 * (i % 7) - (i * i) % 11 + (5 if i % 3 == 0 else 0) for i in range(60)],
}
LABELS = {**ROWS, "y": ["yes" if v > 2 else "no" for v in ROWS["y"]]}


def table(rows=ROWS, **options):
    return an.data.Table(rows, **{"target": "y", "weight": "w", "valid": 0.25} | options)


def test_the_weight_is_no_input_and_stands_with_each_row():
    t = table()
    assert t.preprocessing.columns == ["a", "b"]
    assert "weight of each row" in t.describe()
    w = t.train.batch([0, 1, 2])[2]
    row = t.train[1]
    assert len(row) == 3
    assert float(row[2]) == float(w[1])
    rows = t.rows("train")["w"]
    assert w.tolist() == rows[:3]
    assert an.data.Table({**ROWS, "w": [True] * 59 + [False]}, target="y", weight="w").train[0][2].shape == ()


def test_training_is_that_of_the_weighted_loss():
    """One step of gradient descent against the formula Σ w (xᵀv − y)² / Σ w."""
    t = table(valid=0)
    x, y, w = t.train.batch(range(len(t.train)))
    net = an.nn.Linear(2, 1)
    v, b = (an.asarray(p.numpy(), requires_grad=True) for p in (net.weight, net.bias))
    loss = an.sum(w * an.square((x @ v.T + b)[:, 0] - y[:, 0])) / an.sum(w)
    loss.backward()
    history = an.fit(
        net,
        t,
        loss="mse",
        optimizer="sgd",
        lr=0.5,
        batch_size=len(t.train),
        epochs=1,
        progress=False,
        metrics=["mae"],
    )
    assert history[0]["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert float(an.max(an.abs(net.weight - (v - 0.5 * v.grad)))) < 1e-5


@pytest.mark.parametrize("rows", [ROWS, LABELS], ids=["regression", "classes"])
def test_results_are_those_of_rows_that_stand_there_several_times(rows, tmp_path):
    """Weights 0, 1, 2 and each row so often have the same evaluation, and the same report's figures."""
    whole = {**rows, "w": [i % 3 for i in range(60)]}
    kept = [i for i in range(60) for _ in range(i % 3)]
    repeated = {k: [v[i] for i in kept] for k, v in rows.items() if k != "w"}
    run = an.train_on(
        whole, target="y", weight="w", epochs=3, run_dir=tmp_path / "run", progress=False, metrics=["accuracy"] if rows is LABELS else []
    )  # fmt: skip
    opened = an.open(run.path)
    weighted, counted = opened.evaluate(whole), opened.evaluate(repeated)
    assert weighted.keys() == counted.keys()
    for name, value in weighted.items():
        assert value == pytest.approx(counted[name], rel=1e-5), name
    assert weighted != opened.evaluate({k: v for k, v in whole.items() if k != "w"})
    page = run.report().read_text(encoding="utf-8")
    assert "each counted by its weight" in page
    run.export(tmp_path / "elsewhere.py", to="numpy")
    assert "same bits" in str(an.runs.verify(run))
    assert an.open(run.path / "best.safetensors").preprocessing.weight == "w"


def test_intervals_by_weights_are_those_of_repeated_samples():
    from anynet.reports.intervals import bootstrap

    x = an.asarray([[float(i), float(i * i)] for i in range(50)])
    w = an.asarray([float(i % 3) for i in range(50)])
    again = an.take(x, an.asarray([i for i in range(50) for _ in range(i % 3)]), axis=0)
    a, b = (bootstrap(z, lambda m: m[..., 1] - m[..., 0] ** 2, weights=v) for z, v in ((x, w), (again, None)))
    assert a.value == pytest.approx(b.value)
    assert a.low < a.value < a.high


def test_a_held_out_table_without_the_column_counts_alike_and_that_is_said():
    without = {k: v[:20] for k, v in ROWS.items() if k != "w"}
    t = table(valid=without)
    assert len(t.valid.tree) == 2
    assert "note: valid: there is no column 'w', so that its rows count alike" in t.describe()
    assert "count alike" not in table(valid={k: v[:20] for k, v in ROWS.items()}).describe()


@pytest.mark.parametrize("n", [40, 3000])
def test_resamples_in_which_no_sample_counts_are_left_out_of_an_interval(n):
    from anynet.reports.intervals import bootstrap

    w = an.asarray([1.0, 1.0] + [0.0] * (n - 2))
    found = bootstrap(an.asarray([[0.0], [1.0]] * (n // 2)), lambda m: m[..., 0], weights=w)
    assert (found.low, found.value, found.high) == (0.0, 0.5, 1.0)


def test_the_calibration_error_of_a_report_counts_rows_by_their_weights(tmp_path):
    from anynet.reports.evaluation import evaluate_samples
    from anynet.reports.held_out import results_of

    net = an.nn.Linear(1, 2, bias=False)
    net.weight.assign_([[0.0], [1.0]])
    x = an.asarray([[float(i % 5)] for i in range(30)])
    y, w = [int(i % 3 > 0) for i in range(30)], [float(i % 2 + 2 * (i % 3)) for i in range(30)]
    again = [i for i in range(30) for _ in range(int(w[i]))]

    def error(*arrays):
        found = evaluate_samples(net, an.data.TensorDataset(*arrays), loss="cross_entropy")
        return next(
            r for r in results_of(found, "rows").items if r.name == "calibration error"
        ).estimate.value

    weighted = error(x, an.asarray(y), an.asarray(w))
    assert weighted == pytest.approx(
        error(an.take(x, an.asarray(again), axis=0), an.asarray([y[i] for i in again]))
    )
    assert weighted != pytest.approx(error(x, an.asarray(y)), rel=0.01)


def test_shares_and_importance_in_a_report_are_those_of_rows_that_stand_there_several_times():
    from anynet.reports.evaluation import evaluate_samples
    from anynet.reports.held_out import predictions_section
    from anynet.reports.importance import importance_section, permutation_importance

    net = an.nn.Linear(2, 2, bias=False)
    net.weight.assign_([[0.0, 0.0], [1.0, -0.5]])
    x = an.asarray([[float(i % 5) - 1.0, float(i % 3)] for i in range(30)])
    y, w = [int(i % 3 > 0) for i in range(30)], [float(i % 2 + 2 * (i % 3)) for i in range(30)]
    again = [i for i in range(30) for _ in range(int(w[i]))]

    def look(*arrays):
        return evaluate_samples(net, an.data.TensorDataset(*arrays), loss="cross_entropy")

    def tables(found):
        section = predictions_section(found)
        figures = {block.title: block for block in section.blocks if hasattr(block, "svg")}
        return section.lead, figures["Recall by class"], figures["Calibration"]

    weighted, plain = look(x, an.asarray(y), an.asarray(w)), look(x, an.asarray(y))
    counted = look(an.take(x, an.asarray(again), axis=0), an.asarray([y[i] for i in again]))
    (lead, recall, calibration), (other, repeated, repeated_bins) = tables(weighted), tables(counted)
    assert "by its weight" in lead
    assert "by its weight" not in other
    assert "Kish" in recall.caption
    assert [r[2:] for r in recall.table.rows] == [r[2:] for r in repeated.table.rows]
    assert [r[2:] for r in recall.table.rows] != [r[2:] for r in tables(plain)[1].table.rows]
    assert [r[1] for r in recall.table.rows] == [10, 20]  # samples stay samples
    assert [r[:2] for r in calibration.table.rows] == [r[:2] for r in repeated_bins.table.rows]

    columns = [("a", [(0, [0])]), ("b", [(0, [1])])]
    found = permutation_importance(net, weighted, columns, None)
    alike = look(x, an.asarray(y), an.asarray([2.0] * 30))
    assert permutation_importance(net, alike, columns, None) == [
        (name, pytest.approx(rise), pytest.approx(spread))
        for name, rise, spread in permutation_importance(net, plain, columns, None)
    ]
    assert dict((n, r) for n, r, _ in found) != dict(
        (n, r) for n, r, _ in permutation_importance(net, plain, columns, None)
    )
    one = look(
        x, an.asarray(y), an.asarray([0.0] * 29 + [1.0])
    )  # what counts is one row, which moves only where it changes
    draws, rises = an.random.Generator(0), []
    for _ in range(3):
        order = an.random.permutation(30, generator=draws)
        mixed = an.asarray([[float(x[int(order[29]), 0]), float(x[29, 1])]])
        loss = [an.losses.cross_entropy(net(v), an.asarray([y[29]])) for v in (mixed, x[29:])]
        rises.append(float(loss[0] - loss[1]))
    assert dict((n, r) for n, r, _ in permutation_importance(net, one, columns, None))["a"] == pytest.approx(
        sum(rises) / 3, abs=1e-6
    )
    assert "each counted by its weight" in importance_section(net, weighted, None).blocks[0].caption


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([1.0] * 59 + [-1.0], "negative in row 60, -1"),
        ([1.0] * 30 + [math.inf] + [1.0] * 29, "infinite in row 31"),
        ([1.0] * 30 + [1e39] + [1.0] * 29, "too large for float32 in row 31"),
        ([1.0, None] + [1.0] * 58, "missing in row 2; give 0"),
        (["heavy", "light"] * 30, "must be a column of numbers ≥ 0, got texts"),
        ([0.0] * 60, "is 0 in all 45 rows of the train part"),
    ],
)
def test_what_is_no_weight_is_refused(weights, text):
    with pytest.raises(ValueError, match=text):
        table({**ROWS, "w": weights})


def test_a_weight_that_is_no_column_or_the_target_is_refused():
    with pytest.raises(ValueError, match="weight: there is no column 'v'"):
        table(weight="v")
    for given in (["w"], 3, [1.0] * 60):
        with pytest.raises(TypeError, match="weight must be the name of a column, got"):
            table(weight=given)
    with pytest.raises(ValueError, match="weight: 'y' is the target"):
        table(weight="y")


def test_on_the_command_line(tmp_path, capsys):
    from anynet.cli import main

    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(ROWS)
        writer.writerows(zip(*ROWS.values(), strict=True))
    folder = tmp_path / "run"
    assert main(["train", str(file), "target=y", "weight=w", "epochs=2", f"run_dir={folder}"]) == 0
    assert an.open(folder).source().weight == "w"
    assert main(["eval", str(folder), f"data={file}"]) == 0
    assert "rmse" in capsys.readouterr().out
    assert main(["explain", str(folder)]) == 0

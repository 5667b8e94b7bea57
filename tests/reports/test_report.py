"""The page: what it says, that it needs nothing else, and how it looks in a browser."""

from __future__ import annotations

import html.parser
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from stub_runs import StubRun, classifier, history, numbers, regressor

import anynet as an
from anynet import nn
from anynet.reports import html_of, report, short_html
from anynet.reports.architecture import connections

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Checks that elements close in order, and collects ids, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check(text: str) -> str:
    """The page's text, after what holds of every page."""
    page = Page(text)
    assert len(text.encode()) < 1_000_000
    assert len(page.ids) == len(set(page.ids))
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name != "style", (tag, value)
        if name in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert value is not None
            assert value.startswith(("#", "data:")), (tag, name, value)
        if name == "href" and value and value.startswith("#"):
            assert value[1:] in page.ids
    assert not {tag for tag, _, _ in page.attributes} & {
        "script",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    }
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    policy = next(
        v for t, n, v in page.attributes if t == "meta" and n == "content" and v and "default-src" in v
    )
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    # every drawing says what it is, and every figure has its numbers in a table
    drawings = text.count("<svg")
    assert text.count('role="img"') == drawings
    assert len(re.findall(r"<svg[^>]*><title>", text)) == drawings
    assert text.count("<figure>") <= len(re.findall(r"<details>|class=\"beside\"", text))
    return re.sub(r"\s+", " ", " ".join(page.text))


def test_pictures_in_three_classes(tmp_path: Path) -> None:
    path = report([classifier()], tmp_path / "deep" / "report.html")
    assert path == tmp_path / "deep" / "report.html"
    text = path.read_text(encoding="utf-8")
    said = check(text)
    assert re.search(r"It reaches an accuracy of [\d.]+ % \[[\d.]+, [\d.]+\] on 120 held-out pictures", said)
    for title in ("Results", "Training", "Predictions", "Examples", "Model", "Architecture", "Activations",
                  "Gradients and updates", "Times", "Data", "Environment", "How to repeat it"):  # fmt: skip
        assert f">{title}</h2>" in text
    assert "What is missing" not in said
    assert "anynet train shapes/ epochs=2" in said
    assert "ab" * 32 in said  # the fingerprint
    assert text.count("data:image/png;base64,") >= 6
    assert "yₖ = Σ_j W[k, j] xⱼ + bₖ" in said  # the equation that is tested


def test_numbers_of_a_regression() -> None:
    run = regressor()
    x, y = run.validation()
    said = check(html_of([run]))
    rest = (run.model()(x) - y).tolist()
    rmse = math.sqrt(sum(r[0] ** 2 for r in rest) / len(rest))
    shown = re.search(r"RMSE of ([\d.]+) \[([\d.]+), ([\d.]+)\]", said)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(rmse, rel=1e-3)
    assert float(shown[2]) < rmse < float(shown[3])
    assert "Permutation importance" in said
    assert "It relies most on feature 0 and feature 1" in said


def test_the_same_run_gives_the_same_numbers() -> None:
    def without_times(text: str) -> str:
        return re.sub(r'<section aria-labelledby="times">.*?</section>', "", text, flags=re.DOTALL)

    run = regressor()
    assert without_times(html_of([run])) == without_times(html_of([run]))


def test_nothing_is_changed_by_a_report() -> None:
    run = classifier()
    net = run.model()
    net.train()
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    grads = [id(p.grad) for p in net.parameters()]
    state = an.random.get_state()
    html_of([run])
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before
    assert an.random.get_state() == state
    assert all(m.training for m in net.modules())
    assert [id(p.grad) for p in net.parameters()] == grads
    assert not any(m._forward_hooks for m in net.modules())


HOSTILE = "</td><script>alert('1')</script>\"&'"


def test_foreign_text_is_only_text() -> None:
    run = classifier(name=f"run {HOSTILE}", labels=[HOSTILE, "<b>bold</b>", "ordinary"])
    run.info["source"]["path"] = HOSTILE  # type: ignore[index]
    run.info["command"] = [HOSTILE]  # type: ignore[index]
    run.history[0][HOSTILE] = 1.0  # type: ignore[index]
    text = html_of([run])
    said = check(text)
    assert HOSTILE in said  # as text
    assert "<b>" not in text
    short = short_html(run)
    assert "<script" not in short
    assert "&lt;script&gt;" in short


# ----- what is missing is said, and the rest is there -----


def test_no_validation_data() -> None:
    run = classifier()
    said = check(html_of([StubRun("plain", run.model(), None, history(2), run.info)]))
    assert "There are no validation data" in said
    assert "The best of 2 epochs is epoch 2" in said


def test_a_network_that_does_not_open() -> None:
    said = check(
        html_of([StubRun("closed", FileNotFoundError("best.safetensors is not there"), None, history(1))])
    )
    assert "The network could not be opened: FileNotFoundError: best.safetensors is not there" in said


def test_no_history() -> None:
    said = check(html_of([StubRun("empty", nn.Linear(2, 1), None, [])]))
    assert "no epoch was finished" in said


def test_nan_in_the_history_and_one_epoch() -> None:
    records = [{"epoch": 1, "loss": math.nan, "val_loss": math.inf, "seconds": None}]
    said = check(html_of([StubRun("nan", nn.Linear(2, 1), None, records)]))
    assert "not finite numbers" in said


def test_outputs_that_are_nothing_known() -> None:
    class Pair(nn.Module):
        def forward(self, x: Any) -> Any:
            return x, x

    said = check(html_of([StubRun("pair", Pair(), (numbers(4, 2), numbers(4, 2)), history(2))]))
    assert "neither one class a place nor numbers like the targets" in said


def test_nan_weights_still_make_a_page() -> None:
    net = nn.Linear(3, 2)
    net.weight.data = an.full((2, 3), math.nan)
    check(
        html_of(
            [
                StubRun(
                    "nan",
                    net,
                    (numbers(20, 3), an.asarray([0, 1] * 10)),
                    history(2),
                    {"loss": "cross_entropy"},
                )
            ]
        )
    )


def test_a_thousand_classes_and_ten_thousand_epochs() -> None:
    x, y = numbers(1500, 8), an.asarray([(7 * i) % 1000 for i in range(1500)])
    run = StubRun("large", nn.Linear(8, 1000), (x, y), history(10_000), {"loss": "cross_entropy"})
    text = html_of([run])
    said = check(text)
    assert "The 20 of 1,000 classes with the most mistakes" in said
    assert "of 10,000 rows" in said
    assert len(text) < 700_000


def test_targets_that_do_not_vary() -> None:
    said = check(
        html_of(
            [
                StubRun(
                    "flat",
                    nn.Linear(4, 1),
                    (an.zeros((30, 4)), an.zeros((30, 1))),
                    history(2),
                    {"loss": "mse"},
                )
            ]
        )
    )
    assert "R² NaN" in said


def test_several_inputs_shared_and_frozen_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.first, self.kinds, self.shared, self.last = (
                nn.Linear(3, 4),
                nn.Embedding(5, 4),
                nn.Linear(4, 4),
                nn.Linear(4, 3),
            )
            self.first.requires_grad_(False)

        def forward(self, x: Any, kind: Any) -> Any:
            y = self.shared(an.tanh(self.first(x) + self.kinds(kind)))
            return self.last(self.shared(y) + y)

    data = (
        {"x": numbers(40, 3), "kind": an.asarray([i % 5 for i in range(40)])},
        an.asarray([i % 3 for i in range(40)]),
    )
    loss = {"name": "CrossEntropyLoss", "label_smoothing": 0.1}
    run = StubRun(
        "net",
        Net(),
        data,
        history(2),
        {"loss": loss, "optimizer": {"name": "AdamW", "lr": 0.001, "betas": [0.9, 0.999]}},
    )
    said = check(html_of([run]))
    assert "What is missing" not in said
    assert "One more step of the run's optimizer (AdamW)" in said


def test_the_graph_of_a_network() -> None:
    """Layers as nodes, operations between them too, and what only arranges numbers anew left out."""

    class Net(nn.Module):
        def __init__(self) -> None:
            self.words, self.a, self.b = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            y = self.words(x)
            return self.b(an.reshape(y + an.tanh(self.a(y)), (-1, 4)))

    net = Net()
    nodes, edges = connections(net, an.asarray([[0, 1], [2, 3]]))
    kinds = {
        "input": "input",
        "words": "Embedding",
        "a": "Linear",
        "tanh#1": "tanh",
        "add#1": "add",
        "b": "Linear",
        "output": "output",
    }
    assert nodes == kinds
    assert sorted(edges) == sorted([
        ("input", "words"), ("words", "a"), ("a", "tanh#1"), ("tanh#1", "add#1"), ("words", "add#1"), ("add#1", "b"), ("b", "output"),
    ])  # fmt: skip


def test_pictures_as_targets() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 64), nn.Unflatten(1, (1, 8, 8)))
    said = check(
        html_of(
            [StubRun("auto", net, (numbers(30, 1, 8, 8), numbers(30, 1, 8, 8)), history(2), {"loss": "mse"})]
        )
    )
    assert "of the variance of 64 targets" in said


def test_rows_of_a_table_as_they_came() -> None:
    """The source's own rows among the examples, its description, and columns in their own words."""
    rows = {
        "size": [float(i % 17) for i in range(200)],
        "town": ["<b>old</b>" if i % 2 else "new" for i in range(200)],
    }
    rows["price"] = [
        3 * s + (40 if t == "new" else 0) for s, t in zip(rows["size"], rows["town"], strict=True)
    ]
    table = an.data.Table(rows, target="price")
    run = StubRun(
        "rows",
        table.network(),
        table.valid,
        history(2),
        {"loss": "mse", "source": table.origin()},
        table.preprocessing,
    )
    run.source = lambda: table  # type: ignore[method-assign]
    text = html_of([run])
    said = check(text)
    assert "<b>" not in text
    assert "<b>old</b>" in said
    assert "for price on 40 held-out rows" in said
    assert re.search(r"It relies most on (size|town)|No single column matters", said)
    assert re.search(r"truth prediction (size town|town size)", said)


def test_one_sample() -> None:
    check(
        html_of(
            [
                StubRun(
                    "one",
                    nn.Linear(3, 2),
                    (numbers(1, 3), an.asarray([1])),
                    history(1),
                    {"loss": "cross_entropy"},
                )
            ]
        )
    )


def test_binary_with_one_logit() -> None:
    x = numbers(60, 2)
    net = nn.Linear(2, 1)
    net.load_state_dict({"weight": an.asarray([[5.0, 0.0]]), "bias": an.asarray([0.0])})
    y = an.astype(x[:, :1] > 0, "float32")
    said = check(html_of([StubRun("b", net, (x, y), history(2), {"loss": "bce_with_logits"})]))
    assert "accuracy of 100.0 %" in said


def test_places_of_a_text() -> None:
    class Characters:
        kind, task, classes = "text", "language", None

        class vocabulary:  # noqa: N801
            @staticmethod
            def decode(ids: list[int]) -> str:
                return "".join("abc<"[i] for i in ids)

    an.random.manual_seed(0)
    net = nn.Sequential(nn.Embedding(4, 8), nn.Linear(8, 4))
    x = an.asarray([[(i + j) % 4 for j in range(12)] for i in range(30)])
    y = an.asarray([[(i + j + 1) % 4 for j in range(12)] for i in range(30)])
    text = html_of([StubRun("text", net, (x, y), history(2), {"loss": "cross_entropy"}, Characters())])
    said = check(text)
    assert re.search(r"loss of [\d.]+ nats .* on 30 held-out passages with 360 places", said)
    assert "Loss by place" in said
    assert "abc<abc<abc<" in said  # an example


def test_dead_and_saturated_units_are_named() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.Tanh())
    net[0].weight.data = an.asarray([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    net[0].bias.data = an.asarray([0.5, -1.0, 0.5])
    net[2].weight.data = an.asarray([[0.1, 0.0, 0.0], [0.0, 0.0, 0.0]])
    net[2].bias.data = an.asarray([0.0, 30.0])
    said = check(
        html_of([StubRun("units", net, (numbers(50, 2), numbers(50, 2)), history(2), {"loss": "mse"})])
    )
    assert "Dead, zero for every sample: 1: unit 1." in said
    assert "Saturated, at the end of their range for over 95 % of the samples: 3: unit 1." in said


def test_what_callbacks_recorded() -> None:
    run = classifier()
    run.recorded["statistics"] = [
        {
            "epoch": e,
            "layers": {"0": {"update_ratio": 0.01 / e, "std": 1.0}, "1": {"dead": 0.25 * e, "std": 0.5}},
        }
        for e in (1, 2, 3)
    ]
    run.recorded["samples"] = [{"epoch": e, "prompt": "<b>", "text": f" text {e}"} for e in range(1, 20)]
    said = check(html_of([run]))
    assert "Layers by epoch" in said
    assert "Update against weights" in said
    assert "Dead units" in said
    assert "Saturated outputs" not in said
    assert "What it writes" in said
    assert "<b> text 1" in said
    assert "<b> text 19" in said
    assert "<b> text 2" not in said
    bare = check(html_of([classifier()]))
    assert "Layers by epoch" not in bare
    assert "What it writes" not in bare


# ----- several runs -----


def test_several_runs() -> None:
    one, two = regressor("one"), regressor("two")
    two.model().weight.data = an.asarray([[1.0, -1.0, 0.0]])
    two.info["optimizer"] = "adam"  # type: ignore[index]
    text = html_of([two, one])
    said = check(text)
    assert re.search(r"The best of 2 runs by R² is one with [\d.]+ .*; then comes two", said)
    assert "Settings that differ" in said
    assert 'class="n best"' in text
    check(html_of([regressor("same"), regressor("same"), *(regressor(f"run {i}") for i in range(3))]))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        report([], tmp_path / "a.html")
    with pytest.raises(ValueError, match=r"must be a file that ends in \.html, got"):
        report([regressor()], tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


# ----- in a browser -----

MEASURE = "<script>parent.postMessage([document.documentElement.scrollWidth - innerWidth, innerWidth].join(' '), '*')</script>"
WRAPPER = (
    "<!doctype html><title>w</title><body style='margin:0'><pre id='out'></pre><script>onmessage = e => "
    "{{ document.getElementById('out').textContent += e.data + ';' }}</script>{frames}</body>"
)


def browse(*options: str, url: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
               f"--user-data-dir={profile}", "--virtual-time-budget=3000", *options, url.as_uri()]  # fmt: skip
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "HOME": str(profile)},
    )


def test_in_a_browser(tmp_path: Path) -> None:
    """No console message, nothing wider than the window at three widths, and a picture of each."""
    text = html_of(
        [classifier(labels=["a_very_long_name_of_a_class_without_any_space_in_it" * 2, "<script>", "ok"])]
    )
    page, profile = tmp_path / "page.html", tmp_path / "profile"
    page.write_text(text, encoding="utf-8")
    for width in (360, 800, 1400):
        picture = tmp_path / f"{width}.png"
        done = browse(f"--screenshot={picture}", f"--window-size={width},1600", url=page, profile=profile)
        assert picture.exists(), done.stderr[-2000:]
        assert picture.stat().st_size > 20_000
        assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    copy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace(
        "</body>", f"{MEASURE}</body>"
    )
    (tmp_path / "copy.html").write_text(copy, encoding="utf-8")
    frames = "".join(
        f"<iframe src='copy.html' style='border:0;width:{w}px;height:900px'></iframe>"
        for w in (360, 800, 1400)
    )
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(WRAPPER.format(frames=frames), encoding="utf-8")
    done = browse("--dump-dom", "--window-size=1500,900", url=wrapper, profile=profile)
    found = re.search(r'<pre id="out">([^<]*)</pre>', done.stdout)
    assert found is not None, done.stdout[:500]
    measured = sorted((int(b), int(a)) for a, b in (part.split() for part in found[1].split(";") if part))
    assert measured == [(360, 0), (800, 0), (1400, 0)]

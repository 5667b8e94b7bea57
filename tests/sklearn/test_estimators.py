"""The estimators: scikit-learn's own checks of the installed version, and what people do with estimators."""

import json
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import anynet as an
from anynet import nn
from optional_libraries import needs

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 5))
Y = 3 * X[:, 0] + 100
LABELS = np.array(["cold", "warm", "hot"])[np.digitize(X[:, 0], [-0.5, 0.5])]


def network(n_in, n_out, width=8, activation=nn.ReLU):
    return nn.Sequential(nn.Linear(n_in, width), activation(), nn.Linear(width, n_out))


def convolution(shape, n_out):
    return nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, n_out))


def quick(cls=None, **options):
    cls = an.sklearn.Regressor if cls is None else cls
    return cls(**{"hidden": (16,), "lr": 0.02, "random_state": 0, "device": "cpu", **options})


@parametrize_with_checks([an.sklearn.Classifier(), an.sklearn.Regressor()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_scores_of_real_data():
    for model, load, least in (
        (quick(an.sklearn.Classifier), load_iris, 0.93),
        (quick(an.sklearn.Classifier, epochs=20), load_digits, 0.92),
        (quick(epochs=40), load_diabetes, 0.42),
    ):
        assert cross_val_score(model, *load(return_X_y=True), cv=4).mean() > least


# ----- parameters -----


def test_a_grid_reaches_the_arguments_of_the_function():
    grid = {"module__width": [4, 16], "lr": [0.01, 0.03]}
    search = GridSearchCV(quick(module=network, epochs=40), grid, cv=3).fit(X, Y)
    assert set(search.best_params_) == set(grid)
    assert search.best_score_ > 0.9
    best = search.best_estimator_
    assert best.module_[0].weight.shape == (search.best_params_["module__width"], 5)
    copy = clone(best)
    assert copy.get_params()["module__width"] == best.get_params()["module__width"]
    assert "module__width" in repr(copy)
    pipeline = make_pipeline(StandardScaler(), quick(module=network))
    pipeline.set_params(regressor__module__width=12)
    assert pipeline.fit(X, Y)[-1].module_[0].weight.shape == (12, 5)


def test_modules_of_all_kinds():
    an.random.manual_seed(0)  # the first weights, whichever tests ran before
    layer = nn.Linear(5, 1)
    before = layer.weight.numpy().copy()
    assert quick(module=layer, lr=0.1).fit(X, Y).score(X, Y) > 0.95
    np.testing.assert_array_equal(layer.weight.numpy(), before)  # a copy is trained
    images, bright = rng.normal(size=(40, 1, 8, 8)), rng.integers(0, 2, 40)
    model = quick(an.sklearn.Classifier, module=convolution).fit(images, bright)
    assert model.score(images, bright) > 0.9
    assert model.predict_proba(images).shape == (40, 2)
    tokens = rng.integers(0, 9, (60, 4))
    embedding = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(32, 2))
    model = quick(an.sklearn.Classifier, module=embedding).fit(tokens, tokens[:, 0] > 4)
    assert model.score(tokens, tokens[:, 0] > 4) > 0.95


def test_what_is_refused():
    for options, message in (
        ({"module": network, "module__wdth": 3}, "network has no argument 'wdth'; did you mean 'width'"),
        ({"module__width": 3}, "must be a function to have options, got None"),
        ({"optimizer__betas2": 3}, "betas2"),
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"module": "mlp"}, "module must be None, a Module or a function"),
        ({"module": lambda n_in, n_out: None}, "it returned NoneType"),
        ({"standardize": "yes"}, "standardize must be True, False or 'auto'"),
        ({"batch_size": 0}, "batch_size"),
        ({"hidden": (0,)}, "hidden"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            quick(**options).fit(X, Y)
    with pytest.raises(TypeError, match="has no parameter 'hiden'"):
        an.sklearn.Regressor(hiden=(3,))
    with pytest.raises(ValueError, match="Invalid parameter 'hiden'"):
        quick().set_params(hiden=(3,))
    with pytest.raises(ValueError, match="has no argument 'wdth'"):
        quick(module=network).set_params(module__wdth=3)
    with pytest.raises(ValueError, match=r"must give an output of shape \(n, 1\)"):
        quick(module=nn.Linear(5, 2), loss=lambda o, t: an.mean(o)).fit(X, Y).predict(X)
    with pytest.raises(NotFittedError):
        quick(an.sklearn.Classifier).predict_proba(X)


def test_optimizers_and_losses():
    model = quick(optimizer="sgd", optimizer__momentum=0.9, loss="huber", weight_decay=0.01).fit(X, Y)
    group = model.optimizer_.param_groups[0]
    assert (type(model.optimizer_).__name__, group["momentum"], group["weight_decay"]) == ("SGD", 0.9, 0.01)
    assert model.score(X, Y) > 0.9


# ----- training -----


def test_the_same_numbers_for_the_same_state():
    first, again, other = (
        quick(random_state=s, dropout=0.2, epochs=5).fit(X, Y).predict(X) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 0.0
    before = an.random.get_state()
    quick(epochs=2).fit(X, Y)
    assert an.random.get_state() == before


def test_training_ends():
    model = quick(epochs=500, tol=1e-2, patience=3).fit(X, Y)
    assert model.n_iter_ == len(model.history_) < 100
    json.dumps(model.history_)
    early = quick(epochs=500, early_stopping=4, validation_fraction=0.2).fit(X, Y)
    losses = [r["val_loss"] for r in early.history_]
    assert early.n_iter_ < 500
    assert early.n_iter_ - 1 - int(np.argmin(losses)) == 4
    rows = train_test_split(range(90), test_size=0.2, random_state=early._seed)[1]
    error = np.mean((early.predict(X[rows]) - Y[rows]) ** 2) / early._target[1][0] ** 2
    assert error == pytest.approx(min(losses), rel=1e-6)  # the network of the best epoch
    assert quick(an.sklearn.Classifier, early_stopping=True).fit(X, LABELS).score(X, LABELS) > 0.9


def test_warm_start_and_partial_fit():
    model = quick(epochs=3, warm_start=True, lr=0.005).fit(X, Y)
    first, weights = model.score(X, Y), model.module_
    assert model.fit(X, Y).score(X, Y) > first
    assert model.module_ is weights
    assert [r["epoch"] for r in model.history_] == [1, 2, 3, 4, 5, 6]
    part = quick(an.sklearn.Classifier)
    for step in range(20):
        rows = slice(45 * (step % 2), 45 * (step % 2 + 1))
        part.partial_fit(X[rows], LABELS[rows], classes=["cold", "hot", "warm"])
    assert part.score(X, LABELS) > 0.9
    assert part.n_iter_ == 20
    with pytest.raises(ValueError, match="unseen labels"):
        part.partial_fit(X[:2], ["cold", "boiling"])
    half = pickle.loads(pickle.dumps(part))
    for model in (part, half):
        model.partial_fit(X, LABELS)
    np.testing.assert_array_equal(
        part.predict_proba(X), half.predict_proba(X)
    )  # the optimizer has travelled, too


def test_weights_of_samples_and_of_classes():
    counts = rng.integers(0, 4, 90)
    repeated = np.repeat(np.arange(90), counts)
    for cls, y in ((an.sklearn.Regressor, Y + rng.normal(size=90)), (an.sklearn.Classifier, LABELS)):
        weighted = quick(cls, batch_size=400).fit(X, y, sample_weight=counts)
        twice = quick(cls, batch_size=400).fit(X[repeated], y[repeated])
        name = "predict_proba" if cls is an.sklearn.Classifier else "predict"
        np.testing.assert_allclose(getattr(weighted, name)(X), getattr(twice, name)(X), rtol=1e-7)
    noise = rng.integers(0, 2, 90)
    heavy = quick(an.sklearn.Classifier, epochs=10, class_weight={0: 1.0, 1: 50.0}).fit(X, noise)
    assert heavy.predict(X).mean() > 0.9
    balanced = quick(an.sklearn.Classifier, class_weight="balanced").fit(X, X[:, 0] > 1.5)
    assert accuracy_score(X[:, 0] > 1.5, balanced.predict(X)) > 0.9
    for wrong in (np.zeros(90), -np.ones(90)):
        with pytest.raises(ValueError, match="eight"):
            quick().fit(X, Y, sample_weight=wrong)


# ----- outputs -----


def test_outputs_of_a_classifier():
    model = quick(an.sklearn.Classifier).fit(X, LABELS)
    assert model.classes_.tolist() == ["cold", "hot", "warm"]
    p, logits = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.log(p), model.predict_log_proba(X), rtol=1e-7)
    assert (model.classes_[logits.argmax(1)] == model.predict(X)).all()
    two = quick(an.sklearn.Classifier).fit(X.astype("f4"), Y > 100)
    assert two.decision_function(X.astype("f4")).shape == (90,)
    assert two.predict(X.astype("f4")).dtype == bool
    assert two.predict_proba(X.astype("f4")).dtype == "float32"


def test_outputs_of_a_regressor():
    both = np.stack([Y, -2 * Y], 1)
    model = quick().fit(X, both)
    assert model.predict(X).shape == (90, 2)
    assert model.score(X, both) > 0.95
    assert quick().fit(X, Y).predict(X).shape == (90,)
    assert quick(epochs=2).fit(X.astype("f4"), Y).module_[0].weight.dtype == an.float32
    assert quick(epochs=2).fit(X, Y).module_[0].weight.dtype == an.float64


# ----- pickles -----


def test_pickles_hold_safetensors(tmp_path):
    for model in (
        quick().fit(X, Y),
        quick(module=network, module__width=9).fit(X, Y),
        quick(module=nn.Linear(5, 1)).fit(X, Y),
    ):
        joblib.dump(model, tmp_path / "model.joblib")
        loaded = joblib.load(tmp_path / "model.joblib")
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        assert loaded.n_iter_ == model.n_iter_
        state = model.__getstate__()
        assert "module_" not in state
        (tmp_path / "inside.safetensors").write_bytes(state["_weights"])
        inside = an.load(tmp_path / "inside.safetensors")["module"]
        assert inside.keys() == model.module_.state_dict().keys()
    assert pickle.loads(pickle.dumps(quick())).get_params() == quick().get_params()


# ----- DataFrames -----


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dataframes_with_words_dates_and_gaps(library):
    frames = needs(library, "product")
    n = 200
    columns = {
        "size": [None if i == 5 else float(v) for i, v in enumerate(rng.normal(size=n))],
        "town": [str(v) for v in rng.choice(["Ulm", "Bonn", "Kiel"], n)],
        "open": [bool(v) for v in rng.integers(0, 2, n)],
    }
    price = np.array(
        [(s or 0.0) + 5 * (t == "Ulm") for s, t in zip(columns["size"], columns["town"], strict=True)]
    )
    table = frames.DataFrame(columns)
    model = quick().fit(table, price)
    assert model.score(table, price) > 0.95
    assert model.feature_names_in_.tolist() == ["size", "town", "open"]
    assert model.n_features_in_ == 3
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.predict(table), model.predict(table))
    weight = np.where(np.arange(n) % 3 == 0, 0.0, 1.0)
    kind = np.where(price > 2.5, "dear", "cheap")
    classifier = quick(an.sklearn.Classifier).fit(table, kind, sample_weight=weight)
    assert classifier.score(table, kind) > 0.95
    assert cross_val_score(quick(an.sklearn.Classifier, epochs=20), table, kind, cv=2).mean() > 0.9
    other = frames.DataFrame({**columns, "town": ["Rom"] * n})  # never seen
    assert np.isfinite(model.predict(other)).all()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frames.DataFrame({"size": [1.0], "place": ["Ulm"], "open": [True]}))


# ----- scikit-learn's own networks -----


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_networks_of_scikit_learn(activation, dtype):
    """Classes (two and three), numbers (one and two): the same predictions, also of a pickle, and as parameters of a network."""
    x, two = X.astype(dtype), np.where(X[:, 0] > 0, "yes", "no")
    options = {"hidden_layer_sizes": (7, 5), "activation": activation, "max_iter": 20, "random_state": 0}
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    for labels in (two, LABELS):
        mlp = MLPClassifier(**options).fit(x, labels)
        same = an.sklearn.Classifier.from_sklearn(mlp)
        assert str(same.module_(an.asarray(x)).dtype) == dtype
        for one in (same, pickle.loads(pickle.dumps(same))):
            np.testing.assert_array_equal(one.predict(x), mlp.predict(x))
            np.testing.assert_allclose(one.predict_proba(x), mlp.predict_proba(x), atol=tolerance)
    for y in (Y / 100, np.stack([Y, -Y], axis=1) / 100):
        mlp = MLPRegressor(**options).fit(x, y)
        same = an.sklearn.Regressor.from_sklearn(mlp)
        assert same.predict(x).shape == y.shape
        np.testing.assert_allclose(same.predict(x), mlp.predict(x), rtol=10 * tolerance, atol=10 * tolerance)


def test_networks_of_scikit_learn_train_on():
    mlp = MLPClassifier((6,), max_iter=400, tol=1e-2, random_state=0)
    mlp.fit(X, LABELS)
    same = an.sklearn.Classifier.from_sklearn(mlp).set_params(warm_start=True, epochs=40, lr=0.02)
    before = same.score(X, LABELS)
    assert same.fit(X, LABELS).score(X, LABELS) > before
    assert clone(same).get_params()["hidden"] == (6,)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_no_network_of_scikit_learn():
    with pytest.raises(
        TypeError, match=r"Classifier\.from_sklearn: network must be a MLPClassifier, got MLPRegressor"
    ):
        an.sklearn.Classifier.from_sklearn(MLPRegressor())
    with pytest.raises(NotFittedError):
        an.sklearn.Classifier.from_sklearn(MLPClassifier())
    several = MLPClassifier((3,), max_iter=2).fit(X, np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int))
    with pytest.raises(ValueError, match="outputs must be classes or numbers, got those of logistic"):
        an.sklearn.Classifier.from_sklearn(several)

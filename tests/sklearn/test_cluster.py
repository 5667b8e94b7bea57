"""A grid search over several processes, through joblib's backends of Dask and Ray: the same result as in this one."""

import runpy
import warnings
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

from optional_libraries import needs

FILE = Path(__file__).parents[2] / "examples" / "grid_search_on_a_cluster.py"


@pytest.mark.parametrize("where", ["local", "ray"])
def test_a_grid_search_on_a_cluster(where):
    if where == "ray":
        pytest.importorskip("ray", reason="needs ray, which has no extra")
    else:
        needs("dask", "product")  # `distributed`, which it comes with, is a folder of tests here, too
    example = runpy.run_path(str(FILE))
    X, y = load_digits(return_X_y=True)
    X, y = X[:300].astype("float32"), y[:300]
    here = example["search"](epochs=3).set_params(n_jobs=1).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the clusters' own
        with example["cluster"](where):
            there = example["search"](epochs=3).fit(X, y)
    assert there.best_params_ == here.best_params_
    assert there.cv_results_["mean_test_score"].tolist() == here.cv_results_["mean_test_score"].tolist()
    assert there.predict(X).tolist() == here.predict(X).tolist()

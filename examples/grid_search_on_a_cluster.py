"""A grid search over several machines: scikit-learn's own backends of joblib spread the fits, an estimator knows nothing of it.

    python examples/grid_search_on_a_cluster.py                        # Dask, with two processes on this machine
    python examples/grid_search_on_a_cluster.py tcp://scheduler:8786   # a cluster of Dask that runs: dask scheduler, dask worker
    python examples/grid_search_on_a_cluster.py ray                    # Ray: on this machine, or the cluster that RAY_ADDRESS names

All machines need the same versions of anynet and scikit-learn. Needs scikit-learn, and Dask (dask[distributed]) or Ray (ray).
"""

from contextlib import ExitStack, contextmanager

import anynet as an
from anynet import nn
from anynet._optional import optional
from anynet.gallery import Figure, bars, example


def network(n_in, n_out, width=32):
    """One hidden layer; `module__width` in the grid is its width."""
    return nn.Sequential(nn.Linear(n_in, width), nn.ReLU(), nn.Linear(width, n_out))


def search(epochs=20):
    """Twelve fits on the digits: four settings, three folds."""
    model = an.sklearn.Classifier(
        module=network, standardize=True, epochs=epochs, random_state=0, device="cpu"
    )
    selection = optional("sklearn.model_selection", "sklearn", "a grid search")
    return selection.GridSearchCV(model, {"module__width": [16, 64], "lr": [1e-3, 1e-2]}, cv=3, n_jobs=-1)


@contextmanager
def cluster(where="local"):
    """The cluster as joblib's backend, which every `n_jobs=` of scikit-learn uses inside of the block."""
    with ExitStack() as opened:
        if where == "ray":
            import ray
            from ray.util.joblib import register_ray

            ray.init()
            opened.callback(ray.shutdown)
            register_ray()
        else:
            dask = optional("dask.distributed", "product", "a cluster of Dask")
            if where == "local":
                where = opened.enter_context(
                    dask.LocalCluster(
                        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
                    )
                )
            opened.enter_context(dask.Client(where))
            where = "dask"
        joblib = optional("joblib", "sklearn", "a grid search")
        opened.enter_context(joblib.parallel_config(backend=where))
        yield


@example(
    topic="scikit-learn",
    figures=[Figure("best accuracy of the grid", at_least=93.0, unit="%", quick=70.0)],
    arguments="the address of a Dask scheduler, or ray; default: two processes here",
)
def main(run):
    images, labels = run.data("digits", "train", scaled=True)
    count = run.pick(len(labels), 300)
    with cluster(*run.arguments[:1]):
        found = search(run.pick(20, 5)).fit(images[:count].reshape(count, -1), labels[:count])
    scores = found.cv_results_["mean_test_score"].tolist()
    settings = [f"{s['module__width']} units, lr {s['lr']}" for s in found.cv_results_["params"]]
    for score, setting in zip(scores, settings, strict=True):
        run.say(f"{score:.4f}  {setting}")
    run.picture(bars(settings, scores, title="accuracy of three folds, digits"))
    run.figure("best accuracy of the grid", 100 * max(scores))


if __name__ == "__main__":
    main()

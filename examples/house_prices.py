"""House prices in California: the mean, a linear model and a network of two hidden layers on the same features.

20,640 districts of the census of 1990 (Pace and Barry 1997), four fifths to learn from. Counts as logarithms, three
ratios, the nearness of the ocean one-hot; all scaled by the training part. To reach: an error (RMSE) of $51,000 where
the linear model has $64,400.
"""

import numpy as np

import anynet as an
from anynet import nn
from anynet.gallery import Figure, bars, example, history_lines, scatter


def features(table):
    """A matrix of 16 columns: what a district is; and its price in $100,000."""
    place = np.asarray(table.pop("ocean_proximity"))
    price = np.asarray(table.pop("median_house_value"), float) / 1e5
    t = {
        name: np.asarray([np.nan if v is None else v for v in column], float)
        for name, column in table.items()
    }
    t["total_bedrooms"] = np.where(
        np.isnan(t["total_bedrooms"]), np.nanmedian(t["total_bedrooms"]), t["total_bedrooms"]
    )
    ratios = [
        t["total_rooms"] / t["households"],
        t["total_bedrooms"] / t["total_rooms"],
        t["population"] / t["households"],
    ]
    logs = [np.log(t[n]) for n in ("total_rooms", "total_bedrooms", "population", "households")]
    plain = [t["longitude"], t["latitude"], t["housing_median_age"], t["median_income"]]
    return np.stack(
        [*plain, *logs, *map(np.log, ratios), *(place == kind for kind in sorted(set(place)))], axis=1
    ), price


@example(
    topic="tables",
    figures=[
        Figure("RMSE of the mean in $1000", 113.0, 119.0, form=".1f", source="117"),
        Figure("RMSE of the linear model in $1000", at_most=68.0, form=".1f", source="64.4"),
        Figure("RMSE of the network in $1000", at_most=52.0, form=".1f", quick=75.0, source="50.3 to 51.0"),
    ],
)
def main(run):
    x, price = features(run.data("housing"))
    order = np.random.default_rng(run.seed).permutation(len(x))
    test, learnt = order[: len(x) // 5], order[len(x) // 5 :]
    x = (x - x[learnt].mean(0)) / x[learnt].std(0)
    error = lambda said: 100 * float(np.sqrt(np.mean((said - price[test]) ** 2)))  # noqa: E731
    a = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    linear = a[test] @ np.linalg.lstsq(a[learnt], price[learnt])[0]
    net = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    used = learnt[: run.pick(len(learnt), 6000)]
    history = an.fit(
        net, (x[used].astype("float32"), price[used, None].astype("float32")), loss="mse", lr=2e-3, batch_size=64,
        epochs=run.pick(30, 4), scheduler="cosine", device=run.device, seed=run.seed,
    )  # fmt: skip
    said = np.asarray(an.asarray(an.predict(net, x[test].astype("float32"))).numpy())[:, 0]
    errors = {"mean": error(price[learnt].mean()), "linear model": error(linear), "network": error(said)}
    run.picture(
        bars(list(errors), list(errors.values()), title="test error (RMSE) in $1000"),
        scatter(
            price[test].tolist(),
            said.tolist(),
            title="test districts",
            x_label="price in $100,000",
            y_label="said",
            diagonal=True,
        ),
        history_lines(history, "loss", title="training loss by epoch"),
    )
    for name, value in errors.items():
        run.figure(f"RMSE of the {name} in $1000", value)


if __name__ == "__main__":
    main()

"""Will the S&P 500 rise tomorrow? A network on twenty days of returns is no better than always saying yes: no skill.

Daily closing prices; the last fifth of the days is the test, the tenth before it says how long to train. The figure
is not a score to be proud of: it is within what chance gives around the share of days that rise.
"""

import math

import numpy as np

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines

DAYS = 20


@example(
    topic="series",
    figures=[
        Figure("days that rise", form=".1f", unit="%", source="55.1"),
        Figure("direction right", form=".1f", unit="%", source="55.4"),
        Figure(
            "standard errors above always saying yes",
            at_most=2.0,
            form=".2f",
            source="0.2: no skill",
            quick=True,
        ),
    ],
)
def main(run):
    prices = np.array(run.data("sp500")["close"])
    returns = np.diff(np.log(prices))
    windows = np.lib.stride_tricks.sliding_window_view(returns, DAYS + 1)
    test, held = len(windows) * 4 // 5, len(windows) * 7 // 10
    x = (windows[:, :-1] / returns[: held + DAYS].std()).astype("float32")
    y = (windows[:, -1] > 0).astype("int64")
    net = nn.Sequential(nn.Linear(DAYS, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2))
    history = an.fit(
        net, (x[:held], y[:held]), (x[held:test], y[held:test]), loss="cross_entropy", metrics=["accuracy"], lr=1e-3, batch_size=64,
        epochs=run.pick(30, 3), device=run.device, seed=run.seed, progress=False,
    )  # fmt: skip
    said = an.argmax(an.asarray(an.predict(net, x[test:])), axis=1).numpy()
    right, rises = said == y[test:], y[test:] == 1
    chances = {
        "always yes": rises.mean(),
        "network": right.mean(),
        "as yesterday": ((x[test:, -1] > 0) == rises).mean(),
    }
    for name, share in chances.items():
        run.say(f"{name:12} {100 * share:.1f} % of {len(said)} days")
    # only the days on which the two differ tell them apart: McNemar's comparison
    won, lost = int((right & ~rises).sum()), int((~right & rises).sum())
    above = (won - lost) / math.sqrt(max(1, won + lost))
    run.say(f"differs from always saying yes on {won + lost} days, right on {won} of them")
    days = list(range(len(said)))
    signs = np.where(said == 1, 1.0, -1.0) * windows[test:, -1]
    gains = [
        Series(n, days, np.cumsum(v).tolist())
        for n, v in (("held", windows[test:, -1]), ("as the network says, no costs", signs))
    ]
    epochs = [r["epoch"] for r in history]
    run.picture(
        bars(
            list(chances),
            [100 * float(c) for c in chances.values()],
            title="direction right, in % of the days",
        ),
        lines(gains, title="sum of the daily log returns in the test part", x_label="day"),
        lines(
            [Series(k, epochs, [r[k] for r in history]) for k in ("loss", "val_loss")],
            title="loss by epoch: ln 2 = 0.693",
        ),
    )
    run.figure("days that rise", 100 * rises.mean())
    run.figure("direction right", 100 * right.mean())
    run.figure("standard errors above always saying yes", above)


if __name__ == "__main__":
    main()

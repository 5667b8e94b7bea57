"""Dead ReLUs: units whose bias is far below zero never fire and never learn; leaky ReLU and ELU come back to life.

64-64-10 on the digits; the hidden bias starts at −6. A unit is dead where no training sample makes it fire.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines


@example(
    topic="depth",
    figures=[
        Figure("dead units of 64, ReLU", at_least=64, form=".0f", quick=True, source="64"),
        Figure("test accuracy, ReLU", at_most=15.0, unit="%", quick=True, source="10.2"),
        Figure("test accuracy, leaky ReLU", at_least=50.0, unit="%", source="63"),
        Figure("test accuracy, ELU", at_least=94.0, unit="%", source="96.6"),
    ],
)
def main(run):
    (x, y), (test_x, test_y) = (
        run.data("digits", "train", scaled=True),
        run.data("digits", "test", scaled=True),
    )
    epochs, kinds = run.pick(30, 2), {"ReLU": nn.ReLU, "leaky ReLU": nn.LeakyReLU, "ELU": nn.ELU}
    curves, accuracy, dead = [], {}, {}
    for name, activation in kinds.items():
        an.random.manual_seed(run.seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), activation(), nn.Linear(64, 10))
        nn.init.constant_(net[1].bias, -6.0)
        history = an.fit(
            net, (x, y), (test_x, test_y), loss="cross_entropy", metrics=["accuracy"], lr=1e-3, epochs=epochs, device=run.device,
            seed=run.seed, restore_best=False, progress=False,
        )  # fmt: skip
        with an.no_grad():
            fires = an.max(net[1](an.reshape(run.array(x), (-1, 64))), axis=0) > 0
        dead[name] = 64 - int(an.sum(an.astype(fires, an.int64)))
        accuracy[name] = 100 * history[-1]["val_accuracy"]
        run.say(f"{name:10} test accuracy {accuracy[name]:.1f} %, {dead[name]} of 64 units never fire")
        curves.append(Series(name, [r["epoch"] for r in history], [100 * r["val_accuracy"] for r in history]))
    run.picture(
        lines(curves, title="test accuracy by epoch, hidden bias from −6", x_label="epoch", whole=True),
        bars(list(dead), [float(n) for n in dead.values()], title="units that never fire"),
    )
    run.figure("dead units of 64, ReLU", dead["ReLU"])
    for name, value in accuracy.items():
        run.figure(f"test accuracy, {name}", value)


if __name__ == "__main__":
    main()

"""The 8×8 digits of the package in ten lines, and which pixels said so: the gradient of the answer by the picture.

What the README shows, with the test part that `anynet.data` fixes (every fifth digit of each class).
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, example, history_lines, tiles


@example(
    topic="digits",
    figures=[Figure("test accuracy", at_least=97.0, unit="%", quick=85.0, source="96.7 to 97.6")],
)
def main(run):
    (x, y), (test_x, test_y) = (
        run.data("digits", "train", scaled=True),
        run.data("digits", "test", scaled=True),
    )
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    history = an.fit(
        net, (x, y), (test_x, test_y), loss="cross_entropy", metrics=["accuracy"], epochs=run.pick(40, 5), device=run.device,
        seed=run.seed, restore_best=False,
    )  # fmt: skip
    shown = run.array(test_x[:8], requires_grad=True)
    chance = nn.functional.softmax(net(shown), dim=-1)
    answer = an.argmax(chance, axis=-1)
    an.sum(an.max(chance, axis=-1)).backward()
    said = [
        f"{k}: {100 * p:.0f} %"
        for k, p in zip(answer.tolist(), an.max(chance, axis=-1).tolist(), strict=True)
    ]
    run.picture(
        history_lines(history, "accuracy", "val_accuracy", title="accuracy by epoch (val: the test digits)"),
        tiles(shown.detach(), said, title="test digits"),
        tiles(an.abs(shown.grad), title="|∂p/∂pixel|"),
    )
    run.figure("test accuracy", 100 * history[-1]["val_accuracy"])


if __name__ == "__main__":
    main()

"""Layer-wise learning rates: from MNIST's digits 0-4 to 5-9 with 5 images a class, and the radar of the rates that curvature asks for.

Rates fall by a factor for each layer towards the input (2.6: Howard and Ruder 2018); that of the output layer is chosen
on 500 other training images. The radar shows 1/λ_max of each layer's block of the Hessian.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, radar
from anynet.methods import hessian_learning_rates, layer_wise_learning_rates

LAYERS = ("first convolution", "second convolution", "hidden", "output")
WAYS = {"from scratch": 1.0, "the same rate": 1.0, "÷ 2.6": 1 / 2.6, "÷ 10": 0.1, "the head alone": 1e-12}
TOLD = {"the same rate": "80.6", "÷ 10": "80.5", "the head alone": "72.6"}


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 5),
    )  # fmt: skip


def train(net, groups, x, y, steps, batch=64):
    optimizer = an.optim.SGD(groups, lr=0.05, momentum=0.9)
    for _ in range(steps):
        chosen = an.random.integers(0, x.shape[0], (min(batch, x.shape[0]),))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(an.take(x, chosen, axis=0)), an.take(y, chosen, axis=0)).backward()
        optimizer.step()


def half(run, images, labels, low, count):
    chosen = [i for i, label in enumerate(labels.tolist()) if low <= label < low + 5][:count]
    x, y = (an.asarray(a, device=run.device) for a in (images[chosen], labels[chosen] - low))
    return an.expand_dims(x, axis=1), y


def rates(name, net, x, y, count):
    found = hessian_learning_rates(net, "cross_entropy", x[:count], y[:count], iterations=10)
    return Series(name, range(4), [group["lr"] for group in found])


def tuned(state, way, rate, few, test, steps):
    net = network()
    if way != "from scratch":
        net.load_state_dict({k: v for k, v in state.items() if not k.startswith("9.")}, strict=False)
    train(net, layer_wise_learning_rates(net, rate, WAYS[way]), *few, steps)
    right = an.argmax(net(test[0]), axis=1) == test[1]
    return 100 * an.mean(an.astype(right, an.float32)).item()


def drawn(pool):
    labels, order = pool[1].tolist(), an.random.permutation(pool[0].shape[0]).tolist()
    few = an.asarray([i for k in range(5) for i in [j for j in order if labels[j] == k][:5]])
    return an.take(pool[0], few, axis=0), an.take(pool[1], few, axis=0)


@example(
    topic="learning rates",
    figures=[
        Figure("÷ 2.6", at_least=78.0, unit="%", source="82.6", changed="to reach was a gain; none is clear"),
        *(Figure(way, unit="%", source=found) for way, found in TOLD.items()),
        Figure("from scratch", at_most=80.0, unit="%", source="75.7"),
    ],
)
def main(run):
    given, unseen = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    old, pool = half(run, *given, 0, run.pick(20_000, 300)), half(run, *given, 5, run.pick(3000, 300))
    test, held = half(run, *unseen, 5, run.pick(4861, 200)), run.pick(500, 100)
    other, net, count = tuple(part[-held:] for part in pool), network(), run.pick(100, 32)
    curvature = [rates("at the beginning", net, *old, count)]
    train(net, net.parameters(), *old, run.pick(500, 20))
    curvature.append(rates("after training on 0-4", net, *old, count))
    run.say("1/λ_max by layer:", *(f"{rate:.2g}" for rate in curvature[1].y))
    state = {name: an.asarray(value.data, copy=True) for name, value in net.state_dict().items()}
    pool, steps, scores, best = tuple(part[:-held] for part in pool), run.pick(150, 10), {}, {}
    few = drawn(pool)
    for way in WAYS:
        found = {r: tuned(state, way, r, few, other, steps) for r in run.pick((0.01, 0.03, 0.1), (0.03,))}
        best[way] = max(found, key=found.get)
        run.say(f"{way}: {found[best[way]]:.1f} % of other images at rate {best[way]}")
    for _ in range(run.pick(5, 1)):
        few = drawn(pool)
        for way in WAYS:
            scores.setdefault(way, []).append(tuned(state, way, best[way], few, test, steps))
    means = {way: sum(values) / len(values) for way, values in scores.items()}
    for way, values in scores.items():
        run.say(f"{way}: {means[way]:.1f} ± {an.std(an.asarray(values)).item():.1f} %")
        run.figure(way, means[way])
    tried = [Series(w, range(4), [best[w] * WAYS[w] ** (3 - i) for i in range(4)]) for w in list(WAYS)[1:4]]
    run.picture(
        radar(LAYERS, curvature, title="1 / largest eigenvalue of each layer's block", log=True),
        radar(LAYERS, tried, title="the rates that were taken", log=True),
        bars(list(means), list(means.values()), title="test accuracy on 5-9 in %, 5 images a class"),
    )


if __name__ == "__main__":
    main()

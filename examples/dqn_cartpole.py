"""DQN and double DQN on CartPole: a pole is kept upright by values learned from its own falls.

The environment has Gymnasium's dynamics, 500 steps at most. Both networks are trained with the same settings, taken from published ones
(RL Baselines3 Zoo: 50,000 steps, 256-256 units, 128 updates after every 256 steps, target copied every 10 steps) and not searched here.
Of the weights along the way those are kept that do best in 20 episodes of their own; the return told is that of 100 others. 475 counts as
solved.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines
from anynet.methods import DQN, CartPole, evaluate_policy, train_dqn

SOLVED = "Gymnasium calls CartPole-v1 solved at a mean return of 475"


def train(run, double, steps):
    """The curve of returns, and the mean return of 100 new episodes with the best weights."""
    an.random.manual_seed(run.seed)
    network = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
    dqn = DQN(network, double=double)
    optimizer = an.optim.Adam(network.parameters(), lr=2.3e-3)
    seen = {"best": -1.0, "state": network.state_dict(), "at": 0}
    curve = []

    def after(step, returns):
        if step - seen["at"] < run.pick(2000, 500):
            return False
        seen["at"] = step
        mean = sum(got := evaluate_policy(dqn.act, CartPole(seed=10_000 + step), run.pick(20, 2))) / len(got)
        curve.append((step, mean))
        run.say(f"{'double ' if double else ''}DQN, step {step}: greedy return {mean:.1f}")
        if mean > seen["best"]:
            seen["best"] = mean
            seen["state"] = {k: an.asarray(v, copy=True) for k, v in network.state_dict().items()}
        return mean >= 499.0  # nothing is left to gain

    train_dqn(
        dqn, CartPole(seed=run.seed), optimizer, steps, begin=run.pick(1000, 300), train_every=256, updates=run.pick(128, 8),
        target_every=10, exploration=0.16, epsilon=(1.0, 0.04), seed=run.seed, after=after,
    )  # fmt: skip
    network.load_state_dict(seen["state"])
    returns = evaluate_policy(dqn.act, CartPole(seed=999), run.pick(100, 3))
    return curve, sum(returns) / len(returns)


@example(
    topic="reinforcement learning",
    figures=[
        Figure("return of DQN, of 500", at_least=475, form=".1f", source=SOLVED),
        Figure("return of double DQN, of 500", at_least=475, form=".1f", source=SOLVED),
    ],
)
def main(run):
    drawn = []
    for double in (False, True):
        name = "double DQN" if double else "DQN"
        curve, mean = train(run, double, run.pick(50_000, 600))
        run.figure(f"return of {name}, of 500", mean)
        drawn.append(Series(name, [s for s, _ in curve], [r for _, r in curve]))
    run.picture(lines(drawn, title="mean return of 20 greedy episodes", x_label="steps in the environment"))


if __name__ == "__main__":
    main()

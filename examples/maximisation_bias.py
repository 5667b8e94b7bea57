"""Double Q-learning against the bias of the maximum: left is worse, and Q-learning goes left.

Sutton and Barto's example 6.7: from A right ends with 0; left leads to B, from where each of ten actions ends with a reward from N(−0.1,
1). The largest of ten estimates is above 0 long before they are good, so Q-learning prefers left; two tables that judge each other's
choice do not. ε = 0.1, α = 0.1, γ = 1; going left in 5 % of the episodes is the best that ε-greedy can do.
"""

from anynet.gallery import Figure, Series, example, lines
from anynet.methods import MaximizationBias, q_learning


def share_of_left(double, runs, episodes, seed):
    """In each episode the share of the runs in which A's first action was left."""
    left = [0] * episodes
    for i in range(runs):
        env = MaximizationBias(seed=seed + 2 * i)
        _, taken = q_learning(env, episodes, double=double, seed=seed + 2 * i + 1)
        left = [n + (actions[0] == 1) for n, actions in zip(left, taken, strict=True)]
    return [n / runs for n in left]


@example(
    topic="reinforcement learning",
    figures=[
        Figure(
            "highest share of left, Q-learning", at_least=0.85, quick=0.5, form=".2f", source="0.94 in NumPy"
        ),
        Figure("highest share of left, double Q-learning", at_most=0.6, form=".2f", source="0.52 in NumPy"),
        Figure(
            "share of left after 300 episodes, Q-learning", 0.08, 0.16, form=".3f", source="0.114 in NumPy"
        ),
        Figure(
            "share of left after 300 episodes, double Q-learning",
            0.04,
            0.09,
            form=".3f",
            source="0.069 in NumPy; best 0.05",
        ),
    ],
)
def main(run):
    runs, episodes = run.pick(1000, 30), run.pick(300, 100)
    drawn = []
    for double, name in ((False, "Q-learning"), (True, "double Q-learning")):
        share = share_of_left(double, runs, episodes, run.seed)
        run.say(
            f"{name}: left in the first, middle and last episode {share[0]:.2f} {share[len(share) // 2]:.2f} {share[-1]:.2f}"
        )
        run.figure(f"highest share of left, {name}", max(share))
        run.figure(f"share of left after 300 episodes, {name}", sum(share[-20:]) / 20)
        drawn.append(Series(name, list(range(1, episodes + 1)), share))
    drawn.append(Series("best", [1, episodes], [0.05, 0.05]))
    run.picture(lines(drawn, title="share of runs that go left", x_label="episode", y_range=(0.0, 1.0)))


if __name__ == "__main__":
    main()

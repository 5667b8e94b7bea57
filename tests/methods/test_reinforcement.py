"""Environments by their formulas, targets by hand, Q-learning against dynamic programming and the figure of the book."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet import methods, nn

rng = np.random.default_rng(0)


def gymnasium_step(state: np.ndarray, action: int) -> np.ndarray:
    """The lines of Gymnasium's cartpole.py, with its constants."""
    _x, x_dot, theta, theta_dot = state
    gravity, masspole, total_mass, length, tau = 9.8, 0.1, 1.1, 0.5, 0.02
    polemass_length = masspole * length
    force = 10.0 if action == 1 else -10.0
    costheta, sintheta = np.cos(theta), np.sin(theta)
    temp = (force + polemass_length * np.square(theta_dot) * sintheta) / total_mass
    thetaacc = (gravity * sintheta - costheta * temp) / (
        length * (4.0 / 3.0 - masspole * np.square(costheta) / total_mass)
    )
    xacc = temp - polemass_length * thetaacc * costheta / total_mass
    return state + tau * np.array([x_dot, xacc, theta_dot, thetaacc])


def test_cart_pole_moves_as_gymnasiums() -> None:
    env = methods.CartPole(seed=3)
    for _ in range(5):
        observation, _ = env.reset()
        assert all(-0.05 <= v <= 0.05 for v in observation)
        state, ended, count = np.array(observation), False, 0
        while not ended:
            action = int(rng.integers(2))
            observation, reward, terminated, truncated, _ = env.step(action)
            state = gymnasium_step(state, action)
            np.testing.assert_allclose(observation, state, rtol=1e-12, atol=1e-12)
            assert reward == 1.0
            assert terminated == (abs(state[0]) > 2.4 or abs(state[2]) > math.radians(12))
            ended, count = terminated or truncated, count + 1
        assert count < 200
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    short = methods.CartPole(max_steps=2)
    short.reset(seed=1)
    assert short.step(0)[2:4] == (False, False)
    assert short.step(1)[2:4] == (False, True)
    assert short.reset(seed=1) == methods.CartPole(seed=1).reset()


def test_td_targets(xp_device: str) -> None:
    reward, ended = rng.normal(size=6), np.array([0, 1, 0, 0, 1, 0])
    target, online = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))

    def on(x: np.ndarray) -> an.Tensor:
        return an.asarray(x, device=xp_device)

    plain = methods.td_targets(on(reward), on(ended), on(target), 0.9)
    np.testing.assert_allclose(plain.tolist(), reward + 0.9 * (1 - ended) * target.max(1), rtol=1e-12)
    double = methods.td_targets(on(reward), on(ended), on(target), 0.9, on(online))
    chosen = target[np.arange(6), online.argmax(1)]
    np.testing.assert_allclose(double.tolist(), reward + 0.9 * (1 - ended) * chosen, rtol=1e-12)


def test_replay_keeps_the_last() -> None:
    buffer = methods.ReplayBuffer(5, (2,), seed=1)
    for i in range(8):
        buffer.add((i, -i), i % 2, float(i), (i + 1, 0), i == 7)
    batch = buffer.sample(200)
    assert len(buffer) == 5
    seen = set(batch.observation[:, 0].tolist())
    assert seen == {3.0, 4.0, 5.0, 6.0, 7.0}
    for row in range(20):
        i = int(batch.observation[row, 0])
        assert batch.observation[row, 1].item() == -i
        assert (batch.action[row].item(), batch.reward[row].item()) == (i % 2, float(i))
        assert (batch.following[row, 0].item(), batch.terminated[row].item()) == (i + 1, float(i == 7))


class Corridor:
    """States 0, 1, 2 and the end 3: action 1 goes right (reward −1, at the end 10), action 0 stays (reward −1)."""

    n_states = 4

    def actions(self, state: int) -> int:
        return 2 if state < 3 else 0

    def reset(self, seed: int | None = None) -> tuple[int, dict]:
        self.state, self.count = 0, 0
        return 0, {}

    def step(self, action: int) -> tuple:
        self.state, self.count = self.state + action, self.count + 1
        return self.state, 10.0 if self.state == 3 else -1.0, self.state == 3, self.count == 30, {}


@pytest.mark.parametrize("double", [False, True])
def test_q_learning_finds_the_values(double: bool) -> None:
    table, _ = methods.q_learning(Corridor(), 600, lr=0.5, gamma=0.9, epsilon=0.5, double=double, seed=1)
    best = [-1 + 0.9 * (-1 + 0.9 * 10), -1 + 0.9 * 10, 10.0]
    expected = [[-1 + 0.9 * v, v] for v in best]
    np.testing.assert_allclose(table[:3], expected, atol=1e-3)


def test_maximization_bias_is_smaller_with_two_tables() -> None:
    """The share of left in the first 50 episodes: the figure in the book has it far above, and below, one half."""
    share = {}
    for double in (False, True):
        left = 0
        for seed in range(60):
            env = methods.MaximizationBias(seed=seed)
            _, taken = methods.q_learning(env, 50, double=double, seed=1000 + seed)
            left += sum(actions[0] == 1 for actions in taken)
        share[double] = left / 60 / 50
    assert share[False] > 0.55
    assert share[True] < 0.45


def test_the_loss_of_a_dqn_and_its_target() -> None:
    an.random.manual_seed(0)
    dqn = methods.DQN(nn.Linear(2, 3), gamma=0.9, double=True)
    batch = methods.Transitions(
        an.asarray(rng.normal(size=(4, 2)), dtype=an.float32), an.asarray([0, 2, 1, 0]), an.ones(4),
        an.asarray(rng.normal(size=(4, 2)), dtype=an.float32), an.asarray([0.0, 1.0, 0.0, 0.0]),
    )  # fmt: skip
    with an.no_grad():
        dqn.target.weight.assign_(dqn.target.weight * 2)
    following, online = dqn.target(batch.following), dqn.network(batch.following)
    y = methods.td_targets(batch.reward, batch.terminated, following, 0.9, online)
    q = [
        row[a] for row, a in zip(dqn.network(batch.observation).tolist(), batch.action.tolist(), strict=True)
    ]
    d = np.abs(np.array(q) - np.array(y.tolist()))
    loss = dqn(batch)
    assert abs(loss.item() - np.where(d < 1, 0.5 * d**2, d - 0.5).mean()) < 1e-6
    loss.backward()
    assert dqn.target.weight.grad is None
    before = np.array(dqn.target.weight.tolist())
    dqn.update_target(0.25)
    expected = 0.75 * before + 0.25 * np.array(dqn.network.weight.tolist())
    np.testing.assert_allclose(dqn.target.weight.tolist(), expected, rtol=1e-6)
    dqn.update_target()
    assert dqn.target.weight.tolist() == dqn.network.weight.tolist()


def test_training_repeats_and_can_be_ended() -> None:
    def run() -> tuple[list[float], list]:
        an.random.manual_seed(0)
        dqn = methods.DQN(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)))
        optimizer = an.optim.Adam(dqn.network.parameters(), lr=1e-3)
        returns = methods.train_dqn(
            dqn, methods.CartPole(), optimizer, 400, begin=100, train_every=4, target_every=50
        )
        return returns, dqn.network[0].weight.tolist()

    assert run() == run()
    an.random.manual_seed(0)
    dqn = methods.DQN(nn.Linear(4, 2))
    steps: list[int] = []

    def after(step: int, returns: list[float]) -> bool:
        steps.append(step)
        return len(steps) == 3

    optimizer = an.optim.Adam(dqn.network.parameters())
    methods.train_dqn(dqn, methods.CartPole(), optimizer, 400, begin=100, train_every=10, after=after)
    assert steps == [100, 110, 120]


def test_reinforcement_refusals() -> None:
    env = methods.CartPole()
    env.reset()
    with pytest.raises(ValueError, match=r"action must be 0 \(left\) or 1 \(right\), got 2"):
        env.step(2)
    with pytest.raises(ValueError, match="the buffer is empty"):
        methods.ReplayBuffer(3, (1,)).sample(1)
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\], got 2"):
        methods.q_learning(methods.MaximizationBias(), 3, epsilon=2)
    with pytest.raises(ValueError, match="state 2 has 0 actions"):
        methods.MaximizationBias().step(0)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got 1.5"):
        methods.DQN(nn.Linear(1, 1), gamma=1.5)

"""Reinforcement learning on built-in environments: Q-learning in a table and by a network, with one estimator and with two.

Sources: Watkins and Dayan: Q-learning (1992); van Hasselt: Double Q-learning (2010); Mnih et al.: Human-level control through deep
reinforcement learning (2015); van Hasselt, Guez and Silver: Deep reinforcement learning with double Q-learning (2016); Barto, Sutton and
Anderson: Neuronlike adaptive elements (1983), whose cart and pole are those of Gymnasium; Sutton and Barto: Reinforcement learning, 2nd
edition (2018), example 6.7.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.nn.utils.clip_grad import clip_grad_norm_
from anynet.ops.creation import asarray
from anynet.ops.indexing import take_along_axis
from anynet.ops.manipulation import astype, expand_dims
from anynet.ops.reductions import argmax
from anynet.ops.reductions import max as max_over
from anynet.optim.optimizer import Optimizer
from anynet.streams import Generator
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike
from anynet_backends import resolve

__all__ = [
    "DQN", "CartPole", "Environment", "MaximizationBias", "ReplayBuffer", "Transitions", "evaluate_policy", "q_learning", "td_targets",
    "train_dqn",
]  # fmt: skip

Step = tuple[Any, float, bool, bool, dict[str, Any]]


class Environment(Protocol):
    """What training asks of an environment: Gymnasium's `reset` and `step`, with discrete actions 0, 1, …"""

    def reset(self, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observation of an episode, and a dict."""

    def step(self, action: int) -> Step:
        """Observation, reward, terminated (nothing comes after), truncated (time is over), a dict."""


class _Draws:
    """Random numbers one by one, drawn in blocks."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator(seed)
        self._uniform: Iterator[float] = iter(())
        self._normal: Iterator[float] = iter(())

    def uniform(self) -> float:
        for u in self._uniform:
            return u
        self._uniform = iter(
            random.uniform(4096, dtype="float64", device="cpu", generator=self.generator).tolist()
        )
        return next(self._uniform)

    def normal(self) -> float:
        for z in self._normal:
            return z
        self._normal = iter(
            random.normal(4096, dtype="float64", device="cpu", generator=self.generator).tolist()
        )
        return next(self._normal)

    def integer(self, n: int) -> int:
        return int(self.uniform() * n)


# ----- environments -----


class CartPole:
    """A cart on a track that must keep a pole upright: Gymnasium's CartPole-v1, in its numbers.

    Observation (x, ẋ, θ, θ̇), a tuple; action 0 pushes left, 1 right, with 10 N; reward 1 a step. Euler steps of 0.02 s of

        θ̈ = (g sin θ − cos θ · c) / (l (4/3 − m cos²θ / M)),  ẍ = c − m l θ̈ cos θ / M,  c = (F + m l θ̇² sin θ) / M,

    g = 9.8, l = ½ (half the pole), m = 0.1 of the pole, M = 1.1 of both. Terminated at |x| > 2.4 or |θ| > 12°, truncated after `max_steps`
    (500; CartPole-v0 has 200). An episode begins uniformly in [−0.05, 0.05]⁴.

    Errors: ValueError for another action; RuntimeError for a step before `reset` or after the end.

    >>> import anynet as an
    >>> env = an.methods.CartPole(seed=0)
    >>> observation, _ = env.reset()
    >>> observation, reward, terminated, truncated, _ = env.step(1)
    >>> len(observation), reward, terminated
    (4, 1.0, False)
    """

    n_actions = 2
    observation_shape = (4,)

    def __init__(self, max_steps: int = 500, seed: int = 0) -> None:
        self.max_steps = check_count("CartPole", "max_steps", max_steps)
        self._draws = _Draws(seed)
        self.state: tuple[float, float, float, float] | None = None
        self._count = 0

    def reset(self, seed: int | None = None) -> tuple[tuple[float, ...], dict[str, Any]]:
        """Begin an episode; with a `seed` the draws begin anew."""
        if seed is not None:
            self._draws = _Draws(seed)
        a, b, c, d = (0.1 * self._draws.uniform() - 0.05 for _ in range(4))
        self.state, self._count = (a, b, c, d), 0
        return self.state, {}

    def step(self, action: int) -> Step:
        """Push for 0.02 s."""
        if action not in (0, 1):
            msg = f"CartPole: action must be 0 (left) or 1 (right), got {action!r}"
            raise ValueError(msg)
        if self.state is None:
            msg = "CartPole: the episode has ended or not begun; call reset()"
            raise RuntimeError(msg)
        x, speed, angle, turning = self.state
        force = 10.0 if action == 1 else -10.0
        sine, cosine = math.sin(angle), math.cos(angle)
        c = (force + 0.05 * turning * turning * sine) / 1.1
        angular = (9.8 * sine - cosine * c) / (0.5 * (4.0 / 3.0 - 0.1 * cosine * cosine / 1.1))
        linear = c - 0.05 * angular * cosine / 1.1
        state = x + 0.02 * speed, speed + 0.02 * linear, angle + 0.02 * turning, turning + 0.02 * angular
        self._count += 1
        terminated = abs(state[0]) > 2.4 or abs(state[2]) > 12 * math.pi / 180
        truncated = self._count >= self.max_steps
        self.state = None if terminated or truncated else state
        return state, 1.0, terminated, truncated, {}


class MaximizationBias:
    """Sutton and Barto's example 6.7: from A (state 0) action 0, right, ends with reward 0, action 1, left, goes to B (state 1), from where
    each of `n_actions` actions ends with a reward drawn from N(−0.1, 1). Left is wrong, but the largest of B's estimates is mostly above 0.

    >>> import anynet as an
    >>> env = an.methods.MaximizationBias()
    >>> env.reset()[0], env.step(1)[:3], env.actions(1)
    (0, (1, 0.0, False), 10)
    """

    n_states = 3

    def __init__(self, n_actions: int = 10, mean: float = -0.1, std: float = 1.0, seed: int = 0) -> None:
        check_count("MaximizationBias", "n_actions", n_actions)
        check_number("MaximizationBias", "std", std, 0)
        self.n_actions, self.mean, self.std = n_actions, mean, std
        self._draws = _Draws(seed)
        self.state = 2

    def actions(self, state: int) -> int:
        """How many actions there are in a state: 2, `n_actions`, none in the end."""
        return (2, self.n_actions, 0)[state]

    def reset(self, seed: int | None = None) -> tuple[int, dict[str, Any]]:
        """To A."""
        if seed is not None:
            self._draws = _Draws(seed)
        self.state = 0
        return 0, {}

    def step(self, action: int) -> Step:
        """One move."""
        if not 0 <= action < self.actions(self.state):
            msg = (
                f"MaximizationBias: state {self.state} has {self.actions(self.state)} actions, got {action!r}"
            )
            raise ValueError(msg)
        if self.state == 0 and action == 1:
            self.state = 1
            return 1, 0.0, False, False, {}
        reward = self.mean + self.std * self._draws.normal() if self.state == 1 else 0.0
        self.state = 2
        return 2, reward, True, False, {}


# ----- tables -----


def q_learning(
    env: Any,
    episodes: int,
    *,
    lr: float = 0.1,
    gamma: float = 1.0,
    epsilon: float = 0.1,
    double: bool = False,
    seed: int = 0,
) -> tuple[list[list[float]], list[list[int]]]:
    """Q-learning in a table: Q(s, a) ← Q(s, a) + α [r + γ max_b Q(s′, b) − Q(s, a)], ε-greedy, ties broken at random.

    `double`: two tables, of which a coin decides which learns from the other's value of its own best action,
    Q₁(s, a) += α [r + γ Q₂(s′, argmax_b Q₁(s′, b)) − Q₁(s, a)]; the policy is greedy in their sum, of which half is returned.

    `env` has `n_states`, `actions(s)`, `reset()` and `step(a)`, states and actions integers from 0. → the table, a list for each state,
    and the actions taken in each episode.

    Errors: ValueError for numbers out of their ranges.

    >>> import anynet as an
    >>> table, taken = an.methods.q_learning(an.methods.MaximizationBias(seed=1), 300, double=True)
    >>> len(taken), [len(row) for row in table]
    (300, [2, 10, 0])

    Source: Sutton and Barto (2018), sections 6.5 and 6.7.
    """
    check_count("q_learning", "episodes", episodes)
    for name, value in (("lr", lr), ("gamma", gamma), ("epsilon", epsilon)):
        check_number("q_learning", name, value, 0, 1)
    draws = _Draws(seed)
    tables = [[[0.0] * env.actions(s) for s in range(env.n_states)] for _ in range(2 if double else 1)]

    def best(values: Sequence[float]) -> int:
        top = max(values)
        ties = [i for i, v in enumerate(values) if v == top]
        return ties[0] if len(ties) == 1 else ties[draws.integer(len(ties))]

    history = []
    for _ in range(episodes):
        state, _ = env.reset()
        ended, taken = False, []
        while not ended:
            n = env.actions(state)
            if draws.uniform() < epsilon:
                action = draws.integer(n)
            else:
                action = best([sum(q) for q in zip(*(t[state] for t in tables), strict=True)])
            after, reward, terminated, truncated, _ = env.step(action)
            taken.append(action)
            learner = draws.integer(2) if double else 0
            q, other = tables[learner], tables[-1 - learner] if double else tables[0]
            value = 0.0 if terminated else other[after][best(q[after])]
            q[state][action] += lr * (reward + gamma * value - q[state][action])
            state, ended = after, terminated or truncated
        history.append(taken)
    mean = [[sum(v) / len(tables) for v in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)]
    return mean, history


# ----- networks -----


class Transitions(NamedTuple):
    """A batch: observations (n, …), actions (n,), rewards (n,), the next observations, and whether nothing came after, (n,)."""

    observation: Any
    action: Any
    reward: Any
    following: Any
    terminated: Any


class ReplayBuffer:
    """The last `capacity` transitions, from which batches are drawn uniformly with replacement.

    `add(observation, action, reward, following, terminated)`; `sample(n)` gives `Transitions` of Tensors on `device`. Draws follow from the
    seed.

    Errors: ValueError for a capacity below 1, and for `sample` while it is empty.

    >>> import anynet as an
    >>> buffer = an.methods.ReplayBuffer(2, (1,))
    >>> for i in range(3):
    ...     buffer.add([float(i)], i, 1.0, [i + 1.0], False)
    >>> len(buffer), sorted(set(buffer.sample(50).action.tolist()))
    (2, [1, 2])
    """

    def __init__(
        self, capacity: int, observation_shape: Sequence[int], seed: int = 0, device: str | None = None
    ) -> None:
        check_count("ReplayBuffer", "capacity", capacity)
        self.capacity, self.device = capacity, device
        xp: Any = resolve("cpu")[0]
        shape = (capacity, *observation_shape)
        self._parts = Transitions(
            xp.zeros(shape, dtype=xp.float32), xp.zeros((capacity,), dtype=xp.int64), xp.zeros((capacity,), dtype=xp.float32),
            xp.zeros(shape, dtype=xp.float32), xp.zeros((capacity,), dtype=xp.float32),
        )  # fmt: skip
        self._xp, self._next, self._size = xp, 0, 0
        self._generator = Generator(seed)

    def __len__(self) -> int:
        return self._size

    def add(self, observation: Any, action: int, reward: float, following: Any, terminated: bool) -> None:
        """Keep a transition, in the place of the oldest where the buffer is full."""
        for part, value in zip(
            self._parts, (observation, action, reward, following, terminated), strict=True
        ):
            part[self._next, ...] = self._xp.asarray(value)
        self._next = (self._next + 1) % self.capacity
        self._size = min(self._size + 1, self.capacity)

    def sample(self, n: int) -> Transitions:
        """n transitions."""
        if not self._size:
            msg = "ReplayBuffer.sample: the buffer is empty"
            raise ValueError(msg)
        at = random.integers(0, self._size, (n,), device="cpu", generator=self._generator).data
        return Transitions(
            *(asarray(self._xp.take(part, at, axis=0), device=self.device) for part in self._parts)
        )


def td_targets(
    reward: ArrayLike,
    terminated: ArrayLike,
    following: ArrayLike,
    gamma: float = 0.99,
    online: ArrayLike | None = None,
) -> Tensor:
    """y = r + γ (1 − d) max_a Q⁻(s′, a), or with `online`, Q(s′, ·), double Q-learning's r + γ (1 − d) Q⁻(s′, argmax_a Q(s′, a)).

    Shapes: reward and terminated (n,), `following`, the target network's Q⁻(s′, ·), and `online` (n, actions) → (n,); no gradient.

    >>> import anynet as an
    >>> target, online = an.asarray([[1.0, 3.0]]), an.asarray([[2.0, 1.0]])
    >>> one, zero = an.ones(1), an.zeros(1)
    >>> an.methods.td_targets(one, zero, target, 0.5).item(), an.methods.td_targets(one, zero, target, 0.5, online).item()
    (2.5, 1.5)

    Source: Mnih et al. (2015), algorithm 1; van Hasselt et al. (2016), equation 4.
    """
    following = asarray(following).detach()
    if following.ndim != 2 or (online is not None and tuple(online.shape) != tuple(following.shape)):
        msg = f"td_targets: values must have the shape (n, actions), got {tuple(following.shape)}"
        raise ShapeError(msg)
    if online is None:
        value = max_over(following, axis=1)
    else:
        chosen = expand_dims(argmax(asarray(online).detach(), axis=1), axis=1)
        value = take_along_axis(following, chosen, axis=1)[:, 0]
    alive = 1.0 - astype(asarray(terminated), value.dtype)
    return (asarray(reward) + gamma * alive * value).detach()


class DQN(Module):
    """A network of action values with a target copy: loss = Huber(Q(s, a) − y), y as `td_targets` says.

    `forward(batch)` is the loss of `Transitions`; `act(observation)` the greedy action; `update_target(tau)` moves the copy:
    θ⁻ ← (1 − τ) θ⁻ + τ θ, all of the way unless τ is given.

    Parameters: `network`, a Module (n, …) → (n, actions); `gamma`; `double`, for double DQN.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> dqn = an.methods.DQN(an.nn.Linear(4, 2), double=True)
    >>> dqn.act((0.0, 0.1, 0.0, 0.0)) in (0, 1)
    True

    Source: Mnih et al. (2015); van Hasselt et al. (2016).
    """

    def __init__(self, network: Module, gamma: float = 0.99, double: bool = False) -> None:
        self.gamma = check_number("DQN", "gamma", gamma, 0, 1)
        self.two_networks = bool(double)  # Module.double is the conversion to float64
        self.network = network
        self.target = copy.deepcopy(network)
        for p in self.target.parameters():
            p.requires_grad = False

    def forward(self, batch: Transitions) -> Tensor:
        """The loss of a batch."""
        values = self.network(batch.observation)
        chosen = take_along_axis(values, expand_dims(asarray(batch.action), axis=1), axis=1)[:, 0]
        with no_grad():
            online = self.network(batch.following) if self.two_networks else None
            following = self.target(batch.following)
        y = td_targets(batch.reward, batch.terminated, following, self.gamma, online)
        return F.smooth_l1_loss(chosen, y)

    def act(self, observation: Any) -> int:
        """The action of the largest value."""
        first = next(iter(self.network.parameters()))
        with no_grad():
            x = asarray(
                [observation] if isinstance(observation, tuple) else observation,
                dtype=first.dtype,
                device=first.device,
            )
            values = self.network(x if isinstance(observation, tuple) else expand_dims(x, axis=0))
            row = values.tolist()[0]
        return int(row.index(max(row)))

    def update_target(self, tau: float = 1.0) -> None:
        """θ⁻ ← (1 − τ) θ⁻ + τ θ."""
        check_number("update_target", "tau", tau, 0, 1)
        with no_grad():
            for mine, theirs in zip(self.target.parameters(), self.network.parameters(), strict=True):
                mine.assign_(
                    theirs.detach() if tau == 1 else (1.0 - tau) * mine.detach() + tau * theirs.detach()
                )


# Over 60 lines, of which half are code: the signature and what each option means belong where help(train_dqn) looks.
def train_dqn(
    dqn: DQN,
    env: Any,
    optimizer: Optimizer,
    steps: int,
    *,
    buffer: ReplayBuffer | None = None,
    batch_size: int = 64,
    begin: int = 1000,
    train_every: int = 1,
    updates: int = 1,
    target_every: int = 500,
    tau: float = 1.0,
    epsilon: tuple[float, float] = (1.0, 0.05),
    exploration: float = 0.3,
    max_grad_norm: float | None = 10.0,
    seed: int = 0,
    after: Callable[[int, list[float]], Any] | None = None,
) -> list[float]:
    """Train for `steps` steps of the environment; the returns of the episodes.

    Parameters:
      buffer: where transitions are kept (50,000 of the environment's `observation_shape` unless given).
      begin: steps before the first update; train_every: steps between times of updating, `updates` of `batch_size` each.
      target_every, tau: after so many steps `DQN.update_target(tau)`.
      epsilon, exploration: the share of random actions falls on a line from the first to the second in this share of the steps.
      max_grad_norm: gradients are clipped to this norm; None leaves them.
      after: called after each time of updating with the step and the returns so far; True ends the training.

    Errors: ValueError for numbers out of their ranges.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> dqn = an.methods.DQN(an.nn.Linear(4, 2))
    >>> optimizer = an.optim.Adam(dqn.network.parameters())
    >>> len(an.methods.train_dqn(dqn, an.methods.CartPole(), optimizer, 200, begin=100)) > 2
    True
    """
    counts = {
        "steps": steps,
        "batch_size": batch_size,
        "train_every": train_every,
        "updates": updates,
        "target_every": target_every,
    }
    for name, count in counts.items():
        check_count("train_dqn", name, count)
    check_number("train_dqn", "exploration", exploration, 0, 1)
    for value in epsilon:
        check_number("train_dqn", "epsilon", value, 0, 1)
    first = next(iter(dqn.network.parameters()))
    if buffer is None:
        buffer = ReplayBuffer(50_000, env.observation_shape, seed, first.device)
    draws, returns, total = _Draws(seed), [], 0.0
    observation, _ = env.reset()
    parameters = list(dqn.network.parameters())
    for step in range(1, steps + 1):
        share = min(1.0, step / max(1.0, exploration * steps))
        if draws.uniform() < epsilon[0] + share * (epsilon[1] - epsilon[0]):
            action = draws.integer(env.n_actions)
        else:
            action = dqn.act(observation)
        following, reward, terminated, truncated, _ = env.step(action)
        buffer.add(observation, action, reward, following, terminated)
        observation, total = following, total + reward
        if terminated or truncated:
            returns.append(total)
            total = 0.0
            observation, _ = env.reset()
        if step >= begin and step % train_every == 0:
            for _ in range(updates):
                _update(dqn, optimizer, buffer.sample(batch_size), parameters, max_grad_norm)
            if after is not None and after(step, returns) is True:
                break
        if step % target_every == 0:
            dqn.update_target(tau)
    return returns


def _update(
    dqn: DQN, optimizer: Optimizer, batch: Transitions, parameters: list[Any], max_grad_norm: float | None
) -> None:
    optimizer.zero_grad()
    dqn(batch).backward()
    if max_grad_norm is not None:
        clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()


def evaluate_policy(policy: Callable[[Any], int], env: Any, episodes: int = 100) -> list[float]:
    """The returns of episodes in which ``policy(observation)`` acts.

    >>> import anynet as an
    >>> returns = an.methods.evaluate_policy(lambda o: int(o[2] > 0), an.methods.CartPole(), 3)
    >>> len(returns), max(returns) < 100
    (3, True)
    """
    check_count("evaluate_policy", "episodes", episodes)
    returns = []
    for _ in range(episodes):
        observation, _ = env.reset()
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    return returns

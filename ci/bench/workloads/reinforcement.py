"""Agents: one update from a batch of experience."""

from __future__ import annotations

from typing import Any

import numpy as np

from ci.bench.library import F, nn, no_grad, optimizer, parameters, xp
from ci.bench.workload import Training, integers, normal, uniform, workload


def _mlp(inputs: int, width: int, outputs: int, act: Any = nn.ReLU) -> Any:
    return nn.Sequential(
        nn.Linear(inputs, width), act(), nn.Linear(width, width), act(), nn.Linear(width, outputs)
    )


@workload(
    "reinforcement", "DQN for CartPole, 4-128-128-2, Huber loss", batch=128, source="PyTorch's DQN tutorial"
)
def dqn(batch: int) -> Training:
    net, target = _mlp(4, 128, 2), _mlp(4, 128, 2)
    update = optimizer(net.parameters(), "adamw", 1e-4)

    def step(state: Any, action: Any, reward: Any, after: Any, going: Any) -> Any:
        with no_grad():
            best = xp.max(target(after), axis=1)
        q = xp.take_along_axis(net(state), action, axis=1)[:, 0]
        loss = F.smooth_l1_loss(q, reward + 0.99 * going * best)
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    data = (
        normal(batch, 4), integers(batch, 1, below=2), uniform(batch), normal(batch, 4, seed=1),
        uniform(batch, seed=2).round().astype(np.float32)
    )  # fmt: skip
    return Training((net, target), None, data, step=step, forward=net)


@workload(
    "reinforcement",
    "DQN for Atari, 4 × 84×84",
    batch=16,
    source="Mnih et al. 2015; vwxyzjn/cleanrl dqn_atari.py",
)
def dqn_atari(batch: int) -> Training:
    def network() -> Any:
        return nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(), nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6),
        )  # fmt: skip

    net, target = network(), network()
    update = optimizer(net.parameters(), "adam", 1e-4)

    def step(state: Any, action: Any, reward: Any, after: Any) -> Any:
        with no_grad():
            best = xp.max(target(after / 255.0), axis=1)
        q = xp.take_along_axis(net(state / 255.0), action, axis=1)[:, 0]
        loss = F.mse_loss(q, reward + 0.99 * best)
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    data = (
        uniform(batch, 4, 84, 84, high=255.0), integers(batch, 1, below=6), uniform(batch), uniform(batch, 4, 84, 84, high=255.0, seed=1)
    )  # fmt: skip
    return Training((net, target), None, data, step=step, forward=net)


@workload(
    "reinforcement",
    "PPO for CartPole, clipped surrogate, 2 × 64 tanh",
    batch=128,
    source="vwxyzjn/cleanrl ppo.py",
)
def ppo(batch: int) -> Training:
    actor, critic = _mlp(4, 64, 2, nn.Tanh), _mlp(4, 64, 1, nn.Tanh)
    update = optimizer(parameters(actor, critic), "adam", 2.5e-4)

    def step(state: Any, action: Any, old: Any, advantage: Any, returns: Any) -> Any:
        logp = F.log_softmax(actor(state), dim=-1)
        entropy = -xp.mean(xp.sum(xp.exp(logp) * logp, axis=-1))
        ratio = xp.exp(xp.take_along_axis(logp, action, axis=1)[:, 0] - old)
        advantage = (advantage - xp.mean(advantage)) / (xp.std(advantage) + 1e-8)
        policy = xp.mean(xp.maximum(-advantage * ratio, -advantage * xp.clip(ratio, 0.8, 1.2)))
        value = 0.5 * xp.mean((critic(state)[:, 0] - returns) ** 2)
        loss = policy - 0.01 * entropy + 0.5 * value
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    data = (
        normal(batch, 4),
        integers(batch, 1, below=2),
        -uniform(batch),
        normal(batch),
        normal(batch, seed=1),
    )
    return Training((actor, critic), None, data, step=step, forward=actor)


@workload(
    "reinforcement",
    "soft actor-critic, two critics and actor, 256 wide",
    batch=256,
    source="vwxyzjn/cleanrl sac_continuous_action.py",
)
def sac(batch: int) -> Training:
    actor, q1, q2 = _mlp(17, 256, 12), _mlp(23, 256, 1), _mlp(23, 256, 1)
    of_q, of_actor = optimizer(parameters(q1, q2), "adam", 1e-3), optimizer(actor.parameters(), "adam", 3e-4)

    def sample(state: Any, noise: Any) -> Any:
        y = actor(state)
        mean, log_std = y[:, :6], 3.5 * (F.tanh(y[:, 6:]) + 1.0) - 5.0
        action = F.tanh(mean + xp.exp(log_std) * noise)
        logp = -0.5 * noise**2 - log_std - xp.log(1.0 - action**2 + 1e-6)
        return action, xp.sum(logp, axis=1)

    def step(state: Any, action: Any, target: Any, noise: Any) -> Any:
        both = xp.concat([state, action], axis=1)
        loss_q = F.mse_loss(q1(both)[:, 0], target) + F.mse_loss(q2(both)[:, 0], target)
        of_q.zero_grad()
        loss_q.backward()
        of_q.step()
        new, logp = sample(state, noise)
        both = xp.concat([state, new], axis=1)
        loss = xp.mean(0.2 * logp - xp.minimum(q1(both)[:, 0], q2(both)[:, 0]))
        of_actor.zero_grad()
        loss.backward()
        of_actor.step()
        return loss_q.detach() + loss.detach()

    data = normal(batch, 17), uniform(batch, 6, low=-1), normal(batch), normal(batch, 6, seed=1)
    return Training((actor, q1, q2), None, data, step=step, forward=actor)


@workload(
    "reinforcement",
    "REINFORCE on 500 steps of CartPole",
    batch=500,
    source="pytorch/examples reinforcement_learning/reinforce.py",
)
def reinforce(batch: int) -> Training:
    net = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 2))

    def loss(state: Any, action: Any, returns: Any) -> Any:
        logp = F.log_softmax(net(state), dim=1)
        returns = (returns - xp.mean(returns)) / (xp.std(returns) + 1e-6)
        return -xp.sum(xp.take_along_axis(logp, action, axis=1)[:, 0] * returns)

    return Training(net, loss, (normal(batch, 4), integers(batch, 1, below=2), normal(batch)), lr=1e-2)

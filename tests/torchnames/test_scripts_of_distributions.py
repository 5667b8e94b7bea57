"""Training loops with distributions, as they are written for PyTorch: here and there they leave the same losses."""

import importlib

import numpy as np
import pytest

SCRIPTS = {
    "a variational autoencoder": """
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12))

    def forward(self, x):
        mu, log_sigma = self.encoder(x).chunk(2, dim=-1)
        posterior = Normal(mu, log_sigma.exp())
        z = posterior.rsample()
        return posterior, Bernoulli(logits=self.decoder(z))

net = begun(VAE())
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
data = (numbers(16, 12) > 0).to(torch.get_default_dtype())
prior = Normal(torch.zeros(4), torch.ones(4))
for step in steps():
    posterior, likelihood = net(data)
    kl = kl_divergence(posterior, prior).sum(-1)
    loss = (kl - likelihood.log_prob(data).sum(-1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
""",
    "a policy gradient": """
policy = begun(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
for episode in steps():
    state, log_probs, entropies, rewards = numbers(4), [], [], []
    for t in range(10):
        m = Categorical(logits=policy(state.unsqueeze(0)))
        action = m.sample()
        log_probs.append(m.log_prob(action))
        entropies.append(m.entropy())
        rewards.append(1.0 if action.item() == 1 else -0.1)
        state = state.roll(1) + 0.1 * action.item()
    returns, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + 0.9 * total
        returns.insert(0, total)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + 1e-6)
    loss = -(torch.cat(log_probs) * returns).sum() - 0.01 * torch.cat(entropies).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
""",
    "a normalizing flow": """
loc = nn.Parameter(torch.zeros(2))
log_scale = nn.Parameter(torch.zeros(2))
shift = nn.Parameter(torch.full((2,), 0.1))
optimizer = torch.optim.Adam([loc, log_scale, shift], lr=1e-2)
data = torch.exp(0.5 * numbers(32, 2) + 1.0) + 0.5
base = Normal(torch.zeros(2), torch.ones(2))
for step in steps():
    flow = TransformedDistribution(
        base, [AffineTransform(loc, log_scale.exp()), ExpTransform(), AffineTransform(shift, torch.ones(2))])
    loss = -flow.log_prob(data).sum(-1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    losses.append(flow.rsample((5,)).mean().item())
""",
    "a mixture": """
logits, means, raw = (nn.Parameter(numbers(3)) for _ in range(3))
optimizer = torch.optim.Adam([logits, means, raw], lr=5e-2)
data = torch.cat([numbers(20) * 0.3 - 2.0, numbers(20) * 0.5 + 1.0])
for step in steps():
    mixture = MixtureSameFamily(Categorical(logits=logits), Normal(means, torch.nn.functional.softplus(raw) + 1e-3))
    loss = -mixture.log_prob(data).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    losses.append(mixture.mean.item() + mixture.variance.item())
""",
    "a squashed gaussian policy": """
actor = begun(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)))
critic = begun(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)))
optimizer = torch.optim.Adam(actor.parameters(), lr=1e-2)
states = numbers(16, 6)
for step in steps():
    mu, log_std = actor(states).chunk(2, dim=-1)
    gaussian = Independent(Normal(mu, log_std.clamp(-5, 2).exp()), 1)
    u = gaussian.rsample()
    action = torch.tanh(u)
    log_prob = gaussian.log_prob(u) - torch.log(1 - action.pow(2) + 1e-6).sum(-1)
    value = critic(torch.cat([states, action], dim=-1)).squeeze(-1)
    loss = (0.2 * log_prob - value - 1e-3 * gaussian.entropy()).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
""",
}


def losses_of(name, room, steps, monkeypatch=None, kind="float64"):
    """The losses of a script; with `monkeypatch` all chance comes from NumPy."""
    torch = importlib.import_module(room)
    families = importlib.import_module(f"{room}.distributions")
    draw, losses = np.random.default_rng(1), []

    def numbers(*shape):
        return torch.tensor(draw.normal(size=shape)).to(torch.get_default_dtype())

    def begun(net):
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(0.3 * numbers(*p.shape))
        return net

    def normal(self, sample_shape=(), **_):
        return self.loc + self.scale * numbers(*sample_shape, *self.loc.shape)

    def category(self, sample_shape=(), **_):
        p = self.probs.detach().double().numpy()
        return torch.tensor(np.array([draw.choice(len(row), p=row / row.sum()) for row in p]))

    if monkeypatch is not None:
        monkeypatch.setattr(families.Normal, "rsample", normal)
        monkeypatch.setattr(families.Categorical, "sample", category)
    torch.set_default_dtype(getattr(torch, kind))
    try:
        names = {
            "torch": torch,
            "nn": torch.nn,
            "numbers": numbers,
            "begun": begun,
            "losses": losses,
            "steps": steps,
        }
        exec(SCRIPTS[name], names | {n: getattr(families, n) for n in dir(families) if n[0] != "_"})
    finally:
        torch.set_default_dtype(torch.float32)
    return losses


@pytest.mark.parametrize("name", SCRIPTS)
def test_losses_are_those_of_pytorch(name, monkeypatch):
    pytest.importorskip("torch")
    here, there = (
        losses_of(name, room, lambda: range(12), monkeypatch) for room in ("anynet.torch", "torch")
    )
    assert len(here) >= 12
    assert np.isfinite(here).all()
    np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-9)

"""A generator and a discriminator, trained against each other."""

import torch
import torch.nn as nn

torch.manual_seed(0)
generator = nn.Sequential(
    nn.Linear(64, 256), nn.BatchNorm1d(256), nn.LeakyReLU(0.2, inplace=True), nn.Linear(256, 784), nn.Tanh()
)
discriminator = nn.Sequential(
    nn.Linear(784, 256), nn.LeakyReLU(0.2, inplace=True), nn.Linear(256, 1), nn.Sigmoid()
)
criterion = nn.BCELoss()
first = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
second = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
pictures = torch.rand(2048, 784) * 2 - 1
while True:
    for real in pictures.split(64):
        valid, fake = torch.ones(real.size(0), 1), torch.zeros(real.size(0), 1)
        z = torch.randn(real.shape[0], 64)
        made = generator(z)
        first.zero_grad()
        loss = criterion(discriminator(made), valid)
        loss.backward()
        first.step()
        second.zero_grad()
        loss = (criterion(discriminator(real), valid) + criterion(discriminator(made.detach()), fake)) / 2
        loss.backward()
        second.step()

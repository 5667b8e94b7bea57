"""The next character by an LSTM, whose gradients are clipped."""

import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, tokens=64, width=128):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, tokens)

    def forward(self, x, state):
        y, state = self.lstm(self.embedding(x), state)
        return self.head(y), state


torch.manual_seed(0)
text = torch.randint(0, 64, (32, 1025))
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()
while True:
    state = (torch.zeros(2, 32, 128), torch.zeros(2, 32, 128))
    for i in range(0, 1024, 32):
        logits, state = model(text[:, i : i + 32], state)
        state = tuple(s.detach() for s in state)
        loss = criterion(logits.reshape(-1, 64), text[:, i + 1 : i + 33].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()

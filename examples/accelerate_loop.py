"""Train by a local rule in a loop of Hugging Face accelerate: the learner is prepared like any model.

    pip install '.[peers]'
    python examples/accelerate_loop.py                      handwritten digits, 15 s on one CPU core
    accelerate launch examples/accelerate_loop.py           on the devices and in the precision that you configured

`learner(x, y)` is the loss, `accelerator.backward` fills the gradients. Prints the test accuracy.
"""

import argparse

import accelerate
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import infohebb
from infohebb.data import digits

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs

accelerate.utils.set_seed(0)
data = digits()
train, test = (TensorDataset(data.normalise(split.inputs), split.targets) for split in (data.train, data.test))
hidden = [layer for n in (64, 128, 128) for layer in (nn.Linear(n, 128), nn.ReLU())]
model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))
learner = infohebb.Learner(model, infohebb.KernelizedBottleneck("cosine", groups=16))
optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2), weight_decay=0.0)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)

accelerator = accelerate.Accelerator()
loaders = DataLoader(train, batch_size=100, shuffle=True), DataLoader(test, batch_size=100)
learner, optimizer, scheduler, train_loader, test_loader = accelerator.prepare(learner, optimizer, scheduler, *loaders)
for _ in range(epochs):
    learner.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = learner(x, y)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(learner.parameters(), 10.0)
        optimizer.step()
    scheduler.step()

model = accelerator.unwrap_model(learner).model.eval()
with torch.no_grad():
    correct = [accelerator.gather_for_metrics(model(x).argmax(1) == y) for x, y in test_loader]
accelerator.print(f"test accuracy {100 * float(torch.cat(correct).float().mean()):.1f} %")

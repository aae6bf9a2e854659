"""Train by a local rule in Lightning: the learner is part of a LightningModule, and the Trainer does the rest.

    pip install '.[peers]'
    python examples/lightning_module.py        handwritten digits, 20 s on one CPU core

Manual optimisation calls `learner.backward`, which frees the graph of each unit before the next one runs: we recommend
it. With --automatic the training step returns `learner(x, y)`, a loss with the same gradients, which keeps all graphs
until Lightning calls its backward, and so needs as much memory as backprop. Prints the test accuracy.
"""

import argparse

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import infohebb
from infohebb.data import digits


class LocalLearning(lightning.LightningModule):
    def __init__(self, learner: infohebb.Learner, automatic: bool = False):
        super().__init__()
        self.learner, self.automatic_optimization = learner, automatic

    def training_step(self, batch, batch_index):
        if self.automatic_optimization:
            return self.learner(*batch)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        step = self.learner.backward(*batch)
        optimizer.step()
        self.log("loss", step.loss)
        return None

    def test_step(self, batch, batch_index):
        x, y = batch
        self.log("accuracy", 100 * (self.learner.model(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.learner.param_groups(units=1e-3, head=1e-2), weight_decay=0.0)


parser = argparse.ArgumentParser()
parser.add_argument("--automatic", action="store_true")
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()
lightning.seed_everything(0)
data = digits()
train, test = (TensorDataset(data.normalise(split.inputs), split.targets) for split in (data.train, data.test))
hidden = [layer for n in (64, 128, 128) for layer in (nn.Linear(n, 128), nn.ReLU())]
model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))
module = LocalLearning(infohebb.Learner(model, infohebb.KernelizedBottleneck("cosine", groups=16)), args.automatic)
trainer = lightning.Trainer(max_epochs=args.epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(module, DataLoader(train, batch_size=100, shuffle=True))
(scores,) = trainer.test(module, DataLoader(test, batch_size=100), verbose=False)
print(f"test accuracy {scores['accuracy']:.1f} %")

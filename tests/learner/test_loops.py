"""The learner in loops that others wrote: data parallel, gradient scaling, closures, averaged weights."""

import copy

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, update_bn

from infohebb import KernelizedBottleneck, LayerwiseClassification, Learner
from learner.nets import ResNet, gradients, images, largest_difference, rows, sequential

UNITS = ["stem", "layers.*"]


def test_data_parallel_over_one_process_leaves_the_gradients_of_backward(tmp_path):
    torch.manual_seed(0)
    learner, (x, y) = Learner(ResNet().double(), KernelizedBottleneck("cosine"), units=UNITS), images()
    other = copy.deepcopy(learner)
    learner.backward(x, y)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        DistributedDataParallel(other)(x, y).backward()
    finally:
        distributed.destroy_process_group()
    assert largest_difference(gradients(other), gradients(learner)) < 1e-14


def test_a_gradient_scaler_steps_as_without_it():
    torch.manual_seed(0)
    found, (x, y) = [], rows()
    for scaled in ("loss", "backward", "no"):
        torch.manual_seed(0)
        learner = Learner(sequential().double(), LayerwiseClassification(), example=(64,))
        optimizer = torch.optim.SGD(learner.param_groups(units=0.1, head=0.1, rule=0.1))
        scaler = torch.amp.GradScaler("cpu")
        if scaled == "loss":
            scaler.scale(learner(x, y)).backward()
            scaler.step(optimizer)
        else:
            learner.backward(x, y, scale=scaler if scaled == "backward" else 1.0)
            scaler.step(optimizer) if scaled == "backward" else optimizer.step()
        found.append({name: p.detach().clone() for name, p in learner.named_parameters()})
    assert largest_difference(found[0], found[2]) < 1e-12
    assert largest_difference(found[1], found[2]) < 1e-12


def test_a_closure_of_an_optimizer_that_asks_for_the_loss():
    torch.manual_seed(0)
    learner, (x, y) = Learner(sequential().double(), KernelizedBottleneck(sigma=2.0)), rows()
    optimizer = torch.optim.LBFGS(learner.parameters(), max_iter=5)

    def closure():
        optimizer.zero_grad()
        loss = learner(x, y)
        loss.backward()
        return loss.detach()

    before = optimizer.step(closure)
    assert learner(x, y).detach() < before


def test_averaged_weights_and_their_batch_norm():
    torch.manual_seed(0)
    learner, (x, y) = Learner(ResNet().double(), KernelizedBottleneck("cosine"), units=UNITS), images()
    optimizer, average = torch.optim.AdamW(learner.param_groups(units=1e-2, head=1e-2)), AveragedModel(learner.model)
    for _ in range(3):
        optimizer.zero_grad()
        learner.backward(x, y)
        optimizer.step()
        average.update_parameters(learner.model)
    update_bn([x], average)
    assert average(x).shape == (24, 10)
    assert not torch.equal(average.module.fc.weight, learner.model.fc.weight)


def test_micro_batches_add_up_to_a_kernel_for_each():
    torch.manual_seed(0)
    learner, (x, y) = Learner(sequential().double(), KernelizedBottleneck(sigma=2.0)), rows()
    parts = []
    for half in (slice(0, 12), slice(12, 24)):
        learner.zero_grad()
        learner.backward(x[half], y[half])
        parts.append(gradients(learner))
    learner.zero_grad()
    learner.backward(x[:12], y[:12])
    learner.backward(x[12:], y[12:], accumulate=True)
    both = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    assert largest_difference(gradients(learner), both) < 1e-14


def test_training_lowers_the_objective_and_the_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(), nn.Linear(64, 10))
    learner, (x, y) = Learner(model, KernelizedBottleneck("cosine")), rows(48, torch.float32)
    optimizer, seen = torch.optim.AdamW(learner.param_groups(units=1e-2, head=1e-2)), []
    for _ in range(30):
        optimizer.zero_grad()
        step = learner.backward(x, y)
        seen.append((float(step.terms["0:2"]["objective"]), float(step.loss)))
        optimizer.step()
    assert seen[-1][0] < seen[0][0] - 0.1
    assert seen[-1][1] < seen[0][1] / 4

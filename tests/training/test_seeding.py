import torch
from training_toys import data, network, rule, same, weights

from infohebb import train
from infohebb.training.seeding import random_state, restore_random_state, seeded


def run(seed, **options):
    net = network(dropout=0.3)
    curves = train(net, rule(), data(), epochs=2, batch=20, seed=seed, **options)
    return weights(net), curves["train_loss"]


def test_one_seed_gives_the_same_bits_and_another_does_not():
    (first, losses), (again, losses_again), (other, _) = run(3), run(3), run(4)
    assert same(first, again)
    assert losses == losses_again
    assert not same(first, other)


def test_the_callers_generator_is_left_alone():
    torch.manual_seed(7)
    undisturbed = torch.rand(4)
    torch.manual_seed(7)
    run(3)
    assert torch.equal(torch.rand(4), undisturbed)


def test_without_a_seed_the_callers_generator_draws():
    torch.manual_seed(7)
    first, _ = run(None)
    moved = torch.get_rng_state()
    torch.manual_seed(7)
    assert not torch.equal(torch.get_rng_state(), moved)
    again, _ = run(None)
    assert same(first, again)
    assert not same(first, run(None)[0])


def test_seeded_is_undone_after_an_error():
    state = torch.get_rng_state()
    try:
        with seeded(1):
            torch.rand(3)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), state)


def test_random_state_continues_where_it_was():
    torch.manual_seed(1)
    state = random_state()
    drawn = torch.rand(5)
    torch.rand(5)
    restore_random_state(state)
    assert torch.equal(torch.rand(5), drawn)


def test_a_forked_process_can_train_while_a_thread_of_its_parent_does(python):
    answer = python("""
import os, signal, threading
from infohebb.training.seeding import seeded

inside, done = threading.Event(), threading.Event()

def trains():
    with seeded(1):
        inside.set()
        done.wait()

thread = threading.Thread(target=trains)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(5)
    with seeded(2), seeded(3):
        os._exit(0)
print(os.waitpid(child, 0)[1])
done.set()
thread.join()
""")
    assert answer.out == "0\n", answer.err

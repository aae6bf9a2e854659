import numpy as np
import pytest
import torch
from training_toys import data, network, same, weights

from infohebb import evaluate, predict
from infohebb.data import DataSet, Split
from infohebb.errors import EmptyBatchError, MismatchError, NonFiniteDataError
from infohebb.training.evaluation import score


class Fixed(torch.nn.Module):
    """Answers with its inputs."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x


def test_accuracy_counts_over_uneven_batches():
    pairs = [
        (torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1])),
        (torch.tensor([[0.0, 1.0]]), torch.tensor([1])),
    ]
    assert score(Fixed(), pairs) == ("accuracy", pytest.approx(100 * 2 / 3))


def test_error_is_a_mean_over_all_numbers():
    pairs = [
        (torch.zeros(2, 2), torch.tensor([[1.0, 3.0], [0.0, 0.0]])),
        (torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])),
    ]
    assert score(Fixed(), pairs) == ("error", pytest.approx((1 + 9 + 0 + 0 + 4 + 0) / 6))


def test_a_data_set_is_scored_on_its_test_samples_normalised():
    images = Split(torch.tensor([[3, 0], [0, 3], [3, 0]], dtype=torch.uint8), torch.tensor([1, 0, 0]))
    dataset = DataSet("flipped", images, images, 2, normalise=lambda x: -x.float())
    assert evaluate(Fixed(), dataset) == {"accuracy": pytest.approx(100 * 2 / 3)}


def test_evaluation_changes_nothing():
    net = network(dropout=0.5, norm="batch")
    before = weights(net)
    first = evaluate(net, data())
    assert evaluate(net.train(), data()) == first
    assert same(weights(net), before)


def test_no_samples_are_no_score():
    with pytest.raises(EmptyBatchError, match="no samples"):
        score(Fixed(), [])
    with pytest.raises(EmptyBatchError, match="no test samples"):
        evaluate(network(), DataSet("train only", data().train, None, 2))


def test_predict_gives_one_row_of_outputs_per_sample_whatever_the_batch():
    inputs = np.random.default_rng(0).normal(size=(11, 8))
    net = network()
    outputs = predict(net, inputs, batch=4)
    assert outputs.shape == (11, 2)
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, net(torch.from_numpy(inputs).float()).detach())
    torch.testing.assert_close(predict(net, inputs.tolist()), outputs)


@pytest.mark.parametrize(
    ("error", "inputs"),
    [(EmptyBatchError, np.zeros((0, 8))), (NonFiniteDataError, np.full((2, 8), np.nan)), (MismatchError, np.zeros(8))],
)
def test_predict_refuses_what_is_no_sample(error, inputs):
    with pytest.raises(error):
        predict(network(), inputs)

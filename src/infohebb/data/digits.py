"""Scikit-learn's handwritten digits: 1797 images of 8 × 8, on every machine without a download."""

import numpy as np

from infohebb.data.dataset import DataSet, from_arrays

TEST_SAMPLES = 360


def digits() -> DataSet:
    """1437 training and 360 test images (n, 1, 8, 8), float32 in [-1, 1], ten classes.

    The split is fixed: stratified by class, drawn with seed 0.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    scaled = (images / 8 - 1).astype(np.float32).reshape(-1, 1, 8, 8)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_SAMPLES, stratify=labels, random_state=0)
    return from_arrays(scaled[train], labels[train], scaled[test], labels[test], classes=10, name="digits")

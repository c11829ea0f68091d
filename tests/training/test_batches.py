import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.training.batches import balanced, shuffled


def take(stream, count):
    return list(itertools.islice(stream, count))


@given(n=st.integers(1, 60), size=st.integers(1, 40), seed=st.integers(0, 9))
def test_an_epoch_sees_every_example_once_in_even_batches(n, size, seed):
    per_epoch = -(-n // size)
    batches = take(shuffled(n, seed)(size), 2 * per_epoch)
    for epoch in (batches[:per_epoch], batches[per_epoch:]):
        assert sorted(np.concatenate(epoch)) == list(range(n))
        sizes = [batch.size for batch in epoch]
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
    again = take(shuffled(n, seed)(size), 2 * per_epoch)
    assert all(map(np.array_equal, batches, again))


LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=60)


@given(labels=LABELS, size=st.integers(2, 40), seed=st.integers(0, 9))
def test_every_class_in_a_balanced_batch_has_company(labels, size, seed):
    labels = np.array(labels)
    classes = np.unique(labels)
    shown = min(classes.size, size // 2)
    batches = take(balanced(labels, seed)(size), 12)
    for batch in batches:
        assert batch.size == size
        names, counts = np.unique(labels[batch], return_counts=True)
        assert names.size == shown
        assert counts.min() >= 2
        assert counts.max() - counts.min() <= 1
        for name, count in zip(names, counts, strict=True):
            members = batch[labels[batch] == name]
            most = int((labels == name).sum())
            assert np.unique(members).size == min(count, most)
    again = take(balanced(labels, seed)(size), 12)
    assert all(map(np.array_equal, batches, again))


def test_classes_and_examples_take_turns():
    labels = np.repeat(np.arange(10), 6)
    batches = take(balanced(labels, seed=0)(8), 15)  # 4 of 10 classes a batch
    seen = np.concatenate(batches)
    assert np.unique(labels[seen[:24]]).size == 10  # all within 3 batches
    assert np.unique(seen).size == 60  # 120 places, no example left out

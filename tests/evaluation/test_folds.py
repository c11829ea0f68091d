import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_automl.errors import DataError
from fewshot_automl.evaluation.folds import Folds, choose_folds


def shots(classes, k):
    return np.repeat(np.arange(classes), k)


def check(folds: Folds, labels, groups=None):
    for repeat, partition in enumerate(folds.repeats):
        covered = np.concatenate([fold.validation for fold in partition])
        assert sorted(covered) == list(range(len(labels)))
        for fold in partition:
            assert fold.repeat == repeat
            assert fold.validation.size
            assert sorted([*fold.train, *fold.validation]) == list(range(len(labels)))
            assert set(labels[fold.train]) == set(labels)
            if groups is not None:
                groups = np.asarray(groups)
                assert not set(groups[fold.train]) & set(groups[fold.validation])


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(2, 12), min_size=2, max_size=8),
    seed=st.integers(0, 2**32 - 1),
    max_folds=st.integers(2, 8),
)
def test_every_partition_covers_all_and_trains_on_every_class(counts, seed, max_folds):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(seed).permutation(labels)
    folds = choose_folds(labels, seed=seed, max_folds=max_folds)
    check(folds, labels)
    assert len(folds.first) >= min(max_folds, *counts)
    for fold in folds:
        held = np.bincount(labels[fold.validation], minlength=len(counts))
        share = np.array(counts) / len(folds.first)
        assert (held >= np.floor(share)).all()
        assert (held <= np.ceil(share)).all()


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 999))
def test_groups_that_mix_classes_never_leak(data, seed):
    n = data.draw(st.integers(6, 40))
    classes = data.draw(st.integers(2, 4))
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=n)))
    groups = [f"g{data.draw(st.integers(0, n))}" for _ in labels]
    try:
        folds = choose_folds(labels, groups=groups, seed=seed)
    except DataError:
        return
    check(folds, labels, groups)


@pytest.mark.parametrize(
    ("n", "repeats"), [(16, 5), (32, 4), (48, 3), (64, 2), (128, 1), (500, 1)]
)
def test_small_data_get_more_repeats(n, repeats):
    folds = choose_folds(shots(2, n // 2), seed=0)
    assert len(folds.repeats) == repeats
    assert len(folds.first) == 5
    assert len(choose_folds(shots(2, n // 2), seed=0, max_repeats=1).repeats) == 1


def test_first_repeat_does_not_depend_on_their_number():
    many = choose_folds(shots(3, 6), seed=5)
    one = choose_folds(shots(3, 6), seed=5, max_repeats=1)
    assert (many.assignment[0] == one.assignment[0]).all()
    assert (choose_folds(shots(3, 6), seed=5).assignment == many.assignment).all()
    other = choose_folds(shots(3, 6), seed=6)
    assert (other.assignment[0] != many.assignment[0]).any()


def test_a_rare_class_does_not_halve_the_training_data():
    labels = np.array([0] * 50 + [1] * 50 + [2] * 2)
    folds = choose_folds(labels, seed=0)
    assert len(folds.first) == 5
    check(folds, labels)
    few = np.array([0] * 5 + [1] * 5 + [2] * 2)
    assert len(choose_folds(few, seed=0).first) == 2


def test_duplicates_do_not_count_as_distinct():
    labels = np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(DataError, match="2 distinct examples"):
        choose_folds(labels, groups=["a", "a", "a", "b", "c", "d"], seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "got none"),
        ([0, 0, -1, 1, 1], "unlabelled"),
        ([0, 0, 1], "2 distinct examples"),
    ],
)
def test_labels_that_cannot_be_split_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        choose_folds(np.array(labels, dtype=np.int64), seed=0)


def test_impossible_groups_are_refused():
    labels = np.array([0, 1, 1, 2, 2, 0])
    groups = [0, 0, 1, 1, 2, 2]
    check(choose_folds(labels, groups=groups, seed=0), labels, groups)
    with pytest.raises(DataError, match="equal content"):
        choose_folds(labels, groups=groups, seed=0, max_folds=2)


def test_examples_may_be_in_several_strata_or_in_none():
    rng = np.random.default_rng(0)
    strata = (rng.random((60, 5)) < 0.3).astype(np.int64)
    folds = choose_folds(strata, seed=0, max_folds=4)
    for fold in folds.first:
        held = strata[fold.validation].sum(axis=0)
        assert (abs(held - strata.sum(axis=0) / 4) <= 2).all()
        assert 13 <= len(fold.validation) <= 17

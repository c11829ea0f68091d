"""Heads for classes: their strengths chosen by cross-validated log loss.

All strengths of a kind of head are solved at once (a path), hundreds of solves a trial.
scikit-learn solves them one by one: its shrunken LDA takes the cube of the width each
time, 0.05 s at 384 columns and 0.6 s at 1280, where one SVD of the few examples serves
every shrinkage here (13 ms for the whole cross-validation of MiniLM's features).
"""

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import ThreadpoolController

from fewshot_automl.adaptation.heads import (
    Head,
    KernelHead,
    LinearHead,
    Rows,
    Scaling,
    SparseRows,
    rbf,
    softmax,
    squared_distances,
    unit_rows,
)
from fewshot_automl.adaptation.logistic import fit_softmax_path
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

STRENGTHS: Final = (3e-6, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 4e-2)
"""Penalties tried; features have mean squared length 1 (see `Scaling`)."""
SHRINKAGES: Final = (0.02, 0.1, 0.3, 0.6, 0.9)
"""Shares of the spherical covariance tried in LDA."""
TEMPERATURES: Final = (1.0, 2.0, 5.0, 10.0)
"""Divisors of the LDA logits tried: with few examples its Gaussians are too sure."""
BANDWIDTHS: Final = (0.25, 1.0, 4.0)
"""RBF gammas tried, times the inverse median squared distance."""
RANK: Final = 128
"""Directions in which a mixture is fitted; beyond them features hardly differ."""
EM_STEPS: Final = 5
SOFTENED: Final = 2.0
"""Divisor of the logits that say how likely an unlabelled example is of a class."""
LEAST_SPHERE: Final = 0.1
"""Least share of all variance that is within classes; one example shows none."""
SAYS: Final = (1.0, 3.0)
"""Examples that the name of a class is worth, tried."""
MAX_INNER_FOLDS: Final = 5
MOST_SPANNED: Final = 512
"""Sparse examples in whose span a head is fitted, at a cost that rises with the cube;
of more, so many choose the strength."""
THREADED_FROM: Final = 256
"""Rows from which matrix products of the heads may use several threads. Below, the
threads of a BLAS cost more than they bring: alone about nothing, on a machine with
other work up to 15 times the whole fit."""

Labels = Int[np.ndarray, " examples"]

_thread_pools: Final = functools.cache(ThreadpoolController)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What a head is fitted to."""

    features: Rows
    """Scaled by `scaling`."""
    labels: Labels
    """Class indices; a class may be absent."""
    weights: Float[np.ndarray, " examples"]
    """How much each example counts; 1 on average."""
    classes: int
    """Number of classes."""
    scaling: Scaling
    """What the heads will scale features with."""
    unlabelled: Float[np.ndarray, "more width"] | None = None
    """Scaled features of examples that nobody has labelled."""
    basis: Float[np.ndarray, "width rank"] | None = None
    """Directions in which those differ most."""


def fit_class_head(
    features: Rows | SparseRows,
    labels: Labels,
    task: Task,
    config: Config,
    seed: int,
    **more: np.ndarray,
) -> Head:
    """Fit a head; its strength is the one with the least cross-validated log loss.

    More features may be known: of `names` of classes, each worth an example of it or
    some, and of `unlabelled` examples.

    Sparse features get a logistic one, in the span of the examples: it is the same in
    any rotation. Of many examples, some choose the strength for all.
    """
    if isinstance(features, np.ndarray):
        return _cross_validated(features, labels, task, config, seed, **more)[0]
    places = np.random.default_rng(seed).permutation(len(labels))[:MOST_SPANNED]
    places.sort()
    few = features[places]
    values, vectors = np.linalg.eigh((few @ few.T).toarray())
    keep = values > 1e-10 * values.max()
    span, root = vectors[:, keep], np.sqrt(values[keep])
    head, strength = _cross_validated(span * root, labels[places], task, config, seed)
    assert isinstance(head, LinearHead)
    scale = head.scaling.scale[0]  # of all columns
    weight = few.T @ (span / root @ head.weight) / scale
    bias = head.bias - head.scaling.center @ head.weight / scale
    if len(places) < len(labels):
        from sklearn.linear_model import LogisticRegression  # here, for a quick start

        known = np.unique(labels)
        # Of two classes scikit-learn has one logit, of twice the penalty.
        sides = np.array([-0.5, 0.5]) if len(known) == 2 else np.ones(1)
        penalty = strength * scale**2 * len(places)  # weights are as likely as there
        model = LogisticRegression(C=len(sides) / penalty, max_iter=500)
        with warnings.catch_warnings(action="ignore"):  # it may not converge
            model.fit(features, labels)
        weight, bias = np.zeros_like(weight), np.full_like(bias, -30.0)
        weight[:, known], bias[known] = model.coef_.T * sides, model.intercept_ * sides
    plain = np.ones(len(weight), dtype=np.float32)
    return LinearHead(
        scaling=Scaling(unit=True, center=0 * plain, scale=plain),
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def _cross_validated(
    features: Rows,
    labels: Labels,
    task: Task,
    config: Config,
    seed: int,
    names: Float[np.ndarray, "classes width"] | None = None,
    unlabelled: Float[np.ndarray, "more width"] | None = None,
) -> tuple[Head, Any]:
    """Return the head of the strength that cross-validates best, and the strength."""
    weighting = str(config.get("class_weights", "none"))
    weights = class_weights(labels, task.width, weighting)[labels]
    present, basis = np.unique(labels), None
    if unlabelled is not None:
        basis = _directions(unlabelled.astype(np.float32).tobytes(), len(unlabelled))

    def part(chosen: Bool[np.ndarray, " examples"], say: float) -> Labelled:
        rule = Scaling.fit(features[chosen], str(config.get("scaling", "unit")))
        rows, known, counts = features[chosen], labels[chosen], weights[chosen]
        rows = rule.apply(rows)
        if names is not None and say:  # of the classes that somebody has labelled
            named = rule.apply(names[present])
            rows = np.concatenate([rows, named - named.mean(axis=0)])
            known = np.concatenate([known, present])
            counts = np.concatenate([counts, np.full(len(present), say)])
        return Labelled(
            features=rows,
            labels=known,
            weights=counts,
            classes=task.width,
            scaling=rule,
            unlabelled=None if unlabelled is None else rule.apply(unlabelled),
            basis=basis,
        )

    says = SAYS if names is not None else (0.0,)
    grid, path = PATHS[str(config.get("head", "logistic"))]
    threads = 1 if len(labels) < THREADED_FROM else None
    with _thread_pools().limit(limits=threads, user_api="blas"):
        losses: list[Float[np.ndarray, " candidates"]] = []
        for held_out in inner_folds(labels, seed):
            # Held-out examples of a class that the inner training part lacks say
            # nothing about strength and do not count.
            known = np.bincount(labels[~held_out], minlength=task.width) > 0
            judged = held_out & known[labels]
            if judged.any() and known.sum() > 1:
                inner = [part(~held_out, say) for say in says]
                scaled = inner[0].scaling.apply(features[judged])
                heads = [head for each in inner for head in path(each, grid)]
                losses.append(_losses(heads, scaled, labels[judged], weights[judged]))
        best = int(np.argmin(np.sum(losses, axis=0))) if losses else len(grid) // 2
        say, strength = says[best // len(grid)], grid[best % len(grid)]
        (head,) = path(part(np.ones(len(labels), dtype=bool), say), [strength])
        return head, strength


def class_weights(
    labels: Labels, classes: int, rule: str
) -> Float[np.ndarray, " classes"]:
    """Return the weight of each class in the loss; 1 on average over examples.

    The rule is ``none`` or ``balanced`` (inverse frequency).

    Source:
        King and Zeng, Political Analysis 2001, sec. 4.2.

    >>> class_weights(np.array([0, 0, 0, 1]), 2, "balanced").round(3).tolist()
    [0.667, 2.0]
    """
    if rule == "none":
        return np.ones(classes)
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.zeros(classes)
    present = counts > 0
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


def _losses(
    heads: Sequence[Head],
    scaled: Rows,
    labels: Labels,
    weights: Float[np.ndarray, " examples"],
) -> Float[np.ndarray, " candidates"]:
    logits: list[np.ndarray] = []
    similarity: dict[float, np.ndarray] = {}
    for head in heads:
        if isinstance(head, KernelHead):
            if head.gamma not in similarity:
                similarity[head.gamma] = rbf(scaled, head.support, head.gamma)
            logits.append(similarity[head.gamma] @ head.coefficients + head.bias)
        else:
            assert isinstance(head, LinearHead)
            logits.append(scaled @ head.weight + head.bias)
    proba = softmax(np.stack(logits))[:, np.arange(len(labels)), labels]
    losses: np.ndarray = -(weights * np.log(np.maximum(proba, 1e-12))).sum(axis=1)
    return losses


def inner_folds(labels: Labels, seed: int) -> list[Bool[np.ndarray, " examples"]]:
    """Return masks of held-out examples: stratified, as many folds as classes allow."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels)
    folds = int(np.clip(np.median(counts[counts > 0]), 2, MAX_INNER_FOLDS))
    if len(labels) > 300:
        folds = min(folds, 3)
    assigned = np.empty(len(labels), dtype=np.int64)
    offset = 0
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        assigned[members] = (np.arange(len(members)) + offset) % folds
        offset += len(members)
    return [assigned == fold for fold in range(folds)]


def logistic_path(data: Labelled, strengths: Sequence[float]) -> list[Head]:
    """Return a logistic head for each strength."""
    solved = fit_softmax_path(
        data.features, data.labels, data.weights, data.classes, strengths
    )
    return [_linear(data, weight, bias) for weight, bias in solved]


def _linear(data: Labelled, weight: np.ndarray, bias: np.ndarray) -> LinearHead:
    return LinearHead(
        scaling=data.scaling,
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def lda_path(data: Labelled, grid: Sequence[tuple[float, float]]) -> list[Head]:
    """Return a linear discriminant for each shrinkage and temperature.

    Source:
        Friedman, JASA 1989, eq. 18: (1 - a) * covariance + a * mean variance * I.
    """
    features, labels, weights = data.features, data.labels, data.weights
    known = np.unique(labels)
    inside = [labels == label for label in known]
    means = np.stack(
        [np.average(features[one], axis=0, weights=weights[one]) for one in inside]
    )
    center = means.mean(axis=0)
    within = features - means[np.searchsorted(known, labels)]
    _, singular, rows = np.linalg.svd(
        np.sqrt(weights)[:, None] * within, full_matrices=False
    )
    variances = singular**2 / max(float(weights.sum()) - len(known), 1.0)
    sphere = max(float(variances.sum()) / features.shape[1], 1e-9)
    priors = np.bincount(labels, weights=weights, minlength=data.classes)
    priors = np.log(np.maximum(priors / priors.sum(), 1e-6))
    around = means - center
    turned = around @ rows.T
    heads: list[Head] = []
    for shrinkage, temperature in grid:
        outside = 1.0 / (shrinkage * sphere)
        scale = 1.0 / ((1 - shrinkage) * variances + shrinkage * sphere) - outside
        weight = (around * outside + (turned * scale) @ rows).T
        bias = priors[known] - 0.5 * (around * weight.T).sum(axis=1)
        heads.append(_cooled(data, known, center, weight, bias, temperature))
    return heads


def _cooled(
    data: Labelled,
    known: Labels,
    center: Float[np.ndarray, " width"],
    weight: Float[np.ndarray, "width known"],
    bias: Float[np.ndarray, " known"],
    temperature: float,
) -> LinearHead:
    """Return the head of logits of the known classes for features around a center."""
    weights = np.zeros((len(weight), data.classes))
    weights[:, known] = weight - weight.mean(axis=1, keepdims=True)
    # The known weights sum to 0, so the mean of their logits is that of their
    # biases; below it a class that nobody has seen wins nowhere.
    biases = np.full(data.classes, bias.mean() - 30.0 * temperature)
    biases[known] = bias - center @ weights[:, known]
    return _linear(data, weights / temperature, biases / temperature)


def mixture_path(data: Labelled, grid: Sequence[tuple[float, float]]) -> list[Head]:
    """Return, for each shrinkage and temperature, Gaussians that unlabelled rows move.

    A linear discriminant begins at the class means; then unlabelled examples count as
    much for a class as they are likely to be of it (EM). Its covariance is shared and
    shrunk as in `lda_path`. Classes are as frequent as in the labels.

    Source:
        Nigam et al., Machine Learning 2000, sec. 3 (EM with some labels).
    """
    assert data.unlabelled is not None
    assert data.basis is not None
    rows, basis = np.concatenate([data.features, data.unlabelled]), data.basis
    few, center, known = len(data.labels), rows.mean(axis=0), np.unique(data.labels)
    inside = (rows - center) @ basis
    share = np.zeros((len(rows), len(known)))
    share[np.arange(few), np.searchsorted(known, data.labels)] = data.weights
    priors = np.log(share.sum(axis=0) / share.sum())
    beginning = (inside[:few] * data.weights[:, None]).T @ inside[:few]
    scatters = beginning, beginning + inside[few:].T @ inside[few:]
    floor = LEAST_SPHERE * float(np.trace(scatters[1])) / len(rows) / len(center)
    unit = np.eye(basis.shape[1])
    heads: list[Head] = []
    for shrinkage, places in itertools.groupby(grid, key=lambda place: place[0]):
        share[few:] = 0.0
        for step in range(EM_STEPS + 1):
            sums = share.sum(axis=0)
            means = share.T @ inside / sums[:, None]
            within = scatters[step > 0] - (means.T * sums) @ means
            within /= max(float(sums.sum()) - len(known), 1.0)
            sphere = max(float(np.trace(within)) / len(center), floor)
            mixed = shrinkage if step else 1.0
            both = (1 - mixed) * within + mixed * sphere * unit
            weight = np.linalg.solve(both, means.T)
            bias = priors - 0.5 * (means.T * weight).sum(axis=0)
            share[few:] = softmax((inside[few:] @ weight + bias) / SOFTENED)
        whole = basis @ weight
        heads += [_cooled(data, known, center, whole, bias, t) for _, t in places]
    return heads


@functools.lru_cache(maxsize=4)
def _directions(unlabelled: bytes, rows: int) -> Float[np.ndarray, "width rank"]:
    """Return the principal directions of features; once for all folds of a trial."""
    features = unit_rows(np.frombuffer(unlabelled, np.float32).reshape(rows, -1))
    features -= features.mean(axis=0)
    _, vectors = np.linalg.eigh(features.T @ features)
    directions: np.ndarray = vectors[:, -RANK:]
    return directions


def rbf_path(data: Labelled, grid: Sequence[tuple[float, float]]) -> list[Head]:
    """Return a kernel logistic head for each bandwidth and strength.

    The Gram matrix is factored once a bandwidth, and the linear path is followed in
    the space it spans, which is kernel logistic regression exactly.
    """
    features = data.features
    distances = squared_distances(features, features)
    off_diagonal = distances[~np.eye(len(distances), dtype=bool)]
    median = max(float(np.median(off_diagonal)) if off_diagonal.size else 1.0, 1e-9)
    heads: list[Head] = []
    for bandwidth, places in itertools.groupby(grid, key=lambda place: place[0]):
        gamma = bandwidth / median
        values, vectors = np.linalg.eigh(rbf(features, features, gamma))
        keep = values > 1e-8 * values.max()
        root = np.sqrt(values[keep])
        back = vectors[:, keep] / root
        solved = fit_softmax_path(
            vectors[:, keep] * root,
            data.labels,
            data.weights,
            data.classes,
            [strength for _, strength in places],
        )
        heads.extend(
            KernelHead(
                scaling=data.scaling,
                support=features.astype(np.float32),
                coefficients=(back @ weight).astype(np.float32),
                bias=bias.astype(np.float32),
                gamma=gamma,
            )
            for weight, bias in solved
        )
    return heads


Path = Callable[[Labelled, Sequence[Any]], list[Head]]
"""Fits a head for each of some strengths."""
PATHS: Final[dict[str, tuple[Sequence[Any], Path]]] = {
    "logistic": (STRENGTHS, logistic_path),
    "lda": (tuple(itertools.product(SHRINKAGES, TEMPERATURES)), lda_path),
    "mixture": (tuple(itertools.product((0.6, 0.9), TEMPERATURES)), mixture_path),
    "rbf": (tuple(itertools.product(BANDWIDTHS, STRENGTHS)), rbf_path),
}
"""The strengths of each head, and what fits it; the middle one is taken where
cross-validation cannot choose."""

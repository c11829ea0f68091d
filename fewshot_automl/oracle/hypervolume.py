"""Pareto fronts: who is on them, what they dominate and what they leave free.

All values are oriented so that greater is better.
"""

import math

import numpy as np
from jaxtyping import Bool, Float64

MARGIN = 0.1
"""Share of the range by which a reference point lies beyond the worst of a front."""

Corner = tuple[float, ...]
Cell = tuple[Corner, Corner]


def nondominated(
    values: Float64[np.ndarray, "*batch points objectives"],
) -> Bool[np.ndarray, "*batch points"]:
    """Return which points no other point beats: as good everywhere, better somewhere.

    Points that agree in all objectives are all kept.

    >>> nondominated(np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]])).tolist()
    [True, True, False]
    """
    if values.shape[-1] == 2:
        return _nondominated_pairs(values)
    here, there = values[..., :, None, :], values[..., None, :, :]
    beaten = (there >= here).all(-1) & (there > here).any(-1)
    return np.asarray(~beaten.any(-1))


def _nondominated_pairs(
    values: Float64[np.ndarray, "*batch points two"],
) -> Bool[np.ndarray, "*batch points"]:
    """Return the same for two objectives, by sorting."""
    order = np.lexsort((-values[..., 1], -values[..., 0]), axis=-1)
    first, second = (np.take_along_axis(values[..., j], order, -1) for j in (0, 1))
    highest = np.maximum.accumulate(second, axis=-1)
    before = np.concatenate([np.full_like(second[..., :1], -np.inf), highest], -1)
    # A point is kept if it tops all before it, or repeats the last one that did.
    kept = second > before[..., :-1]
    place = np.maximum.accumulate(np.where(kept, np.arange(kept.shape[-1]), 0), -1)
    same = first == np.take_along_axis(first, place, -1)
    same &= second == np.take_along_axis(second, place, -1)
    mask = np.zeros_like(kept)
    np.put_along_axis(mask, order, kept | same, -1)
    return mask


def hypervolume(
    front: Float64[np.ndarray, "points objectives"],
    reference: Float64[np.ndarray, " objectives"],
) -> float:
    """Return the volume between a front and a reference point.

    Args:
        front: Points in any order; dominated ones and those that are not beyond the
            reference everywhere add nothing.
        reference: Where volume begins.

    Source:
        Zitzler and Thiele, PPSN 1998, for the measure.

    >>> hypervolume(np.array([[2.0, 1.0], [1.0, 2.0]]), np.zeros(2))
    3.0
    """
    beyond = front[(front > reference).all(axis=1)]
    return _volume(list(map(tuple, beyond.tolist())), tuple(reference.tolist()))


def _volume(points: list[Corner], reference: Corner) -> float:
    """Return the volume, slice by slice of the last objective from the top."""
    if not points:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in points) - reference[0]
    points = sorted(points, key=lambda point: -point[-1])
    floors = [point[-1] for point in points[1:]] + [reference[-1]]
    return sum(
        (point[-1] - floor)
        * _volume([other[:-1] for other in points[: i + 1]], reference[:-1])
        for i, (point, floor) in enumerate(zip(points, floors, strict=True))
        if point[-1] > floor
    )


def free_boxes(
    front: Float64[np.ndarray, "points objectives"],
    reference: Float64[np.ndarray, " objectives"],
) -> tuple[
    Float64[np.ndarray, "boxes objectives"], Float64[np.ndarray, "boxes objectives"]
]:
    """Return what lies beyond a reference point and is not dominated, as boxes.

    They are disjoint and fill it; a point improves the hypervolume by what it
    dominates of them.

    Args:
        front: Points in any order; dominated ones change nothing.
        reference: Where the region begins.

    Returns:
        Lower and upper corners; infinite where a box has no end. With two objectives
        there is one box more than points on the front, with three up to twice as many
        and one.

    Source:
        Yang et al., J. Global Optimization 2019, for the sweep and the number of
        boxes with three objectives.

    >>> lower, upper = free_boxes(np.array([[2.0, 1.0]]), np.zeros(2))
    >>> sorted(zip(lower.tolist(), upper.tolist()))
    [([0.0, 1.0], [inf, inf]), ([2.0, 0.0], [inf, 1.0])]
    """
    beyond = front[(front > reference).all(axis=1)]
    cells = _free(list(map(tuple, beyond.tolist())), tuple(reference.tolist()))
    corners = np.array(cells, dtype=np.float64)
    return corners[:, 0], corners[:, 1]


def _free(points: list[Corner], reference: Corner) -> list[Cell]:
    """Return the boxes of a region by a sweep down the last objective.

    Seen from one height, the region is that of all points above in the objectives
    but the last. A box of it stays open for as long as it is the same.
    """
    if len(reference) == 1:
        return [((max([reference[0], *(p[0] for p in points)]),), (math.inf,))]
    if len(reference) == 2:
        return _free_pairs(points, reference)
    floor = reference[-1]
    boxes: list[Cell] = []
    above: list[Corner] = []
    tops: dict[Cell, float] = dict.fromkeys(_free([], reference[:-1]), math.inf)
    for point in sorted(points, key=lambda point: -point[-1]):
        if any(_is_beaten(point, other) for other in above):
            continue
        above = [p for p in above if not _is_beaten(p, point)] + [point[:-1]]
        cells = dict.fromkeys(_free(above, reference[:-1]))
        for cell in [cell for cell in tops if cell not in cells]:
            boxes += _closed(cell, point[-1], tops.pop(cell))
        for cell in cells:
            tops.setdefault(cell, point[-1])
    for cell, top in tops.items():
        boxes += _closed(cell, floor, top)
    return boxes


def _free_pairs(points: list[Corner], reference: Corner) -> list[Cell]:
    """Return the boxes of a region of two objectives, as the sweep would."""
    best, floor = reference
    boxes: list[Cell] = []
    top = math.inf
    for first, second in sorted(points, key=lambda point: -point[1]):
        if first > best:
            if second < top:
                boxes.append(((best, second), (math.inf, top)))
            best, top = first, second
    return [*boxes, ((best, floor), (math.inf, top))]


def _closed(cell: Cell, bottom: float, top: float) -> list[Cell]:
    lower, upper = cell
    return [((*lower, bottom), (*upper, top))] if top > bottom else []


def _is_beaten(point: Corner, other: Corner) -> bool:
    """Return whether another is as good in the objectives that it has."""
    return all(a <= b for a, b in zip(point, other, strict=False))


def reference_point(
    values: Float64[np.ndarray, "points objectives"],
    is_quality: Bool[np.ndarray, " objectives"],
) -> Float64[np.ndarray, " objectives"]:
    """Return a point just worse than what is of interest.

    In an objective of quality that is the worst value on the front, less a tenth of
    the range of the front (at least a tenth of 1). In any other it is the worst value
    of all, less as much: a model larger than those on the front may still be the best
    one, and would never be tried if its size alone put it out of bounds.

    Args:
        values: At least one point, on scales where a common difference is about 1.
        is_quality: Which objectives are no costs.

    Source:
        Ishibuchi et al., GECCO 2011 and Evolutionary Computation 2018, for slightly
        worse than the nadir of the front and for the tenth, as in BoTorch's
        `infer_reference_point`.

    >>> values = np.array([[1.0, -2.0], [0.0, -1.0], [0.5, -3.0]])
    >>> reference_point(values, np.array([True, False])).tolist()
    [-0.1, -3.2]
    """
    front = values[nondominated(values)]
    worst = np.where(is_quality, front.min(axis=0), values.min(axis=0))
    return np.asarray(worst - MARGIN * np.maximum(front.max(axis=0) - worst, 1.0))

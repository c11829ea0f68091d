"""Judges predictions: folds, intervals, the luck of having picked the best."""

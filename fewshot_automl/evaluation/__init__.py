"""Judges predictions: folds, objectives, intervals, selection, calibration."""

"""A model over HTTP: answers in batches, within limits, with what to watch."""

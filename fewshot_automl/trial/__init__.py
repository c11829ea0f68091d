"""The meaning of a Config: the only door from the search to the models."""

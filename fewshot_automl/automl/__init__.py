"""The hinge: examples and a budget in, a Result out."""

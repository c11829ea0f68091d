"""A finished model in other runtimes: written, run there, and proven equal."""

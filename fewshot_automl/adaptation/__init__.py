"""TODO adaptation."""

"""The HTML report of a finished study, and its words."""

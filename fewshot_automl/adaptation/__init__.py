"""Ways to adapt a backbone: what is trainable, and which head stands on it."""

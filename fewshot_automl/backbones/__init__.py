"""Pretrained encoders behind one interface, their cards and their weights."""

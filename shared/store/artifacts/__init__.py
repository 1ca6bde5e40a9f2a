"""Immutable objects under keys, what they are called, and the records that are made of them."""

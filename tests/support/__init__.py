"""Builders, fakes and waiting shared by tests."""

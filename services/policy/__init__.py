"""Generates responses under exactly the weight version that the work names."""

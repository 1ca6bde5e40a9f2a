"""Artifacts and weights in an object store. Imported only where a system is told of one."""

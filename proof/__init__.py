"""What the project claims, measured: runs that take minutes, each with its exact value beside it."""

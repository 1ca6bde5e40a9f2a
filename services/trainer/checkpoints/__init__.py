"""What a half-step picks up after a crash, by one process or by many. Nothing here decides what is trained."""

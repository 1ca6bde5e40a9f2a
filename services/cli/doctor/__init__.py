"""What this machine has of what INPO needs, and how to get what it lacks."""

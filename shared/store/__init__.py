"""The only door to Redis (`queue`) and the only door to the artifacts (`artifacts`, `tables`, `weights`)."""

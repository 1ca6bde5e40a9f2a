"""Open comparisons that pull judges claim, and the shared budget of requests: on Redis and in memory."""

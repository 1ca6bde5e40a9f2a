"""Work items: what the queue promises, on Redis Streams, and its twin in memory."""

"""A shard's rollouts become judgments and pairs: which questions are asked, and what follows from the answers."""

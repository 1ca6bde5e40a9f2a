"""The worker loop of all services, and the heartbeat beside it. No handler."""

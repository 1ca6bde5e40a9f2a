"""An HTTP service: application, boundary, keys, problem+json, description. No route of any service."""

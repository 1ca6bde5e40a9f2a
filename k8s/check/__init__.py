"""`make k8s-check`: every preset and random combinations of values, rendered and checked without a cluster."""

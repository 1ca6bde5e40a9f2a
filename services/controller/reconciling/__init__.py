"""What should happen next, and doing it: observe, decide, perform. Only the decision is pure."""

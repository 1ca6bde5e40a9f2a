"""The experiments of docs/proof.md, each in a file of its own, in the order of the page."""

"""Where judges that fetch their questions are served: the board of comparisons and its routes."""

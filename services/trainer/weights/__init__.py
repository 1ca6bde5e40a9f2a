"""Weight versions as models: loaded, imported and published. Nothing here changes a weight."""

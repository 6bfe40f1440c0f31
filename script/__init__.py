"""Programs around the methods; each runs as a module from the repository's folder."""

"""The rungs of the ladder, each a function from a reference and what is known of a file to a `Rung`."""

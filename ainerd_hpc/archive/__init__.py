"""Products on disk: where they lie, how they are written and read, and what is done."""

"""YAML and JSON that people write, read strictly: nothing means something else than it seems to."""

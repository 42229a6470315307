"""Components by name, with their options: found, bound and described."""

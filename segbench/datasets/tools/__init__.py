"""What datasets share: reading files, hashing them, drawing scenes, checking samples."""

"""Process, disk and terminal."""

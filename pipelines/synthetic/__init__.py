"""A small audio-visual world that is made, not found, and the server that gives its videos."""

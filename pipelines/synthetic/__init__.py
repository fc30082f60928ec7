"""Small synthetic audio-visual dataset, and the server of its videos."""

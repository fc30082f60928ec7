"""The only folder that opens media: ffmpeg, PyAV, decord, librosa and soundfile have no other door."""

"""Media input and output; only this package imports ffmpeg, PyAV, decord, librosa and soundfile."""

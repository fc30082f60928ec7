"""Methods, one module each: `Settings` and `build(settings, *, video, audio, data)`, which returns an `interface.Method`."""

"""Ways to learn, one file each: `Settings` and `build(settings, *, video, audio, data)`, which returns an `interface.Method`."""

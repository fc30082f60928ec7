"""Views: preprocessing and augmentation of the encoders' inputs; each module is an `interface.View`."""

"""What ks-eval does with a run's encoders: features for the probes, fine-tuning, Grad-CAM, folders of sounds."""

"""Programs that look at torch and at ranks; ks-doctor runs them in processes apart."""

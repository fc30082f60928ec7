"""What happens to a clip, one file a stage; a stage knows no other."""

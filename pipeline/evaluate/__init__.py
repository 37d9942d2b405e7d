"""A trained network in, exact error counts and saved predictions out."""

"""The scripts' callers: claims and settlements."""

"""Set-up, checks and the demo of this checkout; not part of the package."""

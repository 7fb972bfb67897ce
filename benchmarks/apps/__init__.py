"""The programs and jobs of the peers."""

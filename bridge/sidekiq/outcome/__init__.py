"""What becomes of a job after its run: done, retry, dead."""

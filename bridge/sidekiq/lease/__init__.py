"""The lease: renewal, the keeper process, the reaper of orphaned jobs."""

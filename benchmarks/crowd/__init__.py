"""Many workers in one process, as Redis sees them: the commands are real, the jobs take no time."""

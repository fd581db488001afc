"""Who works at a study: processes, their leases on trials, and what is counted."""

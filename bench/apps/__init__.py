"""Functions apps to measure beside ours."""

"""The program inside every workload: ``python -m bottega.launch JOB_FILE``.

It fetches the inputs, runs the user's process, watches it, stores the outputs and says how it ended. It lives
on when the platform goes away and finishes its work when the platform is back. To be small and quick to start
it imports nothing of the platform but this package.
"""

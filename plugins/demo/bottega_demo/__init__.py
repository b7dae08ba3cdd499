"""The main job, end to end, as a user of the platform does it: over HTTP, with nothing but credentials."""

"""What turns a request body into a model's answer; runs in data planes and model workers, never in the platform."""

"""Live connections to the next process: by upgrade, restart or crash."""

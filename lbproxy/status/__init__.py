"""What it shows of itself, and how it is asked."""

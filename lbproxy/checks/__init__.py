"""Is a server well, and where is it: names looked up, questions asked."""

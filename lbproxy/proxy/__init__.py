"""One proxy at work: clients from accept to close."""

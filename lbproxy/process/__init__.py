"""The process around it all."""

"""Who gets a connection. Pure: no clock, no socket, no log; time comes in as an argument."""
